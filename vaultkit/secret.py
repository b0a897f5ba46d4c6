"""What the client hands out: a secret, with what Vault said about its life."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NoReturn

from .frozen import frozen
from .lifetime import Clock, Moment


@dataclass(frozen=True, repr=False, eq=False, slots=True)
class Secret:
    """A secret as Vault gave it. Its `repr` shows no value (P1)."""

    engine: str
    """The section of config.ini that it belongs to."""
    name: str
    """Its path (KV) or role (database), below the mount."""
    data: Mapping[str, Any]
    """The values, read-only at every depth: all threads share them. `copy.deepcopy(secret.data)` may be changed."""
    version: int | None = None
    """KV: counts up, and starts again at 1 when the secret was deleted with its metadata and written anew."""
    created_time: str | None = None
    """KV: when this version was written."""
    lease_id: str | None = None
    """Dynamic: the lease, which Vault revokes with the token."""
    last_rotation: str | None = None
    """Static: when Vault last set the password."""
    revision: int = 0
    """Counts up whenever it changes: what was built with a lower one, such as a database connection, is outdated."""
    stale: bool = False
    """Vault could not be asked when it was time to (K4)."""
    expires: Moment | None = None
    """When the lease ends, or the password rotates; None for KV."""
    clock: Clock | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "data", frozen(self.data))

    @property
    def ttl(self) -> float | None:
        """Seconds left, counted down live and never below 0; None where nothing expires (KV)."""
        return None if self.expires is None or self.clock is None else self.expires.left(self.clock)

    def confirmed(self) -> Secret:
        """This secret, no longer stale."""
        return replace(self, stale=False) if self.stale else self

    def says_the_same_as(self, other: Secret | None) -> bool:
        """Whether a program that uses `other` may go on unchanged."""
        return other is not None and self._content() == other._content()

    def _content(self) -> tuple[object, ...]:
        return (self.data, self.version, self.created_time, self.lease_id, self.last_rotation)

    def __deepcopy__(self, _: object) -> Secret:
        return self

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Secret does not travel to another process: read it there, or hand over its data")

    def __repr__(self) -> str:
        facts = {"version": self.version, "ttl": None if self.ttl is None else round(self.ttl), "stale": self.stale}
        shown = "".join(f", {name}={value}" for name, value in facts.items() if value is not None)
        return f"Secret({self.engine} {self.name}{shown})"
