"""Waits for the threads of trials, and says meanwhile how far they are."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Sequence

LOOK_SECONDS = 1.0


def wait_for(threads: Sequence[threading.Thread], tell: Callable[[float], object], deadline: float = math.inf) -> None:
    """Until all have ended, or until then by the monotonic clock; `tell` hears once a second how many have passed."""
    began = time.monotonic()
    while (left := deadline - time.monotonic()) > 0:
        running = [thread for thread in threads if thread.is_alive()]
        if not running:
            return
        running[0].join(min(LOOK_SECONDS, left))
        tell(time.monotonic() - began)
