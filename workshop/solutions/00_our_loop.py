"""Lab 0's exercise: the loop of `workshop/plain_loop.py` with our client, for 45 s, and nothing is refused.

python workshop/solutions/00_our_loop.py [SECONDS]
"""

from __future__ import annotations

import sys
import time

import psycopg

from config_loader import VaultConfig
from vault_client import VaultClient
from vaultkit.secret import Secret

PAUSE_SECONDS = 2.0


def main(seconds: float) -> None:
    started = time.monotonic()
    with VaultClient(VaultConfig.load()) as vault:
        vault.keep_alive()
        while (now := time.monotonic() - started) < seconds:
            # Asked for each time: what is kept in a variable is what grows old.
            version = vault.get_kv_secret("database").version
            connect(vault, vault.get_database_dynamic_secret("db-demo-dynamic"))
            connect(vault, vault.get_database_static_secret("db-demo-static"))
            print(f"{now:3.0f} s  KV version {version}, dynamic user let in, static user let in", flush=True)
            time.sleep(PAUSE_SECONDS)
    print("all of it works")


def connect(vault: VaultClient, login: Secret) -> None:
    """Log in to the database; if it refuses, the password has rotated a moment ago, and Vault has another."""
    try:
        psycopg.connect(user=login.data["username"], password=login.data["password"]).close()
    except psycopg.OperationalError:
        login = vault.get_instead_of(login)
        psycopg.connect(user=login.data["username"], password=login.data["password"]).close()


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 45.0)
