"""What is asked of the server about the tokens of one token role. They are known by their accessors here.

An accessor looks up, renews and revokes a token, also one that is still wrapped, and does not tell it.
https://developer.hashicorp.com/vault/docs/concepts/tokens#token-accessors
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from issuer.errors import RoleUnfit
from issuer.issues import Issue, Service
from issuer.ledger import Ask
from vaultkit.errors import PermissionDenied, RequestRejected
from vaultkit.transport.answers import expect

NO_SUCH_ACCESSOR = "invalid accessor"
"""With 400 from OpenBao, with 403 from Vault."""


@dataclass(frozen=True)
class Wrapped:
    """A token in its wrapping: whoever has the wrapping token can take it out, once."""

    wrapping_token: str = field(repr=False)
    accessor: str = field(repr=False)
    creation_path: str


@dataclass(frozen=True)
class Seen:
    """What the server says of a token that is alive."""

    accessor: str = field(repr=False)
    issue: str
    service: str
    """TENANT-SERVICE. Both are empty for one that no issuer has made."""
    ours: bool
    """Whether it is of the role."""
    ttl: float
    used: bool
    """Whether its holder has renewed it: so it was unwrapped, and is good."""


class Tokens:
    """The tokens of one role."""

    def __init__(self, ask: Ask, role: str) -> None:
        self._ask = ask
        self.role = role
        self._max_ttl = 0.0

    def max_ttl(self) -> float:
        """Of the role, in seconds; asked for once. Raises: RoleUnfit, for one that would give more than it should."""
        if not self._max_ttl:
            answer = self._ask(lambda api: api.auth.token.read_role(self.role))
            facts = expect(answer, "data", dict)
            most = max(_number(facts, "token_explicit_max_ttl"), _number(facts, "explicit_max_ttl"))
            if facts.get("orphan") is not True or most <= 0:
                raise RoleUnfit(
                    f"the token role {self.role} has orphan = {facts.get('orphan')}, token_explicit_max_ttl = {most};"
                    " expected true and a limit: ./setup-vault.sh issuer makes one"
                )
            self._max_ttl = float(most)
        return self._max_ttl

    def create(self, service: Service, issue: Issue, wrap_ttl: float) -> Wrapped:
        """A new token, wrapped, with what it is for in its metadata and, as alias, in its entity."""
        answer = self._ask(
            lambda api: api.auth.token.create(
                role_name=self.role,
                policies=list(issue.policies),
                ttl=f"{issue.ttl:.0f}s",
                meta={"issue": issue.id, "service": service.name, "key": issue.key},
                entity_alias=service.name,
                display_name=service.name,
                wrap_ttl=f"{wrap_ttl:.0f}s",
            )
        )
        info = expect(answer, "wrap_info", dict)
        token, accessor = expect(info, "token", str), expect(info, "wrapped_accessor", str)
        return Wrapped(token, accessor, expect(info, "creation_path", str))

    def look_up(self, accessor: str) -> Seen | None:
        """What the server says of it; None where it is over."""
        try:
            answer = self._ask(lambda api: api.auth.token.lookup_accessor(accessor))
        except (RequestRejected, PermissionDenied) as error:
            if NO_SUCH_ACCESSOR in str(error):
                return None
            raise
        return self._seen(accessor, expect(answer, "data", dict))

    def renew(self, accessor: str, ttl: float) -> float:
        """Renew it; the seconds that it has now, fewer near its max TTL. Raises: Refused, where it is over."""
        body = {"accessor": accessor, "increment": f"{ttl:.0f}s"}
        answer = self._ask(lambda api: api.adapter.post("/v1/auth/token/renew-accessor", json=body))
        return float(expect(expect(answer, "auth", dict), "lease_duration", int))

    def revoke(self, accessor: str) -> None:
        """Revoke it, and all that it was used for; one that is over already is no error."""
        try:
            self._ask(lambda api: api.auth.token.revoke_accessor(accessor))
        except (RequestRejected, PermissionDenied) as error:
            if NO_SUCH_ACCESSOR not in str(error):
                raise

    def all_alive(self) -> Iterator[Seen]:
        """Every token of the role, whatever the ledger says. A request for each token on the server: not in passing."""
        answer = self._ask(lambda api: api.adapter.list("/v1/auth/token/accessors"))
        for accessor in expect(expect(answer, "data", dict), "keys", list):
            seen = self.look_up(str(accessor))
            if seen is not None and seen.ours:
                yield seen

    def _seen(self, accessor: str, facts: dict[str, Any]) -> Seen:
        ours = facts.get("role") == self.role
        meta = (facts.get("meta") or {}) if ours else {}
        return Seen(
            accessor,
            issue=str(meta.get("issue", "")),
            service=str(meta.get("service", "")),
            ours=ours,
            ttl=expect(facts, "ttl", int),
            used="last_renewal_time" in facts,
        )


def _number(facts: dict[str, Any], key: str) -> int:
    return expect(facts, key, int) if key in facts else 0
