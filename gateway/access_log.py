"""The access log: a line of JSON for each answer, of an allow list of fields, for a machine that collects logs.

    {"time": "2026-11-25T12:04:14.123Z", "request_id": "f3…", "tenant": "acme", "verb": "read", "path": "app/db",
     "status": 200, "version": 7, "ms": 0.4, "cache": "hit", "sub": "a1…", "kid": "k1"}

No query, no header, no body, no text of an error. (`uvicorn`'s own log writes paths as they came, and is off.)
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TextIO

from listeners.streams import silence

from .cache import OUTCOMES
from .fields import (
    KEY_ID,
    NAME,
    REQUEST_ID,
    Check,
    is_canonical_path,
    is_like,
    is_number,
    is_one_of,
    is_subject,
    is_whole,
    json_line,
)
from .roles import VERBS

log = logging.getLogger("gateway")

FIELDS: Mapping[str, Check] = {
    "request_id": is_like(REQUEST_ID),
    "tenant": is_like(NAME),
    "verb": is_one_of(VERBS),
    "path": is_canonical_path,
    "status": is_whole,
    "version": is_whole,
    "ms": is_number,
    "cache": is_one_of(OUTCOMES),
    "sub": is_subject,
    "kid": is_like(KEY_ID),
}
"""What a line may hold; docs and collectors may rely on the names."""


@dataclass(kw_only=True, slots=True)
class Answered:
    """One answer, as the log has it. None: not known, as the caller of a request without a JWT."""

    request_id: str
    status: int
    ms: float
    tenant: str | None = None
    verb: str | None = None
    path: str | None = None
    """The canonical path, never the one that came."""
    version: int | None = None
    cache: str | None = None
    sub: str | None = None
    kid: str | None = None


class AccessLog:
    """Writes answers to a stream, each at once. A stream that takes no more is told of in the log, once."""

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.time) -> None:
        self._stream = stream
        self._clock = clock
        self._is_failing = False

    def write(self, answer: Answered) -> None:
        try:
            self._stream.write(json_line(answer, FIELDS, self._clock()) + "\n")
            self._stream.flush()
            self._is_failing = False
        except (OSError, ValueError) as error:  # full, or closed
            if not self._is_failing:
                log.error("the access log cannot be written: %s", reason_of(error))
            self._is_failing = True
            if isinstance(error, ConnectionError):  # whoever read it has left, and will not come back
                silence(self._stream)


def reason_of(error: Exception) -> str:
    return (isinstance(error, OSError) and error.strerror) or type(error).__name__
