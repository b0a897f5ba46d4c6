"""How far a command is that takes longer than a few seconds: on stderr, so that stdout has its result alone.

On a terminal it is one line, which the next one replaces; elsewhere, as in the log of CI, a line each, and few of them.
"""

from __future__ import annotations

import math
import sys
import time

from listeners.screen import ERASE_LINE, NO_WRAPPING, WRAPPING, can_overwrite

SELDOM_SECONDS = 10.0


class Progress:
    """What `program` tells of how far it is; of use in one thread."""

    def __init__(self, program: str, *, seldom: float = SELDOM_SECONDS) -> None:
        self._program, self._seldom = program, seldom
        self._told_at = -math.inf
        self.part = ""
        """Which of how many parts this is, such as "2 of 7: "; stands before each text."""

    def tell(self, text: str) -> None:
        """What is done now: shown at each call."""
        self._told_at = time.monotonic()
        line = f"{self._program}: {self.part}{text}"
        if can_overwrite(sys.stderr):
            print(f"{ERASE_LINE}{NO_WRAPPING}{line}{WRAPPING}", end="", file=sys.stderr, flush=True)
        else:
            print(line, file=sys.stderr, flush=True)

    def count(self, text: str) -> None:
        """How far that is: shown at each call on a terminal, elsewhere every `seldom` seconds."""
        if can_overwrite(sys.stderr) or time.monotonic() - self._told_at >= self._seldom:
            self.tell(text)

    def end(self, text: str = "") -> None:
        """The last line, which stays where there is one; what is shown next begins on a line of its own."""
        if can_overwrite(sys.stderr):
            print(ERASE_LINE, end="", file=sys.stderr, flush=True)
        if text:
            print(f"{self._program}: {text}", file=sys.stderr, flush=True)
