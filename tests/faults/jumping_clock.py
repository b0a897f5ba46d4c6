"""vault_app.py under a wall clock that somebody sets: python -m tests.faults.jumping_clock OFFSET JUMP

A stand-in for the clock of the machine, which belongs to others. It is OFFSET seconds off from the start, and at
SIGUSR1 JUMP more. What the program reads of it is `time.time` and, through `schedule`, the local time of the zone in
TZ; its monotonic clock is the real one.
"""

from __future__ import annotations

import datetime
import signal
import sys
import time
import types

import schedule

real_time = time.time
offset, jump = (float(argument) for argument in sys.argv[1:3])


def set_time() -> float:
    return real_time() + offset


class LocalTime(datetime.datetime):
    @classmethod
    def now(cls, tz: datetime.tzinfo | None = None) -> LocalTime:
        return cls.fromtimestamp(set_time(), tz)


def set_clock(*_: object) -> None:
    global offset
    offset += jump


if __name__ == "__main__":
    time.time = set_time
    stand_in = types.SimpleNamespace(**{**vars(datetime), "datetime": LocalTime})
    vars(schedule)["datetime"] = stand_in
    signal.signal(signal.SIGUSR1, set_clock)

    from vault_app import main

    sys.exit(main([]))
