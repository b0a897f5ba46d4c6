"""What is known of a token that was issued, and of whom it is for. Never the token itself.

    intended ─▶ issued ─▶ delivered       its accessor is known; it may have been handed over
        └─────────┴──────────┴─▶ condemned ─▶ forgotten      it is being revoked; it is over

Each arrow is a change of the ledger that happens once, whoever else works on the same account. So whoever finds one of
these states after a crash knows what to do: only what was delivered can be in somebody's hands.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, NamedTuple

from issuer.errors import NoSuchService
from vaultkit.errors import UnexpectedResponse

INTENDED, ISSUED, DELIVERED, CONDEMNED = "intended", "issued", "delivered", "condemned"
STATES = (INTENDED, ISSUED, DELIVERED, CONDEMNED)
TENANT = re.compile(r"[a-z0-9_]{1,64}")
SERVICE = re.compile(r"[a-z0-9_][a-z0-9_-]{0,127}")
ROTATE_AT_SHARE_OF_TTL = 4 / 5


class Service(NamedTuple):
    """A service of a tenant. Together they are the name of its account, of its entity's alias, and of its secrets.

    Small letters, since Vault does not tell aliases apart by case; and no hyphen in a tenant, for the first one to part
    the two: else the service b-c of a and the service c of a-b would be one.
    """

    tenant: str
    service: str

    @classmethod
    def of(cls, tenant: str, service: str) -> Service:
        """Raises: NoSuchService, for what cannot be one."""
        if not TENANT.fullmatch(tenant):
            raise NoSuchService(f"tenant {tenant[:80]!a}: expected small letters, digits and _, and no hyphen")
        if not SERVICE.fullmatch(service):
            raise NoSuchService(f"service {service[:80]!a}: expected small letters, digits, _ and -")
        return cls(tenant, service)

    @classmethod
    def named(cls, name: str) -> Service:
        """The service of this name. Raises: NoSuchService."""
        return cls.of(*name.partition("-")[::2])

    @property
    def name(self) -> str:
        return f"{self.tenant}-{self.service}"


def checked_key(key: str) -> str:
    """A key tells the tokens of one service apart. Raises: NoSuchService."""
    if not SERVICE.fullmatch(key):
        raise NoSuchService(f"key {key[:80]!a}: expected small letters, digits, _ and -")
    return key


@dataclass(frozen=True, kw_only=True)
class Issue:
    """One token, as the ledger knows it. Points in time are in seconds since 1970."""

    id: str
    """Stands in the token's metadata as well, as `issue`."""
    key: str
    state: str
    policies: tuple[str, ...]
    ttl: float
    asked: float
    """When it was intended."""
    ends: float
    """When its TTL is over, unless its holder has renewed it."""
    accessor: str = field(default="", repr=False)
    replaces: str = ""
    """The id of the one that it takes the place of, while both are there."""

    @property
    def due(self) -> float:
        """When to rotate it: at 4/5 of its life."""
        return self.ends - self.ttl * (1 - ROTATE_AT_SHARE_OF_TTL)


Issues = tuple[Issue, ...]
FIELDS = {each.name for each in fields(Issue)}


def to_json(issues: Issues) -> dict[str, Any]:
    return {"issues": [asdict(issue) for issue in issues]}


def from_json(data: Mapping[str, Any]) -> Issues:
    """Raises: UnexpectedResponse, for what no issuer has written."""
    try:
        return tuple(_issue(each) for each in data["issues"])
    except (KeyError, TypeError, ValueError):
        raise UnexpectedResponse("this is no account of issued tokens") from None


def _issue(facts: Mapping[str, Any]) -> Issue:
    issue = Issue(**{**facts, "policies": tuple(facts["policies"])})
    if issue.state not in STATES:
        raise ValueError(issue.state)
    return issue


# ── Looking at an account, and changing it ───────────────────────────────────────────────────────────────────────────


def with_issue(issues: Issues, new: Issue) -> Issues:
    """These, and `new`, which takes the place of the one with its id."""
    if find(issues, new.id) is None:
        return (*issues, new)
    return tuple(new if issue.id == new.id else issue for issue in issues)


def without(issues: Issues, ids: Iterable[str]) -> Issues:
    gone = set(ids)
    return tuple(issue for issue in issues if issue.id not in gone)


def condemned(issues: Issues, chosen: Callable[[Issue], bool]) -> Issues:
    return tuple(replace(issue, state=CONDEMNED) if chosen(issue) else issue for issue in issues)


def only_condemned(issues: Issues) -> Issues:
    return tuple(issue for issue in issues if issue.state == CONDEMNED)


def prolonged(issues: Issues, ends: Mapping[str, float]) -> Issues:
    """With other ends, by id."""
    return tuple(replace(issue, ends=ends.get(issue.id, issue.ends)) for issue in issues)


def find(issues: Issues, id: str) -> Issue | None:
    return next((issue for issue in issues if issue.id == id), None)


def successor_of(issues: Issues, issue: Issue) -> Issue | None:
    """The one that is to take its place, if it is being rotated."""
    return next((other for other in issues if other.replaces == issue.id and other.state != CONDEMNED), None)


def in_force(issues: Issues, key: str) -> Issue | None:
    """The one that was delivered under this key; of two, the one that the other replaces."""
    delivered = [issue for issue in issues if issue.key == key and issue.state == DELIVERED]
    ids = {issue.id for issue in delivered}
    return next((issue for issue in delivered if issue.replaces not in ids), None)
