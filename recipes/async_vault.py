"""The client for an event loop: what is fresh comes at once, all else from a thread, and the loop goes on meanwhile.

When to use it: wherever secrets are awaited, in asyncio alone (`asyncio_program`) or in FastAPI (`fastapi_app`). For a
database pool on the same loop, see `async_pool`.

    async with AsyncVault(VaultClient(VaultConfig.load())) as vault:
        secret = await vault.get_kv_secret("database")

Without it: a request to Vault from a coroutine stops every other one on the loop until Vault has answered, for half a
minute if Vault hangs. `asyncio.to_thread` alone is not enough either: its few threads also look up the addresses of
whatever the program connects to, which then waits for Vault, and so does the end of the program.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from functools import partial
from types import TracebackType
from typing import Any, TypeVar

import hvac

from vault_client import VaultClient
from vaultkit.secret import Secret
from vaultkit.shield import shielded

MOST_THREADS = 16
"""So many requests may be under way; while Vault hangs and nothing is cached, those that come wait without a thread."""

T = TypeVar("T")


class AsyncVault:
    """A `VaultClient` whose secrets are awaited. Closed, with its client, at the end of `async with`.

    It belongs to one event loop. In the child of a fork, make another one around the same client, which starts anew.
    """

    def __init__(self, client: VaultClient) -> None:
        self.client = client
        self._turns = asyncio.Semaphore(MOST_THREADS)

    async def get_kv_secret(self, path: str) -> Secret:
        """The current version of a KV v2 secret. Raises: an error of `vaultkit.errors`, as all that follow do."""
        return await self._get(self.client.get_kv_secret, path, "kv_secret")

    async def get_database_dynamic_secret(self, role: str) -> Secret:
        """A username and password that Vault made for us."""
        return await self._get(self.client.get_database_dynamic_secret, role, "database_dynamic")

    async def get_database_static_secret(self, role: str) -> Secret:
        """The current password of a database user that Vault rotates."""
        return await self._get(self.client.get_database_static_secret, role, "database_static")

    async def _get(self, get: Callable[[str], Secret], name: str, engine: str) -> Secret:
        cached = self.client.peek(name, engine)
        return cached if cached is not None else await self.in_thread(partial(get, name))

    async def ask(self, request: Callable[[hvac.Client], Any]) -> Any:
        """Make any request with a valid token; what it returns."""
        return await self.in_thread(partial(self.client.ask, request))

    async def in_thread(self, ask: Callable[[], T]) -> T:
        """What this call of the client returns.

        Whoever is cancelled meanwhile leaves, and the request goes on: its place is free when it has ended, not before.
        """

        async def in_turn() -> T:
            async with self._turns:
                return await in_thread(ask)

        return await to_its_end(in_turn())

    async def __aenter__(self) -> AsyncVault:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await in_thread(self.client.close)


async def to_its_end(work: Coroutine[Any, Any, T]) -> T:
    """What this coroutine returns. Whoever is cancelled meanwhile leaves, and it goes on."""
    task = asyncio.ensure_future(work)
    # Looked at in any case: of an error that nobody waits for any more, asyncio would log the traceback.
    task.add_done_callback(lambda done: done.cancelled() or done.exception())
    return await asyncio.shield(task)


async def in_thread(call: Callable[[], T]) -> T:
    """What this call returns, made in a thread of its own: a daemon, for whose end no program waits (X1)."""
    outcome: Future[T] = Future()
    outcome.set_running_or_notify_cancel()  # from now on it cannot be cancelled, and the thread may set it
    run = partial(shielded, lambda: outcome.set_result(call()), outcome.set_exception)
    threading.Thread(target=run, name="vault-request", daemon=True).start()
    return await asyncio.wrap_future(outcome)
