"""A client for each process of a multiprocessing.Pool or a ProcessPoolExecutor, however they are started.

When to use it: where work is spread over processes, and each of them reads secrets or talks to a database.

    with ProcessPoolExecutor(4, initializer=start) as executor:
        executor.map(task, orders)

    def task(order):
        client().get_kv_secret("database")

With multiprocessing, the same: `Pool(4, initializer=start)`. For a `Process` of its own the first line of its target
is `start()`. What a process keeps beside its client, such as a database pool, goes through `keep`.

Without it: a client cannot be sent along. One that comes along by a fork starts anew in the child, but nobody closes it
there, nor one that was made in a task: a child ends without `atexit`, and its token and database users outlive it. And
a Pool left by `with` kills its workers with SIGTERM in the middle of whatever they do.

A worker that Pool replaces (`maxtasksperchild`) logs in anew, as does every process: have few that live long.
"""

from __future__ import annotations

import signal
import sys
from contextlib import AbstractContextManager, ExitStack
from multiprocessing.util import Finalize
from types import FrameType
from typing import NoReturn, TypeVar

from config_loader import VaultConfig
from vault_client import VaultClient

BEFORE_THE_REST = 100
"""The order among what multiprocessing does at the end of a process: while there are still queues and threads."""

T = TypeVar("T")

_kept = ExitStack()
_client: VaultClient | None = None


def start() -> None:
    """Give this process a client, which logs in when it is first used, and see to its end. The `initializer`.

    It ends with the process, be that because the work is done or because of SIGTERM. Ctrl+C, which reaches all
    processes of a terminal, is left to the parent.
    """
    global _client, _kept
    _kept = ExitStack()  # what came along by a fork is the parent's
    _client = _kept.enter_context(VaultClient(VaultConfig.load()))
    _client.keep_alive()
    Finalize(None, _close, exitpriority=BEFORE_THE_REST)
    signal.signal(signal.SIGTERM, _end)
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def client() -> VaultClient:
    """That of this process. Raises: RuntimeError, if it was not given one."""
    if _client is None:
        raise RuntimeError("this process has no client: hand `start` to the pool, as its `initializer`")
    return _client


def keep(context: AbstractContextManager[T]) -> T:
    """Enter it for as long as this process lives, such as a `VaultPool`; it is left before the client is closed."""
    return _kept.enter_context(context)


def _close() -> None:
    # A Pool that is left tells its workers to end, and then sends SIGTERM to those that do so.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    _kept.close()


def _end(number: int, _: FrameType | None) -> NoReturn:
    sys.exit(128 + number)
