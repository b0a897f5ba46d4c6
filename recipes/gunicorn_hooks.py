"""What gunicorn is told with `-c recipes/gunicorn_hooks.py`: that a worker, once it ends, is left to end in peace.

A worker ends as Python programs do, so that `atexit` closes its client, which revokes the token. But Ctrl+C comes to it
twice: from the terminal, as to every process in it, and then as SIGQUIT from the master. The second signal would end
the worker in the middle of the revocation, and leave its token and its database user to their TTL.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from types import FrameType
from typing import Any


def post_worker_init(_worker: object) -> None:
    """Called in the worker, when it has its handlers of signals: from the first signal on there is to be no second.

    One that comes while a gthread worker shuts its threads down would wait for the lock that the first one holds, until
    gunicorn kills the worker.
    """
    for number in (signal.SIGINT, signal.SIGQUIT):
        signal.signal(number, without_a_second(signal.getsignal(number)))


def without_a_second(handler: Any) -> Callable[[int, FrameType | None], object]:
    def handle(number: int, frame: FrameType | None) -> object:
        # Not SIG_IGN yet: of a signal that came together with this one, Python would then print a traceback.
        end_in_peace(unheard)
        return handler(number, frame)

    return handle


def unheard(_number: int, _frame: FrameType | None) -> None:
    pass


def worker_exit(_server: object, _worker: object) -> None:
    """Called in the worker. One that takes longer than --graceful-timeout is killed all the same."""
    end_in_peace(signal.SIG_IGN)


def end_in_peace(answer: Any) -> None:
    for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGTERM):
        signal.signal(number, answer)
