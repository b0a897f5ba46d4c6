"""Asking for one thing: one thread at a time, and not at once again after an error."""

from __future__ import annotations

import copy
import math
import threading

from .errors import VaultError
from .lifetime import FIRST_BACKOFF_SECONDS, LONG_AGO, Clock, Moment, backoff


class SingleFlight:
    """What all threads that need the same answer share (C1, C2).

    Hold `lock` while asking. Whoever waited for it calls `raise_if_resting` before asking too: within the back-off
    after an error that raises the same error again, and fifty threads that met one outage make one request, not fifty.
    """

    __slots__ = ("_again", "_asked_early", "_clock", "_error", "_failures", "lock")  # there may be ten thousand

    def __init__(self, clock: Clock) -> None:
        self.lock = threading.Lock()
        self._clock = clock
        self._failures = 0
        self._error: VaultError | None = None
        self._again = LONG_AGO
        self._asked_early = LONG_AGO

    def raise_if_resting(self) -> None:
        """Raise the last error while its back-off lasts."""
        if self._error is not None and self.pause() > 0:
            raise copy.copy(self._error)

    def pause(self) -> float:
        """Seconds until the next try is due; 0 if nothing failed."""
        return self._again.left(self._clock)

    def end_pause(self) -> None:
        """Let the next try come at once; should it fail, the back-off goes on from where it was."""
        self._again = LONG_AGO

    def may_ask_early(self, interval: float) -> bool:
        """Whether to ask before it is time to; True once in so many seconds."""
        if self._asked_early.age(self._clock) < interval:
            return False
        self._asked_early = Moment.now(self._clock)
        return True

    def succeeded(self) -> None:
        self._failures, self._error, self._again = 0, None, LONG_AGO

    def failed(
        self,
        error: VaultError,
        longest_pause: float,
        *,
        first_pause: float = FIRST_BACKOFF_SECONDS,
        within: float = math.inf,
    ) -> Moment:
        """Note an error; return when to try again: `within` so many seconds, even if Vault asked for more."""
        self._failures += 1
        # A copy has no traceback, whose frames would keep tokens and values alive (P1).
        self._error = copy.copy(error)
        pause = backoff(self._failures, longest_pause, error.retry_after, first_pause)
        self._again = Moment.now(self._clock).after(min(pause, within))
        return self._again
