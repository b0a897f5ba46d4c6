"""The screen: writes one text after the other, in a thread of its own.

Whoever shows something never waits for the terminal: one that is stopped with Ctrl+S stops no renewal. One text is one
write, so that threads which show something at once never garble each other.
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import NamedTuple, TextIO

from listeners.streams import cannot_write, silence

PATIENCE_SECONDS = 0.5
MOST_WAITING = 1000
"""How many texts may wait for a terminal that is stopped; what comes then is not shown."""

ERASE_LINE = "\r\x1b[K"
NO_WRAPPING, WRAPPING = "\x1b[?7l", "\x1b[?7h"
"""A line that is too long for the terminal is cut: wrapped, it could not be erased."""


def wants_colour(stream: TextIO) -> bool:
    """Colour is for terminals, and for people who have not set NO_COLOR (https://no-color.org)."""
    return stream.isatty() and not os.environ.get("NO_COLOR")


def can_overwrite(stream: TextIO) -> bool:
    """Whether a line can be replaced by the next one."""
    return stream.isatty() and os.environ.get("TERM") != "dumb"


class Text(NamedTuple):
    """What is to be written. A `passing` one is replaced by what comes next, where the stream can do that."""

    words: str
    passing: bool


class Screen:
    """Shows texts on a stream until it is closed, or until the stream takes no more."""

    def __init__(self, stream: TextIO, *, in_place: bool = False) -> None:
        self._stream = stream
        self._in_place = in_place
        self._is_terminal = stream.isatty()
        self._last_block = ""
        """What stands above, passing lines left out."""
        self.failure: OSError | None = None
        """Why the stream takes no more, if it is not that its reader left."""
        self.on_closed: Callable[[str], object] = lambda reason: None
        """Called with the reason when the stream takes no more."""
        self._texts: SimpleQueue[Text | None] = SimpleQueue()
        self._writer = threading.Thread(target=self._write_all, name="screen", daemon=True)
        self._writer.start()

    def show(self, words: str, *, passing: bool = False) -> None:
        if self._texts.qsize() < MOST_WAITING:
            self._texts.put(Text(words, passing and self._in_place))

    def close(self) -> bool:
        """Write what is still waiting; False if the stream does not take it."""
        self._texts.put(None)
        self._writer.join(PATIENCE_SECONDS)
        return not self._writer.is_alive()

    def _write_all(self) -> None:
        erase = ""
        while (text := self._texts.get()) is not None:
            try:
                self._stream.write(erase + self._laid_out(text))
                self._stream.flush()
            except OSError as error:
                self._give_up(error)
                return
            erase = ERASE_LINE if text.passing else ""

    def _laid_out(self, text: Text) -> str:
        """A block of several lines stands apart from what is above it, and from what comes below."""
        if text.passing:
            return f"{NO_WRAPPING}{text.words}{WRAPPING}"
        above, self._last_block = self._last_block, text.words
        apart = above and "\n" in above + text.words
        return f"\n{text.words}\n" if apart else f"{text.words}\n"

    def _give_up(self, error: OSError) -> None:
        """A reader that left is the end, a full disk is an error. A terminal that is gone is neither.

        It sends a SIGHUP to all that is not to run on without it.
        """
        silence(self._stream)
        if isinstance(error, ConnectionError):
            self.on_closed("nobody reads the output any more")
        elif not (self._is_terminal and error.errno == errno.EIO):
            self.failure = error
            self.on_closed(cannot_write(error))
