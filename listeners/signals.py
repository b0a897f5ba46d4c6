"""The signals that end the program: the first in order, the second at once."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import TypeVar

T = TypeVar("T")

ENDING_SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT")
"""Ctrl+C, kill, a terminal that is closed, Ctrl+\\; Windows knows the first two."""
SAME_SIGNAL_SECONDS = 0.2
"""`timeout` and others signal a process and then its group: what comes so close together is one signal."""
LOOK_SECONDS = 0.5


class SignalHandler:
    """Calls `on_first` with the name of the first ending signal; a second one ends the process at once (X1)."""

    def __init__(self, on_first: Callable[[str], object]) -> None:
        self._on_first = on_first
        self._first: float | None = None
        self._numbers = ending_signals()
        for number in self._numbers:
            signal.signal(number, self)

    def __call__(self, number: int, _frame: object) -> None:
        if self._first is None:
            self._first = time.monotonic()
            self._on_first(signal.Signals(number).name)
        elif time.monotonic() - self._first > SAME_SIGNAL_SECONDS:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)

    def ignore(self) -> None:
        """All is done: a late one shall not change the exit status."""
        for number in self._numbers:
            signal.signal(number, signal.SIG_IGN)


def next_of(told: SimpleQueue[T]) -> T:
    """What is put there next: the main thread waits at it, and a signal handler puts into it.

    A handler runs in the main thread, but the system may wake another for the signal, as after Ctrl+Z and `kill %1`.
    So the main thread looks up now and then.
    """
    while True:
        with suppress(Empty):
            return told.get(timeout=LOOK_SECONDS)


def ending_signals() -> list[signal.Signals]:
    """Those that the platform has; not a SIGHUP that nohup has told us to ignore."""
    numbers = [getattr(signal, name) for name in ENDING_SIGNALS if hasattr(signal, name)]
    return [number for number in numbers if not (number.name == "SIGHUP" and is_ignored(number))]


def is_ignored(number: signal.Signals) -> bool:
    return signal.getsignal(number) is signal.SIG_IGN
