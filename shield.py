"""The program's one broad `except`: what keeps an error of one worker or listener from harming the others."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable

log = logging.getLogger(__name__)


def shielded(action: Callable[[], object], on_error: Callable[[Exception], object]) -> None:
    """Run `action`; hand any error to `on_error` instead of letting it end the thread."""
    try:
        action()
    except Exception as error:  # noqa: BLE001
        on_error(error)


def log_unexpected(who: str, error: Exception) -> None:
    """Log where an error that nobody planned for arose; not its text, which might quote a secret (P1)."""
    where = "".join(traceback.format_tb(error.__traceback__))
    log.error("%s: unexpected %s\n%s", who, type(error).__name__, where)
