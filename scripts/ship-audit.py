#!/usr/bin/env python3
"""Ships the audit file of a Vault or OpenBao to an HTTP endpoint, as JSON lines, each at least once.

    SHIP_AUDIT_AUTHORIZATION="Bearer …" python3 scripts/ship-audit.py \
        /var/log/openbao/audit.log https://siem.example.com/ingest /var/lib/ship-audit/place.json

A batch counts as shipped when the endpoint has answered 2xx, and how far that is stands in the last file, the place.
So it may be killed at any time, and the endpoint as well: what is not sure to have arrived is sent again. The receiver
tells a line that came twice by `request.id` and `type`. Rotate the file by rename and SIGHUP. Needs Python alone.
"""

from __future__ import annotations

import argparse
import hashlib
import http.client
import json
import os
import random
import re
import signal
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import urlsplit

BATCH_BYTES = 1 << 20
"""A batch ends with the line that reaches this size."""
TIMEOUT_SECONDS = 10.0
POLL_SECONDS = 0.5
BACKOFF_SECONDS = (0.5, 5.0)
"""The first pause after a batch that was not taken, and the longest."""
WORDS_OF_THE_RECEIVER = 200
EXAMPLE = "/var/log/openbao/audit.log https://siem.example.com/ingest /var/lib/ship-audit/place.json"
ROTATED = r"[.-]\d[\d.-]*"
"""What a rotated file has behind its name: audit.log.1, audit.log-20261125. A compressed one is past reading."""


class NotTaken(Exception):
    """The endpoint did not answer 2xx; the text says what it did instead."""


# ── How far we are ───────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Place:
    """How many bytes of a file have arrived, and which others have, whole.

    A file is told by the SHA-256 of its first line: a name is another file's after a rotation, and so is an inode.
    """

    first_line: str
    offset: int
    shipped: frozenset[str]

    @classmethod
    def load(cls, path: Path) -> Place | None:
        """The place that was saved, None if there is none. Raises: ValueError, if it is no place."""
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            return cls(str(found["first_line"]), int(found["offset"]), frozenset(found["shipped"]))
        except FileNotFoundError:
            return None
        except (KeyError, TypeError, ValueError):
            raise ValueError(
                f"{path}: found no place in it, expected what an earlier run wrote; remove it, and all that is"
                " there is shipped once more"
            ) from None

    def save(self, path: Path) -> None:
        """Replace the file, such that a crash leaves either the old place or the new one."""
        new = path.with_name(f"{path.name}.new")
        with open(new, "w", encoding="utf-8", opener=only_for_us) as file:
            json.dump({"first_line": self.first_line, "offset": self.offset, "shipped": sorted(self.shipped)}, file)
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)


def only_for_us(path: str, flags: int) -> int:
    return os.open(path, flags, mode=0o600)


# ── The file, and those that it was renamed to ───────────────────────────────────────────────────────────────────────


class Trail:
    """What the server writes, in the order of writing, through all rotations."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: BinaryIO | None = None
        self._offset = 0
        self._shipped: frozenset[str] = frozenset()

    @property
    def place(self) -> Place:
        return Place(first_line_of(self._open_file), self._offset, self._shipped)

    @property
    def waiting(self) -> int:
        """The bytes of this file that have not been shipped."""
        return os.fstat(self._open_file.fileno()).st_size - self._offset

    def start(self, place: Place | None) -> bool:
        """Open the file of that place, else the first that has not been shipped; False while there is none."""
        files, place = self._files(), place or Place("", 0, frozenset())
        self._shipped = place.shipped
        if found := next((file for file in files if file.first_line == place.first_line != ""), None):
            return self._go_to(found, place.offset)
        if place.offset:
            tell(f"the file that was shipped up to byte {place.offset} is gone: what stood behind that may be lost")
        return self._go_to(next(self._unshipped(files), None) or LogFile.at(self._path))

    def read(self, *, closed: bool = False) -> bytes:
        """The next lines. One without an end is still being written, unless the server has closed the file."""
        self._start_again_if_cut()
        self._open_file.seek(self._offset)
        return b"".join(up_to(BATCH_BYTES, self._lines(closed)))

    def advance(self, size: int) -> None:
        self._offset += size

    def successor(self) -> LogFile | None:
        """The file that was begun after this one. Once it has a line, the server has closed this one."""
        mine, files = first_line_of(self._open_file), self._files()
        if any(file.path == self._path and file.first_line == mine for file in files):
            return None
        return next((file for file in self._unshipped(files) if file.first_line != mine), None)

    def move_to(self, file: LogFile) -> bool:
        """False if it has just been renamed, and has to be looked for again."""
        done = first_line_of(self._open_file)
        if not self._go_to(file):
            return False
        there = {file.first_line for file in self._files()}
        self._shipped = (self._shipped | {done}) & there
        return True

    @property
    def _open_file(self) -> BinaryIO:
        assert self._file is not None, "start() comes first"
        return self._file

    def _lines(self, closed: bool) -> Iterator[bytes]:
        while (line := self._open_file.readline()) and (closed or line.endswith(b"\n")):
            yield line

    def _files(self) -> list[LogFile]:
        """All that are there, in the order in which they were last written."""
        pattern = re.compile(re.escape(self._path.name) + f"({ROTATED})?")
        paths = [path for path in self._path.parent.iterdir() if pattern.fullmatch(path.name)]
        return sorted(filter(None, map(LogFile.at, paths)), key=lambda file: (file.path == self._path, file.written))

    def _unshipped(self, files: list[LogFile]) -> Iterator[LogFile]:
        return (file for file in files if file.first_line and file.first_line not in self._shipped)

    def _go_to(self, file: LogFile | None, offset: int = 0) -> bool:
        """Hold on to a file from now on, so that neither a rename nor a removal takes it away."""
        opened = file and file.open()
        if not opened:
            return False
        if self._file is not None:
            self._file.close()
        self._file, self._offset = opened, offset
        return True

    def _start_again_if_cut(self) -> None:
        if self.waiting < 0:
            tell("the file was cut, and lines may be lost; rotate it by rename and SIGHUP, never by copytruncate")
            self._open_file.seek(0, os.SEEK_END)  # which empties the buffer of what stood there before
            self._offset = 0


@dataclass(frozen=True)
class LogFile:
    """A file as it was found; by the time that it is opened, its name may be another's."""

    path: Path
    first_line: str
    written: int

    @classmethod
    def at(cls, path: Path) -> LogFile | None:
        try:
            with path.open("rb") as file:
                return cls(path, first_line_of(file), os.fstat(file.fileno()).st_mtime_ns)
        except FileNotFoundError:
            return None

    def open(self) -> BinaryIO | None:
        """None if it has gone, or another has its name."""
        try:
            file = self.path.open("rb")
        except FileNotFoundError:
            return None
        if self.first_line in ("", first_line_of(file)):
            return file
        file.close()
        return None


def first_line_of(file: BinaryIO) -> str:
    """Its SHA-256; nothing where it has none yet."""
    file.seek(0)
    line = file.readline()
    return hashlib.sha256(line).hexdigest() if line.endswith(b"\n") else ""


def up_to(size: int, lines: Iterator[bytes]) -> Iterator[bytes]:
    while size > 0 and (line := next(lines, None)):
        size -= len(line)
        yield line


# ── Whereto ──────────────────────────────────────────────────────────────────────────────────────────────────────────


class Endpoint:
    """Where the lines go, by POST. `authorization` is the whole value of that header, empty for none."""

    def __init__(self, url: str, authorization: str) -> None:
        self._url = url
        self._headers = {"Content-Type": "application/x-ndjson"}
        if authorization:
            self._headers["Authorization"] = authorization
        self._opener = urllib.request.build_opener(NoRedirect)

    def take(self, batch: bytes) -> None:
        """Raises: NotTaken, unless the answer is a 2xx."""
        request = urllib.request.Request(self._url, batch, self._headers)
        try:
            with self._opener.open(request, timeout=TIMEOUT_SECONDS) as answer:
                answer.read(WORDS_OF_THE_RECEIVER)
        except urllib.error.HTTPError as error:
            with error:
                words = error.read(WORDS_OF_THE_RECEIVER).decode(errors="replace")
            raise NotTaken(f"it answered {error.code} {error.reason}: {words!r}") from None
        except (OSError, http.client.HTTPException) as error:
            raise NotTaken(f"no answer: {getattr(error, 'reason', error)!r}") from None


class NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirected POST becomes a GET, whose 200 would count lines as shipped that nobody got."""

    def redirect_request(self, *_: Any) -> None:
        return None


def an_endpoint(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username is not None:
        raise argparse.ArgumentTypeError(
            "expected an address such as https://siem.example.com/ingest; who we are goes into SHIP_AUDIT_AUTHORIZATION"
        )
    return value


# ── The work ─────────────────────────────────────────────────────────────────────────────────────────────────────────


class Shipper:
    """Reads, delivers, saves the place, and only then reads on."""

    def __init__(self, trail: Trail, endpoint: Endpoint, place: Path) -> None:
        self._trail = trail
        self._endpoint = endpoint
        self._place = place

    def run(self) -> None:
        """For ever. It has nothing to tidy up: whatever ends it, the next run goes on from the place."""
        place = Place.load(self._place)
        while not self._trail.start(place):
            tell("there is no audit file yet, and so it is waited for")
            time.sleep(BACKOFF_SECONDS[1])
        # Now, so that a rotation before the first batch arrives loses nothing.
        self._trail.place.save(self._place)
        while True:
            if not self._turn():
                time.sleep(POLL_SECONDS)

    def _turn(self) -> bool:
        """Ship a batch, or go on to the next file; False if there is nothing to do."""
        batch, successor = self._trail.read(), None
        if not batch and (successor := self._trail.successor()):
            batch = self._trail.read(closed=True)  # once more: it was seen to be closed only after the first look
        if batch:
            self._deliver(batch)
            self._trail.advance(len(batch))
        elif successor is None or not self._trail.move_to(successor):
            return False
        self._trail.place.save(self._place)
        return True

    def _deliver(self, batch: bytes) -> None:
        """However often that takes."""
        pause, longest = BACKOFF_SECONDS
        while True:
            try:
                return self._endpoint.take(batch)
            except NotTaken as error:
                tell(f"{error}; {self._trail.waiting} bytes wait for it")
            time.sleep(pause * random.uniform(0.5, 1))
            pause = min(2 * pause, longest)


def tell(text: str) -> None:
    print(f"ship-audit: {text}", file=sys.stderr, flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(
        usage=f"%(prog)s [-h] file endpoint place\n\nexample: python3 scripts/%(prog)s {EXAMPLE}",
        description=(__doc__ or "").partition("\n")[0],
        epilog="SHIP_AUDIT_AUTHORIZATION: the Authorization header; SSL_CERT_FILE: the CA that the endpoint has",
    )
    parser.add_argument("file", type=Path, help="the audit file")
    parser.add_argument("endpoint", type=an_endpoint, help="takes JSON lines by POST; its 2xx says that it has them")
    parser.add_argument("place", type=Path, help="file that says how far we are; kept over restarts")
    options = parser.parse_args()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: sys.exit())
    endpoint = Endpoint(options.endpoint, os.environ.get("SHIP_AUDIT_AUTHORIZATION", ""))
    try:
        Shipper(Trail(options.file), endpoint, options.place).run()
    except (OSError, ValueError) as error:
        tell(str(error))
    return 1


if __name__ == "__main__":
    sys.exit(main())
