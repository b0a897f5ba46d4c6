"""The rules for a JWT, one by one, on the strict side of RFC 7519, 8725 and 9068.

Times are whole seconds, a key belongs to one algorithm, and no error holds a token or a claim.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Literal, TypeGuard

import jwt

from vaultkit.frozen import frozen

from .settings import IdentitySettings

LONGEST_TOKEN = 8192
LONGEST_NAME = 255
"""Of a kid, a sub, a username."""
COMPACT = re.compile(rb"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")
TYPES = ("jwt", "at+jwt", "application/at+jwt")

Description = Literal[
    "more than one Authorization header",
    "too long",
    "malformed",
    "type",
    "algorithm",
    "critical header",
    "key",
    "signature",
    "issuer",
    "audience",
    "expired",
    "not yet valid",
    "lives too long",
    "times",
    "subject",
]
"""All that a caller is told of a token that was refused: fit for a header, and for the label of a metric."""


# ── Errors ───────────────────────────────────────────────────────────────────────────────────────────────────────────


class IdentityError(Exception):
    """Who is calling is not known, or nobody of ours."""


class NoToken(IdentityError):
    """There is no bearer token."""


class TokenRefused(IdentityError):
    """The token is not accepted."""

    def __init__(self, description: Description) -> None:
        super().__init__(description)
        self.description: Description = description


class TenantUnknown(IdentityError):
    """The token is a good one, and of no tenant that is served here."""


class GroupsOverage(IdentityError):
    """The provider left the groups out, as Entra does with more than 200, and said where to ask for them."""


class KeysUnavailable(IdentityError):
    """The keys of the provider are not known now, so no token can be verified."""


# ── From the header of the request to the claims ─────────────────────────────────────────────────────────────────────


def bearer_token(authorization: Sequence[bytes]) -> bytes:
    """The token of the one header there must be. Raises: NoToken, TokenRefused."""
    if len(authorization) > 1:
        raise TokenRefused("more than one Authorization header")
    scheme, _, token = (authorization[0] if authorization else b"").partition(b" ")
    if scheme.lower() != b"bearer":
        raise NoToken
    if len(token) > LONGEST_TOKEN:
        raise TokenRefused("too long")
    if not COMPACT.fullmatch(token):
        raise TokenRefused("malformed")
    return token


def named_key(token: bytes, algorithms: Collection[str]) -> tuple[str, str]:
    """The `kid` and the `alg` of the token's header, which nobody vouches for yet. Raises: TokenRefused.

    All else that a header may say of keys (`jwk`, `jku`, `x5u`, …) is ignored.
    """
    header = _header_of(token)
    if "crit" in header or "b64" in header:
        raise TokenRefused("critical header")
    kind, algorithm, kid = header.get("typ", "JWT"), header.get("alg"), header.get("kid")
    if not isinstance(kind, str) or kind.lower() not in TYPES:
        raise TokenRefused("type")
    if not isinstance(algorithm, str) or algorithm not in algorithms:
        raise TokenRefused("algorithm")
    if not is_name(kid):
        raise TokenRefused("key")
    return kid, algorithm


def signed_claims(token: bytes, key: jwt.PyJWK) -> dict[str, Any]:
    """The claims, which the key has signed. Raises: TokenRefused."""
    try:
        payload: bytes | None = jwt.PyJWS().decode_complete(token, key, [key.algorithm_name])["payload"]
    except jwt.PyJWTError:
        payload = None
    if payload is None:
        raise TokenRefused("signature")
    claims = _object(payload)
    if claims is None:
        raise TokenRefused("malformed")
    return claims


def check_claims(claims: Mapping[str, Any], settings: IdentitySettings, now: int) -> None:
    """Whether they are of our provider, for us, of this time, and somebody's. Raises: TokenRefused."""
    if claims.get("iss") != settings.issuer:
        raise TokenRefused("issuer")
    audience = claims.get("aud")
    if settings.audience not in (audience if isinstance(audience, list) else [audience]):
        raise TokenRefused("audience")
    _check_times(claims, settings, now)
    if not is_name(claims.get("sub")):
        raise TokenRefused("subject")


def _check_times(claims: Mapping[str, Any], settings: IdentitySettings, now: int) -> None:
    expires, issued, begins = claims.get("exp"), claims.get("iat", now), claims.get("nbf", now)
    if not (_is_whole(expires) and _is_whole(issued) and _is_whole(begins)):
        raise TokenRefused("times")
    if expires <= now - settings.leeway:
        raise TokenRefused("expired")
    if max(issued, begins) > now + settings.leeway:
        raise TokenRefused("not yet valid")
    if expires - min(issued, now) > settings.max_life + (0 if "iat" in claims else settings.leeway):
        raise TokenRefused("lives too long")


def _is_whole(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def is_name(value: object) -> TypeGuard[str]:
    return isinstance(value, str) and 0 < len(value) <= LONGEST_NAME and value.isprintable()


def _header_of(token: bytes) -> dict[str, Any]:
    try:
        header = _object(jwt.utils.base64url_decode(token.partition(b".")[0]))
    except ValueError:
        header = None
    if header is None:
        raise TokenRefused("malformed")
    return header


def _object(raw: bytes) -> dict[str, Any] | None:
    """The JSON object, or None; not an error, which would hold the bytes."""
    try:
        found = json.loads(raw.decode("utf-8"))
        return frozen(found) if isinstance(found, dict) else None
    except (ValueError, RecursionError):
        return None
