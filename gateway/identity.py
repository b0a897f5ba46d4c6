"""A JWT in, a caller out: whose it is, of which tenant, until when.

    verifier = Verifier(settings.identity, keys, settings.gateway.tenants)
    caller = verifier.peek(headers) or await verifier.verify(headers)

`headers` are the values of all Authorization headers. A JWT that was verified is remembered for a moment by its hash;
forgotten as soon as it ends or its key is withdrawn.
"""

from __future__ import annotations

import hashlib
import time
from collections import OrderedDict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jwt

from vaultkit.lifetime import Clock, Moment

from .keys import KeySet
from .settings import TENANT, IdentitySettings
from .tokens import (
    GroupsOverage,
    IdentityError,
    KeysUnavailable,
    NoToken,
    TenantUnknown,
    TokenRefused,
    bearer_token,
    check_claims,
    is_name,
    named_key,
    signed_claims,
)

__all__ = [
    "Caller",
    "GroupsOverage",
    "IdentityError",
    "KeysUnavailable",
    "NoToken",
    "TenantUnknown",
    "TokenRefused",
    "Verifier",
]


@dataclass(frozen=True, kw_only=True, eq=False)
class Caller:
    """Who is calling, as the identity provider vouches for it. The same object for as long as the JWT is remembered."""

    subject: str
    username: str
    tenant: str
    expires: int
    """Seconds since 1970."""
    kid: str
    claims: Mapping[str, Any] = field(repr=False)
    """All of them, read-only at every depth."""
    token: str = field(repr=False)
    """The JWT itself, for the Vault that takes it."""
    digest: str = field(repr=False)
    """Its SHA-256 in hexadecimal: what stands for it wherever something is kept by caller."""


class Remembered(NamedTuple):
    caller: Caller
    key: jwt.PyJWK
    until: Moment


class Verifier:
    """Verifies JWTs of one provider; it belongs to one event loop."""

    def __init__(
        self, settings: IdentitySettings, keys: KeySet, tenants: Collection[str], *, clock: Clock = time
    ) -> None:
        self._settings = settings
        self._keys = keys
        self._tenants = frozenset(tenants)
        self._clock = clock
        self._remembered: OrderedDict[bytes, Remembered] = OrderedDict()

    def __len__(self) -> int:
        """How many verified tokens are remembered."""
        return len(self._remembered)

    def peek(self, authorization: Sequence[bytes]) -> Caller | None:
        """The caller, if this very token was verified a moment ago, and its key is there still."""
        if len(authorization) != 1:
            return None
        digest = hashlib.sha256(authorization[0][7:]).digest()  # behind "Bearer "
        known = self._remembered.get(digest)
        if known is None or authorization[0][:7].lower() != b"bearer ":
            return None
        if known.until.has_come(self._clock) or self._keys.find(known.caller.kid) is not known.key:
            del self._remembered[digest]
            return None
        self._remembered.move_to_end(digest)
        return known.caller

    async def verify(self, authorization: Sequence[bytes]) -> Caller:
        """The caller. Raises: an IdentityError, without the frames below, whose variables hold the token."""
        try:
            return await self._verify(bearer_token(authorization))
        except IdentityError as error:
            bare = error.with_traceback(None)
        try:
            raise bare
        finally:
            del bare  # or error and frame would keep each other, and the token, until the next garbage collection

    async def _verify(self, token: bytes) -> Caller:
        kid, algorithm = named_key(token, self._settings.algorithms)
        key = self._keys.find(kid) or await self._keys.wanted(kid)
        if key is None:
            raise TokenRefused("key") if self._keys.ready else KeysUnavailable()
        if key.algorithm_name != algorithm:
            raise TokenRefused("algorithm")
        claims = signed_claims(token, key)
        now = int(self._clock.time())
        check_claims(claims, self._settings, now)
        caller = self._caller(token, kid, claims)
        self._remember(caller, key, caller.expires - now)
        return caller

    def _caller(self, token: bytes, kid: str, claims: dict[str, Any]) -> Caller:
        tenant, username = claims.get(self._settings.tenant_claim), claims.get(self._settings.name_claim)
        if not isinstance(tenant, str) or not TENANT.fullmatch(tenant) or tenant not in self._tenants:
            raise TenantUnknown
        if claims.get("_claim_names") or claims.get("hasgroups"):
            raise GroupsOverage
        return Caller(
            subject=claims["sub"],
            username=username if is_name(username) else claims["sub"],
            tenant=tenant,
            expires=claims["exp"],
            kid=kid,
            claims=claims,
            token=token.decode("ascii"),
            digest=hashlib.sha256(token).hexdigest(),
        )

    def _remember(self, caller: Caller, key: jwt.PyJWK, left: float) -> None:
        seconds = min(left, self._settings.remember)
        if seconds > 0 and self._settings.remember_most:
            until = Moment.now(self._clock).after(seconds)
            self._remembered[bytes.fromhex(caller.digest)] = Remembered(caller, key, until)
            while len(self._remembered) > self._settings.remember_most:
                self._remembered.popitem(last=False)
