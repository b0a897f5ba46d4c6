"""Threads for what blocks: so many at work, so many waiting, and whoever comes then is told so at once."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextvars import copy_context
from functools import partial
from typing import Any, TypeVar

from vaultkit.errors import ClientClosed, VaultUnavailable
from vaultkit.shield import shielded

T = TypeVar("T")


class Busy(VaultUnavailable):
    """As many requests to Vault are under way and waiting as may be."""


class Threads:
    """Runs calls in threads, for one event loop. Several managers may share it.

    Whoever is cancelled leaves, and the call goes on: its place is free when it has ended, not before. The threads are
    daemons: a Vault that hangs holds up no exit.
    """

    def __init__(self, at_work: int = 16, queue: int = 64) -> None:
        self._most = at_work + queue
        self._turns = asyncio.Semaphore(at_work)
        self._tasks: set[asyncio.Task[Any]] = set()
        self._closed = False

    @property
    def under_way(self) -> int:
        """How many calls are at work or waiting."""
        return len(self._tasks)

    async def run(self, call: Callable[[], T], *, ended: Callable[[], object] | None = None) -> T:
        """What this call returns or raises. Raises: Busy, ClientClosed.

        `ended` is called on the loop when the call has ended, whoever was cancelled, and before anybody hears of it.
        """
        if self._closed:
            raise ClientClosed("this VaultManager is closed")
        if len(self._tasks) >= self._most:
            raise Busy(f"{self._most} requests to Vault are under way or waiting already")
        task = asyncio.ensure_future(self._in_turn(call))
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        if ended is not None:
            task.add_done_callback(lambda _: ended())
        await asyncio.wait({task})  # which, cancelled, leaves the task alone
        if task.cancelled():
            raise ClientClosed("this VaultManager was closed while Vault was asked")
        return task.result()

    def close(self) -> None:
        """Wait for nothing any more; what hangs is left to its time-out, and its outcome to nobody."""
        self._closed = True
        for task in self._tasks:
            task.cancel()

    async def _in_turn(self, call: Callable[[], T]) -> T:
        async with self._turns:
            return await in_thread(call)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        retrieve(task)


def retrieve(task: asyncio.Task[Any]) -> None:
    """Take note of how a task ended, or asyncio would log the error of one that everybody has left."""
    if not task.cancelled():
        task.exception()


async def in_thread(call: Callable[[], T]) -> T:
    """What this call returns, made in a thread of its own: a daemon, for whose end no program waits (X1)."""
    outcome: Future[T] = Future()
    outcome.set_running_or_notify_cancel()  # from now on it cannot be cancelled, and the thread may set it
    run = partial(shielded, lambda: outcome.set_result(call()), outcome.set_exception)
    # With a copy of the context: whoever asks is known in the thread, too.
    threading.Thread(target=copy_context().run, args=(run,), name="vault-request", daemon=True).start()
    return await asyncio.wrap_future(outcome)
