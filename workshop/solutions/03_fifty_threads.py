"""Lab 3's exercise: fifty threads ask for dynamic credentials at once, and share one database user.

python workshop/solutions/03_fifty_threads.py
"""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

from config_loader import VaultConfig
from vault_client import VaultClient

THREADS = 50


def main() -> None:
    everybody_is_there = threading.Barrier(THREADS)

    def user(_: int) -> str:
        everybody_is_there.wait()
        return str(vault.get_database_dynamic_secret("db-demo-dynamic").data["username"])

    with VaultClient(VaultConfig.load()) as vault, ThreadPoolExecutor(THREADS) as threads:
        users = list(threads.map(user, range(THREADS)))
    print(f"{len(users)} threads, {len(set(users))} user")


if __name__ == "__main__":
    main()
