"""Waits for the threads of trials, and says meanwhile how far they are; and notes how late the machine is."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

LOOK_SECONDS = 1.0
NAP_SECONDS = 0.05


def wait_for(threads: Sequence[threading.Thread], tell: Callable[[float], object], deadline: float = math.inf) -> None:
    """Until all have ended, or until then by the monotonic clock; `tell` hears once a second how many have passed."""
    began = time.monotonic()
    while (left := deadline - time.monotonic()) > 0:
        running = [thread for thread in threads if thread.is_alive()]
        if not running:
            return
        running[0].join(min(LOOK_SECONDS, left))
        tell(time.monotonic() - began)


class Lateness:
    """How late one wakes who only sleeps: so much the machine adds to whatever is done at that time."""

    def __init__(self) -> None:
        self._naps: list[tuple[float, float]] = []
        self._ended = threading.Event()

    @contextmanager
    def noted(self) -> Iterator[Lateness]:
        thread = threading.Thread(target=self._nap, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self._ended.set()
            thread.join()

    def _nap(self) -> None:
        while not self._ended.is_set():
            began = time.monotonic()
            time.sleep(NAP_SECONDS)
            self._naps.append((began, time.monotonic()))

    def longest(self, since: float, until: float) -> float:
        """Of what was slept through at some time between these moments, seconds."""
        naps = [woke - began for began, woke in self._naps if began <= until and woke >= since]
        return max(naps, default=NAP_SECONDS) - NAP_SECONDS
