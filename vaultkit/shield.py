"""What stands between an error and those whom it would harm.

`shielded` is the program's one broad `except`: an error of one worker or listener is none of the others'.
`without_frames` keeps from an error's traceback what only a traceback with local variables would show.
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

from .errors import VaultError

P = ParamSpec("P")
T = TypeVar("T")

log = logging.getLogger("vaultkit")


def shielded(action: Callable[[], object], on_error: Callable[[Exception], object]) -> None:
    """Run `action`; hand any error to `on_error` instead of letting it end the thread."""
    try:
        action()
    except Exception as error:  # noqa: BLE001
        on_error(error)


def without_frames(function: Callable[P, T]) -> Callable[P, T]:
    """Let a VaultError of `function` leave it without the frames below, whose variables hold tokens and bodies (P1)."""

    @wraps(function)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return function(*args, **kwargs)
        except VaultError as error:
            bare = error.with_traceback(None)
        raise bare

    return guarded


def log_error(who: str, error: Exception) -> None:
    """Log an error of ours with its text, which quotes no secret, and any other with its place."""
    if isinstance(error, VaultError):
        log.error("%s: %s", who, error)
    else:
        log_unexpected(who, error)


def log_unexpected(who: str, error: Exception) -> None:
    """Log where an error that nobody planned for arose; not its text, which might quote a secret (P1)."""
    where = "".join(traceback.format_tb(error.__traceback__))
    log.error("%s: unexpected %s\n%s", who, type(error).__name__, where)
