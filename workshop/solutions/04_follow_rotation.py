"""Lab 4's exercise: logs in to the database every half second, and gets over a rotation that nobody told it of.

python workshop/solutions/04_follow_rotation.py [SECONDS]
"""

from __future__ import annotations

import sys
import time

import psycopg

from config_loader import VaultConfig
from vault_client import VaultClient
from vaultkit.secret import Secret

PAUSE_SECONDS = 0.5


def main(seconds: float) -> None:
    logins, ends = 0, time.monotonic() + seconds
    with VaultClient(VaultConfig.load()) as vault:
        vault.keep_alive()
        while time.monotonic() < ends:
            login = vault.get_database_static_secret("db-demo-static")
            try:
                connect(login)
            except psycopg.OperationalError:
                # What is cached is not what the database wants: Vault is asked at once, before the cached time is over.
                connect(vault.get_instead_of(login))
                print("the password was refused, and the one that Vault has now is taken", flush=True)
            logins += 1
            if logins == 1:
                print("the first login", flush=True)
            time.sleep(PAUSE_SECONDS)
    print("no login was lost")


def connect(login: Secret) -> None:
    psycopg.connect(user=login.data["username"], password=login.data["password"]).close()


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 15.0)
