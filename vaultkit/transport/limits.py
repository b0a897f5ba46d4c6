"""How long one answer may be: as [http] says, or as the engine that asks says of its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from .connection import HttpSettings

_of_its_own: ContextVar[tuple[int, str] | None] = ContextVar("limit_of_its_own", default=None)


@contextmanager
def answers_up_to(size: int, setting: str) -> Iterator[None]:
    """Let the answers to the requests of this block have so many bytes; `setting` says where that can be raised."""
    reset = _of_its_own.set((size, setting))
    try:
        yield
    finally:
        _of_its_own.reset(reset)


def limit_of(bounds: HttpSettings, *, a_listing: bool) -> tuple[int, str]:
    """The limit of the answer that is being read, in bytes, and the setting that it comes from."""
    setting = "max_listing_size" if a_listing else "max_response_size"
    return _of_its_own.get() or (getattr(bounds, setting), f"[http] {setting}")
