"""For whom Vault is being asked just now: what goes along with each request to it, and who hears how it went.

A context variable, since it belongs to one request of ours, on the event loop and in the thread that asks for it:
neither the cache nor the store need hand it on.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

from vaultkit.errors import VaultError

Watch = Callable[[str, float, "VaultError | None"], object]
"""Hears of a request to Vault: what it was for, how many seconds it took, and what went wrong."""


def nobody(_operation: str, _seconds: float, _error: VaultError | None) -> None:
    pass


@dataclass(frozen=True, slots=True)
class Asking:
    """What is known of the request of ours that Vault is asked for."""

    headers: Mapping[str, str] = field(default_factory=dict)
    """Such as X-Request-Id, by which our log and Vault's audit log are joined."""
    watch: Watch = nobody


ASKING: ContextVar[Asking] = ContextVar("ASKING")
NOTHING_KNOWN = Asking()


@contextmanager
def watched(operation: str) -> Iterator[Mapping[str, str]]:
    """A request to Vault; what is given are the headers that go along with it."""
    asking, began = ASKING.get(NOTHING_KNOWN), time.monotonic()
    error: VaultError | None = None
    try:
        yield asking.headers
    except VaultError as caught:
        error = caught
        raise
    finally:
        asking.watch(operation, time.monotonic() - began, error)
