"""Which secrets were to be replaced by now, by what is noted beside each."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from catalogue.rendered import Sample

UNITS = {"s": 1, "m": 60, "h": 3600}


@dataclass(frozen=True, order=True)
class Due:
    """When a secret is to be replaced. Seconds; late is negative while there is time."""

    late: float
    path: str
    owner: str
    provider: str
    text: str

    @property
    def is_late(self) -> bool:
        return self.late > 0


def dues(known: Mapping[str, Mapping[str, Any]], now: float) -> list[Due]:
    """Of all secrets that are known of, the latest first."""
    return sorted((due(path, about, now) for path, about in known.items()), reverse=True)


def due(path: str, about: Mapping[str, Any], now: float) -> Due:
    custom = about.get("custom_metadata") or {}
    owner, provider = str(custom.get("owner", "(none)")), str(custom.get("provider", ""))
    began = began_at(about, custom)
    every = duration(str(custom.get("rotate_every", "")))
    if every is None:
        return Due(now - began, path, owner, provider, "has no schedule")
    if not about.get("current_version"):
        return Due(now - began, path, owner, provider, "was never written")
    late = now - began - every
    return Due(late, path, owner, provider, f"was to be replaced {days(late)} ago" if late > 0 else f"in {days(-late)}")


def began_at(about: Mapping[str, Any], custom: Mapping[str, Any]) -> float:
    """When it was replaced last: as was noted, or else when its version was written."""
    current = (about.get("versions") or {}).get(str(about.get("current_version")), {})
    written = current.get("created_time") or about.get("updated_time") or about.get("created_time")
    for text in (custom.get("rotated_at"), written):
        found = moment(str(text or ""))
        if found is not None:
            return found
    return 0.0


def moment(text: str) -> float | None:
    """Seconds of the wall clock, of RFC 3339. Vault has nanoseconds, which Python does not read."""
    text = re.sub(r"(\.\d{6})\d+", r"\1", text.replace("Z", "+00:00"))
    text = re.sub(r"\.\d{1,5}(?=[+-])", "", text)  # before 3.11 three or six digits only
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        return None


def duration(text: str) -> float | None:
    found = re.fullmatch(r"([0-9]+)([smh])", text)
    return float(found[1]) * UNITS[found[2]] if found else None


def days(seconds: float) -> str:
    return f"{seconds / 86400:.1f} days"


def samples(found: list[Due]) -> Iterator[Sample]:
    """As series for Prometheus; 0 while there is time, so that the alert ends."""
    for each in found:
        yield Sample("secrets_catalogue_overdue_seconds", {"path": each.path, "owner": each.owner}, max(0.0, each.late))
