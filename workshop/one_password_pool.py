"""A pool as one usually makes it: it is told the user and the password as it is made, and never again.

    python workshop/one_password_pool.py [SECONDS]

Lab 5 shows what becomes of it, and asks for a better one.
"""

from __future__ import annotations

import logging
import sys

from psycopg_pool import ConnectionPool

from config_loader import VaultConfig
from vault_client import VaultClient
from workshop.load import load


def main(seconds: float) -> None:
    # The pool warns of each connection that is refused; here the counting tells enough.
    logging.getLogger("psycopg.pool").setLevel(logging.CRITICAL)
    with VaultClient(VaultConfig.load()) as vault:
        vault.keep_alive()
        login = vault.get_database_dynamic_secret("db-demo-dynamic").data
        who = {"user": login["username"], "password": login["password"]}
        with ConnectionPool(kwargs=who, min_size=2, max_size=4, timeout=1.0) as pool:
            load(pool, seconds)


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 35.0)
