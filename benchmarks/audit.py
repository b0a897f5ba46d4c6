"""The server's own log of requests: who asked for what, and when."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

TIME = re.compile(r"(.{19})(\.\d+)?(Z|[+-]\d\d:\d\d)")


class Request(NamedTuple):
    """A request that the server answered."""

    at: float
    """When it was answered, by the wall clock."""
    role_name: str
    """The AppRole that it logged in by, or did so with this request."""
    path: str
    lease_id: str
    """Of the lease that was issued or renewed, if any."""


class AuditLog:
    """The file, from a position on."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def position(self) -> int:
        return self._path.stat().st_size

    def requests(self, since: int, until: int) -> list[Request]:
        """The requests answered between two positions."""
        with self._path.open("rb") as log:
            log.seek(since)
            lines = log.read(until - since).splitlines()
        return [as_request(entry) for entry in map(json.loads, lines) if entry["type"] == "response"]

    def count(self, role_name: str, since: int, until: int) -> Counter[str]:
        """How often each path was asked for by whoever logged in by this AppRole."""
        return Counter(each.path for each in self.requests(since, until) if each.role_name == role_name)


def as_request(entry: Mapping[str, Any]) -> Request:
    response = entry.get("response") or {}
    # Only the answer to a login tells who logged in.
    who = (entry.get("auth") or {}).get("metadata") or (response.get("auth") or {}).get("metadata") or {}
    return Request(
        at=wall_time(entry["time"]),
        role_name=str(who.get("role_name", "")),
        path=entry["request"]["path"],
        lease_id=str((response.get("secret") or {}).get("lease_id", "")),
    )


def wall_time(text: str) -> float:
    """Seconds since 1970 of a time as the server writes it: with up to nine decimals, and Z or an offset."""
    parts = TIME.fullmatch(text)
    if parts is None:
        raise ValueError(f"{text!r} is no time")
    whole, fraction, zone = parts.groups(default="")
    return datetime.fromisoformat(whole + zone.replace("Z", "+00:00")).timestamp() + float(fraction or 0)
