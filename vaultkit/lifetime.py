"""How long something lives, told by two clocks.

A monotonic clock stands still while a laptop sleeps; a wall clock jumps when NTP or a person sets it. So every point in
time is kept on both, and a deadline has passed as soon as *either* says so (T1): at worst we ask Vault once too often,
and never use what is dead.
"""

from __future__ import annotations

import math
import random
from typing import NamedTuple, Protocol

FIRST_BACKOFF_SECONDS = 1.0
LONGEST_RETRY_AFTER_SECONDS = 300.0


class Clock(Protocol):
    """The two clocks; the module `time` is one."""

    def monotonic(self) -> float: ...
    def time(self) -> float: ...


class Moment(NamedTuple):
    """One point in time on both clocks, in seconds."""

    monotonic: float
    wall: float

    @classmethod
    def now(cls, clock: Clock) -> Moment:
        return cls(clock.monotonic(), clock.time())

    def after(self, seconds: float) -> Moment:
        """The moment that many seconds later (or, with a negative number, earlier)."""
        return Moment(self.monotonic + seconds, self.wall + seconds)

    def age(self, clock: Clock) -> float:
        """Seconds since this moment, by the clock that says more; negative if it is still to come."""
        return max(clock.monotonic() - self.monotonic, clock.time() - self.wall)

    def has_come(self, clock: Clock) -> bool:
        return self.age(clock) >= 0

    def or_earlier(self, other: Moment) -> Moment:
        """The earlier of the two, on each clock."""
        if self.monotonic <= other.monotonic and self.wall <= other.wall:
            return self  # rather than ten thousand copies of it
        return Moment(min(self.monotonic, other.monotonic), min(self.wall, other.wall))

    def left(self, clock: Clock) -> float:
        """Seconds until this moment, never below 0."""
        return max(0.0, -self.age(clock))


LONG_AGO = Moment(-math.inf, -math.inf)
NEVER = Moment(math.inf, math.inf)


def backoff(failures: int, cap: float, asked_for: float = 0.0, first: float = FIRST_BACKOFF_SECONDS) -> float:
    """Seconds to wait after so many failures in a row: 1, 2, 4, … times `first`, up to `cap`.

    Up to half of it is taken away at random, so that replicas that failed together do not come back together. A server
    that asked for a longer pause (Retry-After) gets it, within reason.
    """
    longest = min(cap, first * 2.0 ** min(failures - 1, 30))
    return max(longest * random.uniform(0.5, 1.0), min(asked_for, LONGEST_RETRY_AFTER_SECONDS))
