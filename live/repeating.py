"""Something that is done again and again beside all else, for as long as a `with` lasts."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from vaultkit.shield import log_error
from vaultkit.worker import Worker


@contextmanager
def repeated(name: str, action: Callable[[], None], *, every: float, end: float) -> Iterator[Worker]:
    """A thread of this name does it `every` so many seconds; at the end it is waited for, `end` seconds at most."""
    stop = threading.Event()
    worker = Worker(name, action, interval=lambda: every, stop=stop, on_error=lambda error: log_error(name, error))
    worker.start()
    try:
        yield worker
    finally:
        stop.set()
        worker.join(end)
