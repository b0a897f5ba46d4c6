"""How far a rotation has come: a secret beside the one that is rotated, written with check-and-set, without values."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any

from catalogue.keepers import JOURNAL
from catalogue.kv import Kv

MAKING, WAITING, RETIRING, DONE = "making", "waiting", "retiring", "done"
"""A key is made and written; all are to have it; the old one is taken back; nothing is left to do."""


@dataclass(frozen=True, kw_only=True)
class Rotation:
    """One rotation. Times are those of the wall clock, in seconds: other machines read them."""

    state: str
    holder: str
    """Which process is at it."""
    until: float
    """When another may take over, if nothing is heard of the holder."""
    label: str
    """Of the new key."""
    old: str
    from_version: int
    version: int = 0
    seen_at: float = 0.0
    """When all had been seen with the new version; 0 until then."""


class Journal:
    """The rotations, by the path of the secret."""

    def __init__(self, kv: Kv) -> None:
        self._kv = kv
        self._versions: dict[str, int] = {}
        """What was read or written last: whoever was overtaken since can write no more."""

    def read(self, path: str) -> Rotation | None:
        """The last one; None if there has been none."""
        found = self._kv.read(f"{JOURNAL}/{path}")
        self._versions[path] = found.number
        return rotation_of(found.values) if found.values else None

    def write(self, path: str, rotation: Rotation) -> Rotation:
        """Raises: Overtaken, if another process is at it now."""
        self._versions[path] = self._kv.write(f"{JOURNAL}/{path}", asdict(rotation), over=self._versions[path])
        return rotation


def rotation_of(values: dict[str, Any]) -> Rotation:
    known = {each.name for each in fields(Rotation)}
    return Rotation(**{key: value for key, value in values.items() if key in known})
