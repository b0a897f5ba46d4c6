"""The server's audit log, as it is written: who asked for what. Of each request the path and what came of it, no more.

Values are hashed there; they are not passed on even so.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, BinaryIO

from config_loader import VaultConfig
from vaultkit.transport.answers import printable

LOGIN = "auth/approle/login"
MOST_OF_ERROR = 200


class Tail:
    """The lines of a file from its present end on, also when it is renamed and a new one is written, or cut short."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: BinaryIO | None = None
        self._rest = b""
        self._open()
        if self._file is not None:
            self._file.seek(0, os.SEEK_END)

    def lines(self) -> Iterator[bytes]:
        """Those that were written since; not the one that is being written."""
        while True:
            yield from self._new_lines()
            if not self._is_another():
                return
            yield from self._new_lines()  # what came between the two looks
            self.close()
            self._open()

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _open(self) -> None:
        self._rest = b""
        try:
            self._file = self._path.open("rb")
        except OSError:  # between two files; the next look finds it
            self._file = None

    def _new_lines(self) -> Iterator[bytes]:
        if self._file is None:
            return
        if os.fstat(self._file.fileno()).st_size < self._file.tell():
            self._file.seek(0)
            self._rest = b""
        *lines, self._rest = (self._rest + self._file.read()).split(b"\n")
        yield from lines

    def _is_another(self) -> bool:
        """Whether the name is that of another file by now."""
        try:
            now = self._path.stat()
        except OSError:
            return False
        if self._file is None:
            return True
        mine = os.fstat(self._file.fileno())
        return (mine.st_dev, mine.st_ino) != (now.st_dev, now.st_ino)


class AuditLog:
    """The requests of the application, and beside them the administrator's, as the page tells of them."""

    def __init__(self, path: Path, config: VaultConfig) -> None:
        self._tail = Tail(path)
        self._role = config.vault.entity
        kv = config.kv_secret.mount or f"{self._role}-kv"
        database = config.database_dynamic.mount or f"{self._role}-database"
        static = config.database_static.mount or f"{self._role}-database"
        self._kinds = {
            f"{kv}/": "kv",
            f"{database}/creds/": "dynamic",
            "sys/leases/renew": "dynamic",
            f"{static}/static-creds/": "static",
            "auth/": "token",
        }

    def requests(self) -> list[dict[str, Any]]:
        """Those that were answered since the last look."""
        found = (self._request(line) for line in self._tail.lines())
        return [request for request in found if request is not None]

    def close(self) -> None:
        self._tail.close()

    def _request(self, line: bytes) -> dict[str, Any] | None:
        try:
            entry = json.loads(line)
            if entry["type"] != "response":
                return None
            asked = entry["request"]
            return {
                "at": wall_time(entry["time"]),
                "method": str(asked["operation"]),
                "path": printable(str(asked["path"])),
                "kind": self._kind(asked["path"]),
                "status": status(entry),
                "ours": self._is_ours(entry),
            }
        except (ValueError, KeyError, TypeError):  # a line of another kind, or half a one
            return None

    def _kind(self, path: str) -> str:
        return next((kind for beginning, kind in self._kinds.items() if path.startswith(beginning)), "other")

    def _is_ours(self, entry: Mapping[str, Any]) -> bool:
        """Asked by who logged in with the application's role; or by nobody whom the server knows.

        That is a login which is refused, or a token that is dead: there is no other client here that has such.
        """
        auth, answer = entry.get("auth") or {}, entry.get("response") or {}
        who = auth.get("metadata") or (answer.get("auth") or {}).get("metadata") or {}
        if who:
            return bool(who.get("role_name") == self._role)
        asked = entry["request"]
        return "display_name" not in auth and (asked["path"] == LOGIN or "client_token" in asked)


def status(entry: Mapping[str, Any]) -> str:
    """What came of it: ok, or the words of the error on one line."""
    words = " ".join(str(entry.get("error") or "").replace("*", " ").split())
    said = words.partition("error occurred: ")[2] or words
    return printable(said)[:MOST_OF_ERROR] or "ok"


def wall_time(text: str) -> float:
    """Seconds since 1970 of a time as the server writes it, in UTC and with up to nine decimals."""
    whole, _, fraction = text.rstrip("Z").partition(".")
    return datetime.fromisoformat(whole).replace(tzinfo=timezone.utc).timestamp() + float(f"0.{fraction or 0}")
