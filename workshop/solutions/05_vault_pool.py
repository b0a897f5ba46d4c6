"""Lab 5's exercise: the pool of `workshop/one_password_pool.py` as a VaultPool, which follows the credentials.

python workshop/solutions/05_vault_pool.py [SECONDS]
"""

from __future__ import annotations

import sys
from functools import partial

from config_loader import VaultConfig
from recipes.vault_pool import VaultPool
from vault_client import VaultClient
from workshop.load import load


def main(seconds: float, *, static: bool) -> None:
    with VaultClient(VaultConfig.load()) as vault:
        vault.keep_alive()
        # Not the credentials, but how to ask for them: the pool does, whenever it opens a connection.
        credentials = (
            partial(vault.get_database_static_secret, "db-demo-static")
            if static
            else partial(vault.get_database_dynamic_secret, "db-demo-dynamic")
        )
        with VaultPool(vault, credentials, min_size=2, max_size=4) as pool:
            load(pool, seconds)


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 35.0, static="static" in sys.argv)
