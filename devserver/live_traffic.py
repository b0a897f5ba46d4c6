"""python -m devserver.live_traffic: the application of the live page, with a database pool under a trickle of queries.

Two threads ask the database a few times a second, through a pool that follows the dynamic credentials. Each time these
are replaced, the pool's connections are: one sees two generations of them, and no query is lost.
"""

from __future__ import annotations

import signal

if __name__ == "__main__":  # Skip this: it keeps a Ctrl+C during the imports from showing a traceback.
    signal.signal(signal.SIGINT, signal.SIG_DFL)

import logging
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

import psycopg
from psycopg_pool import PoolTimeout

from config_loader import VaultConfig
from live.application import main
from live.feed import PoolFacts
from recipes.vault_pool import VaultConnection, VaultPool
from vault_client import VaultClient
from vaultkit.errors import VaultError

ENGINE = "database_dynamic"
CONNECTIONS = 4
THREADS = 2
LIFETIME_SECONDS = 6.0
"""How old a connection becomes: short, for the pool to notice soon that its user is gone."""
PAUSE_SECONDS = 0.5
PATIENCE_SECONDS = 5.0
"""How long a query waits for a connection."""
QUERY = "SELECT pg_sleep(0.1)"
"""Long enough to be seen, now and then."""
END_SECONDS = 1.0


class Traffic:
    """A pool, its queries, and figures of both. With `show`, the users are told by their names, which are secret."""

    def __init__(self, vault: VaultClient, role: str, *, show: bool) -> None:
        self._vault, self._role, self._show = vault, role, show
        self._pool = VaultPool(
            vault,
            partial(vault.get_database_dynamic_secret, role),
            min_size=CONNECTIONS,
            timeout=PATIENCE_SECONDS,
            max_lifetime=LIFETIME_SECONDS,
            configure=self._opened_one,
        )
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._keep_asking, name=f"query-{number}", daemon=True)
            for number in range(1, THREADS + 1)
        ]
        self._lock = threading.Lock()  # held to change any of these, never during a query
        self._opened: WeakKeyDictionary[VaultConnection, str] = WeakKeyDictionary()
        self._busy: set[VaultConnection] = set()
        self._numbers: dict[str, int] = {}
        """Of the users that there are, in the order in which they came."""
        self._last_number = self._queries = self._lost = 0

    @contextmanager
    def running(self) -> Iterator[PoolFacts]:
        self._pool.open()
        for thread in self._threads:
            thread.start()
        try:
            yield self.facts
        finally:
            self._stop.set()
            self._pool.close(END_SECONDS)

    def _opened_one(self, connection: VaultConnection) -> None:
        """Called by the pool with each connection that it opens."""
        user = connection.info.user
        with self._lock:
            self._opened[connection] = user
            if user not in self._numbers:
                self._last_number += 1
                self._numbers[user] = self._last_number

    def _keep_asking(self) -> None:
        while not self._stop.wait(PAUSE_SECONDS):
            lost = not self._ask()
            with self._lock:
                self._queries += 1
                self._lost += lost

    def _ask(self) -> bool:
        """Make a query; whether it was answered."""
        try:
            with self._pool.connection() as connection, self._marked(connection):
                connection.execute(QUERY)
        except (psycopg.Error, PoolTimeout, VaultError):
            return False
        return True

    @contextmanager
    def _marked(self, connection: VaultConnection) -> Iterator[None]:
        with self._lock:
            self._busy.add(connection)
        try:
            yield
        finally:
            with self._lock:
                self._busy.discard(connection)

    def facts(self) -> Mapping[str, Any]:
        """The connections by the user that they were opened as, the oldest first."""
        current = self._vault.peek(self._role, ENGINE)
        name = None if current is None else current.data.get("username")
        with self._lock:
            opened = [(connection, user) for connection, user in self._opened.items() if not connection.closed]
            used = {user for _, user in opened} | {name}
            self._numbers = {user: number for user, number in self._numbers.items() if user in used}
            generations = [
                {
                    "user": user if self._show else f"user {number}",
                    "connections": sum(its == user for _, its in opened),
                    "busy": sum(its == user for connection, its in opened if connection in self._busy),
                    "current": user == name,
                }
                for user, number in self._numbers.items()
            ]
            return {"generations": generations, "queries": self._queries, "lost": self._lost}


@contextmanager
def beside(vault: VaultClient, config: VaultConfig) -> Iterator[PoolFacts]:
    """What runs beside the application."""
    logging.getLogger("psycopg.pool").setLevel(logging.ERROR)  # its warnings name the user (P1)
    role = config.database_dynamic.names[0]
    with Traffic(vault, role, show=config.console.show_secrets).running() as facts:
        yield facts


if __name__ == "__main__":
    sys.exit(main(beside))
