"""The audit trail: who did what to which path, with which outcome; lines of JSON in a file apart from the log.

    {"time": "2026-11-25T12:04:14.123Z", "request_id": "f3…", "sub": "a1…", "username": "alice", "tenant": "acme",
     "verb": "write", "path": "app/db", "outcome": "ok", "status": 201, "version": 8}

Vault's own audit device has the same request id, so the two can be joined. The trail fails closed, as Vault's does:
what cannot be written down is not answered. So a change has two lines: `asked` before Vault hears of it, and then the
outcome.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from .fields import NAME, REQUEST_ID, Check, is_canonical_path, is_like, is_one_of, is_subject, is_whole, json_line
from .roles import VERBS

log = logging.getLogger("gateway")

OUTCOMES = ("asked", "ok", "unauthenticated", "forbidden", "refused", "missing", "conflict", "unavailable", "failed")
"""asked: a change is about to be asked of Vault. refused: a bad path or body. conflict: a precondition did not hold."""
CHANGES = frozenset({"write", "delete", "rollback", "renew"})
"""The verbs that want a line before."""
FIELDS: Mapping[str, Check] = {
    "request_id": is_like(REQUEST_ID),
    "sub": is_subject,
    "username": is_subject,
    "tenant": is_like(NAME),
    "verb": is_one_of(VERBS),
    "path": is_canonical_path,
    "outcome": is_one_of(OUTCOMES),
    "status": is_whole,
    "version": is_whole,
}
OWNER_ALONE = 0o600


@dataclass(kw_only=True, slots=True)
class Deed:
    """What somebody did or tried. None: not known, as who it was where there was no JWT."""

    request_id: str
    verb: str
    outcome: str
    sub: str | None = None
    username: str | None = None
    tenant: str | None = None
    path: str | None = None
    status: int | None = None
    version: int | None = None


class AuditTrail:
    """Appends deeds to a file, each at once and in one piece, so that several processes may share it.

    A file that was moved away (logrotate) is left, and a new one begun. The write goes to the kernel, which takes
    microseconds on a local disk; it is not forced to the disk, as Vault's is not. `on_failure` is called for each line
    that was not written.
    """

    def __init__(
        self, path: Path, *, on_failure: Callable[[], object] = lambda: None, clock: Callable[[], float] = time.time
    ) -> None:
        self._path = path
        self._on_failure = on_failure
        self._clock = clock
        self._lock = threading.Lock()
        self._file: int | None = None
        self._identity = (0, 0)
        self._cut_off = False
        """A line stands there in part; the next one begins on a line of its own."""
        self._failing = ""

    def write(self, deed: Deed) -> bool:
        """Whether it is written down. If not, the caller answers 503, and asks Vault for nothing."""
        line = json_line(deed, FIELDS, self._clock()) + "\n"
        with self._lock:
            try:
                self._append(line.encode("ascii"))
            except OSError as error:
                self._tell(error.strerror or type(error).__name__)
                self._on_failure()
                return False
            self._tell("")
            return True

    def close(self) -> None:
        """Safe to call again; a later line opens the file anew."""
        with self._lock:
            self._close()

    def _append(self, line: bytes) -> None:
        """Raises: OSError, also where the disk takes a part of it only."""
        file = self._opened()
        whole = b"\n" + line if self._cut_off else line
        written = os.write(file, whole)
        self._cut_off = 0 < written < len(whole) or (self._cut_off and not written)
        if written < len(whole):
            raise OSError(0, "the disk takes no more")

    def _opened(self) -> int:
        if self._file is not None and self._is_still_there():
            return self._file
        self._close()
        self._cut_off = ends_within_a_line(self._path)
        self._file = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, OWNER_ALONE)
        about = os.fstat(self._file)
        self._identity = (about.st_dev, about.st_ino)
        return self._file

    def _is_still_there(self) -> bool:
        try:
            about = os.stat(self._path)
        except FileNotFoundError:
            return False
        return (about.st_dev, about.st_ino) == self._identity

    def _close(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            os.close(file)

    def _tell(self, failing: str) -> None:
        """In the log, once for as long as it stays the same."""
        if failing and failing != self._failing:
            log.error("audit: cannot write to %s: %s; requests are refused until it can", self._path, failing)
        elif self._failing and not failing:
            log.warning("audit: %s can be written to again", self._path)
        self._failing = failing


def ends_within_a_line(path: Path) -> bool:
    """So it does if the disk was full when a process before us wrote. What is no file, as a pipe is, has no end."""
    if not path.is_file() or path.stat().st_size == 0:
        return False
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) != b"\n"
