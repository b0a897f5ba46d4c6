"""A psycopg_pool.AsyncConnectionPool that follows the credentials that Vault gives: dynamic ones and rotated ones.

When to use it: in a program of coroutines that talks to PostgreSQL through psycopg 3. In one of threads, see
`vault_pool`. Needs `rotation`, which decides what both do, and `async_vault` beside it.

    get = partial(client.get_database_dynamic_secret, "db-demo-dynamic")
    async with AsyncVaultPool(client, get, "host=db.example.com dbname=shop", min_size=4) as pool:
        async with pool.connection() as connection:
            await connection.execute("SELECT current_user")

Without it: connections outlive their credentials, until Vault drops the user in the middle of a query; new ones are
refused after a rotation; and asking Vault for others stops the loop. Here Vault is asked in threads, and the loop opens
the connections: no query waits for either unless the pool is empty.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import ContextVar
from functools import partial
from typing import Any

from psycopg import AsyncConnection
from psycopg.rows import TupleRow
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from vault_client import VaultClient
from vaultkit.fork import start_anew_in_children
from vaultkit.secret import Secret

from .async_vault import in_thread, to_its_end
from .rotation import Rotation

CYCLE_TIMEOUT_SECONDS, LONGEST_CYCLE_SECONDS = 0.1, 10.0
RECONNECT_SECONDS = 5.0
"""How long the pool tries by itself; then it tries again when somebody asks."""
CLOSE_SECONDS = 2.0
"""With a second for the keeper and two for the client, all has ended within five (X1)."""

_refused_one: ContextVar[bool] = ContextVar("refused_one")
"""Whether this call of `getconn` was refused a connection already."""


class VaultAsyncConnection(AsyncConnection[TupleRow]):
    """A connection that asks for its user and password as it connects."""

    @classmethod
    async def connect(cls, conninfo: str = "", *, rotation: Rotation, **options: Any) -> VaultAsyncConnection:  # type: ignore[override]
        open_it, loop = super().connect, asyncio.get_running_loop()

        def open_with(secret: Secret) -> VaultAsyncConnection:
            """In a thread, that waits for the loop."""
            who = {"user": secret.data["username"], "password": secret.data["password"]}
            return asyncio.run_coroutine_threadsafe(open_it(conninfo, **who, **options), loop).result()

        return await in_thread(partial(rotation.connect, open_with))


class OutdatedCredentials(Exception):
    """This connection was opened under credentials that are no longer the current ones."""


class AsyncVaultPool(AsyncConnectionPool[VaultAsyncConnection]):
    """`conninfo` says where the database is, but not who we are. Opened by `async with`, or by `open` and `close`.

    `options` are those of AsyncConnectionPool, but for `connection_class`, `check` and `open`. A pool belongs to one
    event loop: in the child of a fork it is not open, and the child makes one of its own.
    """

    def __init__(
        self, vault: VaultClient, credentials: Callable[[], Secret], conninfo: str = "", **options: Any
    ) -> None:
        self._rotation = Rotation(
            vault,
            credentials,
            cycle=self._cycle,
            empty=self._set_up,
            close=lambda connection: connection.pgconn.finish(),
        )
        kwargs = {**options.pop("kwargs", {}), "rotation": self._rotation}
        self._options = {"conninfo": conninfo, "reconnect_timeout": RECONNECT_SECONDS, **options, "kwargs": kwargs}
        self._set_up()
        start_anew_in_children(self._rotation)

    def _set_up(self) -> None:
        super().__init__(
            connection_class=VaultAsyncConnection, check=self._check_credentials, open=False, **self._options
        )

    async def open(self, wait: bool = False, timeout: float = 30.0) -> None:
        self._loop = asyncio.get_running_loop()
        self._rotation.start()
        await super().open(wait, timeout)

    async def close(self, timeout: float = CLOSE_SECONDS) -> None:
        await in_thread(self._rotation.stop)  # the keeper may be waiting for this loop
        await super().close(timeout)

    async def getconn(self, timeout: float | None = None) -> VaultAsyncConnection:
        _refused_one.set(False)
        return await super().getconn(timeout)

    async def putconn(self, conn: VaultAsyncConnection) -> None:
        """Give a connection back, also if the task is cancelled at that very moment: the pool would forget it."""
        await to_its_end(super().putconn(conn))

    async def reconnect_failed(self) -> None:
        """As that of VaultPool: whoever waits already is not left to wait in vain."""
        await super().reconnect_failed()
        if self.get_stats()["requests_waiting"] and not self.closed:
            await self.check()

    # ── Following the credentials ────────────────────────────────────────────────────────────────────────────────────

    async def _check_credentials(self, connection: VaultAsyncConnection) -> None:
        """As a connection is taken out of the pool. What is closed here, the pool replaces.

        No second one in a call, unless its time is up: for that the pool makes the caller wait a second.
        """
        if self._rotation.must_go(connection, patient=_refused_one.get()):
            _refused_one.set(True)
            await connection.close()
            raise OutdatedCredentials

    def _cycle(self) -> None:
        """In the keeper's thread, which waits for the loop."""
        # Not for ever: what a loop that ends has not begun, it never does.
        asyncio.run_coroutine_threadsafe(self._look_at_idle(), self._loop).result(LONGEST_CYCLE_SECONDS)

    async def _look_at_idle(self) -> None:
        for _ in range(self.get_stats()["pool_available"]):
            try:
                await self.putconn(await self.getconn(CYCLE_TIMEOUT_SECONDS))
            except PoolTimeout:  # all are in use, and looked at as they come back
                return
