"""Reads one secret a hundred thousand times: `python workshop/asked.py kv` says how often Vault was asked."""

from __future__ import annotations

import time

from config_loader import VaultConfig
from vault_client import VaultClient

READS = 100_000


def main() -> None:
    with VaultClient(VaultConfig.load()) as vault:
        started = time.monotonic()
        for _ in range(READS):
            secret = vault.get_kv_secret("database")
        print(f"{READS:,} reads of version {secret.version} in {time.monotonic() - started:.2f} s")


if __name__ == "__main__":
    main()
