"""The one worker primitive: a named thread that does one thing every so often, and outlives its errors.

`stop.wait(interval)` would be timer enough; here it is shown how `schedule` does it, a scheduler for each worker.
`schedule` reckons in local wall-clock time, so a clock set back (NTP, the end of summer time) would make it wait an
hour too long; the monotonic clock guards against that (X2).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import schedule

from .shield import shielded

PAUSE_AFTER_ERROR_SECONDS = 1.0
"""Where not even the interval is to be had."""


class Worker:
    """Runs `action` at once and then every `interval()` seconds, in a thread of its own, until `stop` is set.

    The interval is asked for anew after each run; None means that it was the last. An error of the action goes to
    `on_error`, and the next run comes all the same.
    """

    def __init__(
        self,
        name: str,
        action: Callable[[], object],
        *,
        interval: Callable[[], float | None],
        stop: threading.Event,
        on_error: Callable[[Exception], object],
    ) -> None:
        self.name = name
        self._action = action
        self._interval = interval
        self._stop = stop
        self._on_error = on_error
        self._woken = threading.Event()
        self._pause: float | None = None
        self._scheduler = schedule.Scheduler()
        # A daemon, so that a request that hangs cannot keep the process from ending (X1).
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Start the thread, unless it was started before."""
        if self._thread.ident is None:
            self._thread.start()

    def wake(self) -> None:
        """Sleep no longer: the next run comes at once, or the end if `stop` is set."""
        self._woken.set()

    def join(self, timeout: float) -> bool:
        """Wake it, and wait up to `timeout` seconds for the thread to end; whether it did."""
        self.wake()
        if self._thread.ident is not None:
            self._thread.join(max(0.0, timeout))
        return not self._thread.is_alive()

    def _run(self) -> None:
        while not self._stop.is_set():
            self._woken.clear()
            shielded(self._action, self._on_error)
            self._pause = PAUSE_AFTER_ERROR_SECONDS
            shielded(self._ask_for_pause, self._on_error)
            if self._pause is None:
                return
            self._sleep(self._pause)

    def _ask_for_pause(self) -> None:
        self._pause = self._interval()

    def _sleep(self, interval: float) -> None:
        """Sleep until the schedule or, should the wall clock have been set back, the monotonic clock says so."""
        due = threading.Event()
        self._scheduler.clear()
        # schedule is annotated for whole seconds but takes fractions, which a token of 5 s needs (T2).
        self._scheduler.every(interval).seconds.do(due.set)  # type: ignore[arg-type]
        latest = time.monotonic() + interval
        while not (self._stop.is_set() or self._woken.is_set() or due.is_set() or time.monotonic() >= latest):
            pause = min(self._scheduler.idle_seconds or 0.0, latest - time.monotonic())
            self._woken.wait(max(0.0, pause))
            self._scheduler.run_pending()
