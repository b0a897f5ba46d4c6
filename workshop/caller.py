"""What a caller sees: a line for each of three secrets, and another whenever it sees something else. Ctrl+C ends it.

python -m workshop.caller
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress

from config_loader import VaultConfig
from vault_client import VaultClient
from vaultkit.errors import VaultError
from vaultkit.secret import Secret

LOOK_SECONDS = 0.2


def main() -> None:
    with VaultClient(VaultConfig.load()) as vault:
        vault.keep_alive()
        reads: dict[str, Callable[[], Secret]] = {
            "KV": lambda: vault.get_kv_secret("database"),
            "dynamic": lambda: vault.get_database_dynamic_secret("db-demo-dynamic"),
            "static": lambda: vault.get_database_static_secret("db-demo-static"),
        }
        told: dict[str, str] = {}
        while True:
            for name, read in reads.items():
                words = what_comes_of(read)
                if told.get(name) != words:
                    print(time.strftime("%H:%M:%S"), f"{name} now:" if name in told else f"{name}:", words, flush=True)
                    told[name] = words
            time.sleep(LOOK_SECONDS)


def what_comes_of(read: Callable[[], Secret]) -> str:
    """Whether a value came, and how old it may be; or the kind of error, which is what a program decides by."""
    try:
        return "a value, stale" if read().stale else "a value, fresh"
    except VaultError as error:
        return f"no value: {type(error).__name__}"


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        main()
