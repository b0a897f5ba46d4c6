"""A psycopg_pool.ConnectionPool that follows the credentials that Vault gives: dynamic ones and rotated ones.

When to use it: in a program of threads that talks to PostgreSQL through psycopg 3 itself. With an ORM, see
`vault_engine`. Both need `rotation` beside them.

    get = partial(vault.get_database_dynamic_secret, "db-demo-dynamic")
    with VaultPool(vault, get, "host=db.example.com dbname=shop", min_size=4) as pool:
        with pool.connection() as connection:
            connection.execute("SELECT current_user")

Connections are opened by the pool's own threads: no query waits for one unless the pool is empty.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from psycopg import Connection
from psycopg.rows import TupleRow
from psycopg_pool import ConnectionPool, PoolTimeout

from vault_client import VaultClient
from vaultkit.fork import start_anew_in_children
from vaultkit.secret import Secret

from .rotation import Rotation

CYCLE_TIMEOUT_SECONDS = 0.1
RECONNECT_SECONDS = 5.0
"""How long the pool tries by itself, at doubling pauses; then it tries again when somebody asks. After its own default
of five minutes it would notice the end of an outage minutes late."""


class VaultConnection(Connection[TupleRow]):
    """A connection that asks for its user and password as it connects."""

    @classmethod
    def connect(cls, conninfo: str = "", *, rotation: Rotation, **options: Any) -> VaultConnection:  # type: ignore[override]
        open_with = super().connect
        return rotation.connect(
            lambda secret: open_with(
                conninfo, user=secret.data["username"], password=secret.data["password"], **options
            )
        )


class OutdatedCredentials(Exception):
    """This connection was opened under credentials that are no longer the current ones."""


class VaultPool(ConnectionPool[VaultConnection]):
    """`conninfo` says where the database is, but not who we are. Opened by `with`, or by `open` and `close`.

    `options` are those of ConnectionPool, but for `connection_class`, `check` and `open`.
    """

    def __init__(
        self, vault: VaultClient, credentials: Callable[[], Secret], conninfo: str = "", **options: Any
    ) -> None:
        self._rotation = Rotation(vault, credentials, cycle=self._cycle, empty=self._empty)
        self._this_call = threading.local()
        kwargs = {**options.pop("kwargs", {}), "rotation": self._rotation}
        self._options = {"conninfo": conninfo, "reconnect_timeout": RECONNECT_SECONDS, **options, "kwargs": kwargs}
        self._opens_when_used = False
        self._set_up()
        start_anew_in_children(self._rotation)

    def _set_up(self, **changed: Any) -> None:
        super().__init__(
            connection_class=VaultConnection,
            check=self._check_credentials,
            open=False,
            **{**self._options, **changed},
        )

    def open(self, wait: bool = False, timeout: float = 30.0) -> None:
        self._rotation.start()
        super().open(wait, timeout)
        self._opens_when_used = False

    def close(self, timeout: float = 5.0) -> None:
        self._opens_when_used = False
        self._rotation.stop()
        super().close(timeout)

    def getconn(self, timeout: float | None = None) -> VaultConnection:
        self._open_in_child()
        self._this_call.refused_one = False
        return super().getconn(timeout)

    def putconn(self, conn: VaultConnection) -> None:
        if not self._rotation.is_inherited(conn):
            super().putconn(conn)

    def wait(self, timeout: float = 30.0) -> None:
        self._open_in_child()
        super().wait(timeout)

    def check(self) -> None:
        self._open_in_child()
        super().check()

    def reconnect_failed(self) -> None:
        """Told that the pool gives up until somebody asks. Whoever waits has asked: for them it tries on."""
        super().reconnect_failed()
        if self.get_stats()["requests_waiting"] and not self.closed:
            super().check()

    # ── In the child of a fork ───────────────────────────────────────────────────────────────────────────────────────

    def _empty(self) -> None:
        """Opened in the parent, it is opened here by the first who uses it: many a child never does."""
        self._opens_when_used = self._opens_when_used or not self.closed
        self._set_up(name=self.name, min_size=self.min_size, max_size=self.max_size)

    def _open_in_child(self) -> None:
        if self._opens_when_used:
            self.open()

    # ── Following the credentials ────────────────────────────────────────────────────────────────────────────────────

    def _check_credentials(self, connection: VaultConnection) -> None:
        """As a connection is taken out of the pool. What is closed here, the pool replaces.

        No second one in a call, unless its time is up: for that the pool makes the caller wait a second.
        """
        if self._rotation.must_go(connection, patient=self._this_call.refused_one):
            self._this_call.refused_one = True
            connection.close()
            raise OutdatedCredentials

    def _cycle(self) -> None:
        for _ in range(self.get_stats()["pool_available"]):
            try:
                self.putconn(self.getconn(CYCLE_TIMEOUT_SECONDS))
            except PoolTimeout:  # all are in use, and looked at as they come back
                return
