"""What starts anew in the child of a process that forks: gunicorn with preload, multiprocessing, Celery, os.fork (T10).

A fork copies sockets, locks and tokens, and no thread. Two processes on one connection get each other's answers, a lock
that some other thread held stays locked for ever, and a token that the child revokes is the parent's.
"""

from __future__ import annotations

import os
from functools import partial
from typing import Protocol
from weakref import WeakSet

from .shield import log_unexpected, shielded


class StartsAnew(Protocol):
    """Whatever holds a connection, a lock, a thread or a token."""

    def start_anew(self) -> None:
        """Be as if just made. Called in the child, where no other thread runs; must neither block nor ask Vault."""


_alive: WeakSet[StartsAnew] = WeakSet()


def start_anew_in_children(thing: StartsAnew) -> None:
    """From now on, as long as `thing` lives, call its `start_anew` in every child of this process."""
    _alive.add(thing)


def _start_all_anew() -> None:
    for thing in list(_alive):
        shielded(thing.start_anew, partial(log_unexpected, "the child of a fork"))


if hasattr(os, "register_at_fork"):  # where there is none, as on Windows, nothing forks
    os.register_at_fork(after_in_child=_start_all_anew)
