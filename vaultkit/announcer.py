"""Brings what happens to whoever listens."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial

from .events import Event, Listener
from .shield import log_unexpected, shielded

log = logging.getLogger("vaultkit")


class Announcer:
    """Brings events to the listeners.

    An event is posted where it happens, perhaps under a lock, and delivered where no lock is held, so that a listener
    may call the client. A listener that raises harms nobody else.
    """

    def __init__(self, listeners: Sequence[Listener] = ()) -> None:
        self._listeners = list(listeners)
        self._posted: deque[Event] = deque()

    def listen(self, listener: Listener) -> Callable[[], None]:
        """Have a listener called from now on; call what is returned to have it left alone again."""
        hear = partial(listener)  # one of its own, for somebody may listen twice
        self._listeners.append(hear)
        return partial(self._leave, hear)

    def _leave(self, listener: Listener) -> None:
        with suppress(ValueError):  # it has left before
            self._listeners.remove(listener)

    def post(self, event: Event) -> None:
        self._posted.append(event)

    def deliver(self) -> None:
        while self._posted:
            try:
                event = self._posted.popleft()
            except IndexError:  # another thread was faster
                return
            log.log(event.level, "%s", event)
            for listener in list(self._listeners):
                shielded(partial(listener, event), partial(log_unexpected, "a listener"))

    @contextmanager
    def delivering(self) -> Iterator[None]:
        """Deliver, at the end of a call from outside, what was posted during it."""
        try:
            yield
        finally:
            self.deliver()

    def start_anew(self) -> None:
        """In the child of a fork: what was posted before is the parent's to deliver (T10)."""
        self._posted = deque()

    def announce(self, event: Event) -> None:
        """Post and deliver at once."""
        self.post(event)
        self.deliver()
