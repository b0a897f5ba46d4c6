"""What goes wrong, as callers see it: RFC 9457 problems, each with a type that stays.

    raise Problem("secret-not-found")
    problem = problem_of(error)     # whatever was raised below
    problem.status, problem.headers, problem.body(request_id)

What Vault said, and what an error of ours says, stays inside: policies and addresses are none of a caller's business.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from vaultkit.errors import (
    ClientClosed,
    LoginRefused,
    LoginUnavailable,
    NoAnswer,
    PermissionDenied,
    Refused,
    ResponseTooLarge,
    SecretDeleted,
    SecretNotFound,
    UnexpectedResponse,
    VaultOverloaded,
    VaultSealed,
    VaultStandby,
    VaultTimeout,
    VaultUnavailable,
)

from .bodies import BodyRefused
from .callers import CallerRefused
from .identity import GroupsOverage, KeysUnavailable, NoToken, TenantUnknown, TokenRefused
from .paths import PathRefused
from .store import PreconditionNeeded, VersionConflict
from .threads import Busy

TYPE = "urn:vault-gateway:problem:"
CHALLENGE = 'Bearer realm="vault"'
LONGEST_RETRY_AFTER_SECONDS = 300


class Kind(NamedTuple):
    """What is the same in each problem of a type."""

    status: int
    title: str
    retry_after: int = 0
    """Seconds until another try is worth its while; 0 says nothing of it."""


KINDS: dict[str, Kind] = {
    # Who
    "token-missing": Kind(401, "A bearer token is required"),
    "token-refused": Kind(401, "The bearer token is not accepted"),
    "tenant-unknown": Kind(403, "The token is of no tenant that is served here"),
    "groups-overage": Kind(403, "The token names too many groups to hold them"),
    "keys-unavailable": Kind(503, "The keys of the identity provider are not known now", 5),
    # May
    "forbidden": Kind(403, "No role of the caller allows this"),
    "forbidden-by-vault": Kind(403, "Vault's policies do not allow this"),
    # What was asked
    "path-refused": Kind(400, "The path is not a canonical one"),
    "query-refused": Kind(400, "The query is not understood"),
    "header-refused": Kind(400, "A header is not understood"),
    "route-not-found": Kind(404, "There is no such route"),
    "method-not-allowed": Kind(405, "The route has no such method"),
    "media-type-unsupported": Kind(415, "The body must be application/json"),
    "headers-too-large": Kind(431, "The headers are too long"),
    "body-malformed": Kind(400, "The body cannot be read"),
    "body-too-slow": Kind(408, "The body did not come in time"),
    "body-too-large": Kind(413, "The body is too long"),
    "body-refused": Kind(422, "The body is not what may be written"),
    # What was found
    "secret-not-found": Kind(404, "There is no such secret"),
    "secret-deleted": Kind(404, "The secret, or this version of it, was deleted"),
    "version-not-found": Kind(404, "There is no such version"),
    "version-not-reached": Kind(503, "The version that was asked for is not there yet", 1),
    "precondition-failed": Kind(412, "The secret is not at the version that was named"),
    "precondition-required": Kind(428, "The version that is replaced must be named"),
    "token-not-renewable": Kind(409, "There is no token that could be renewed"),
    # Not now
    "gateway-busy": Kind(503, "The gateway has as much to do as it can take", 1),
    "gateway-ending": Kind(503, "The gateway is being shut down", 1),
    "audit-unavailable": Kind(503, "The audit trail cannot be written", 5),
    "vault-sealed": Kind(503, "Vault is sealed", 30),
    "vault-standby": Kind(503, "Vault has no active node that answers", 2),
    "vault-overloaded": Kind(503, "Vault asks for fewer requests", 2),
    "vault-unreachable": Kind(503, "Vault cannot be reached", 5),
    "vault-login-refused": Kind(503, "Vault does not let the gateway in", 30),
    "vault-timeout": Kind(504, "Vault did not answer in time", 5),
    "vault-nonsense": Kind(502, "What answered is not Vault"),
    "vault-answer-too-long": Kind(502, "Vault's answer is longer than is allowed"),
    "vault-refused": Kind(502, "Vault refused what the gateway asked"),
    "internal": Kind(500, "The gateway made a mistake"),
}

KIND_OF: dict[type[Exception], str] = {
    NoToken: "token-missing",
    TokenRefused: "token-refused",
    TenantUnknown: "tenant-unknown",
    GroupsOverage: "groups-overage",
    KeysUnavailable: "keys-unavailable",
    PathRefused: "path-refused",
    PermissionDenied: "forbidden-by-vault",
    SecretDeleted: "secret-deleted",
    SecretNotFound: "secret-not-found",
    LoginRefused: "vault-login-refused",
    LoginUnavailable: "vault-unreachable",
    VaultSealed: "vault-sealed",
    VaultStandby: "vault-standby",
    VaultOverloaded: "vault-overloaded",
    VaultTimeout: "vault-timeout",
    VaultUnavailable: "vault-unreachable",
    UnexpectedResponse: "vault-nonsense",
    ResponseTooLarge: "vault-answer-too-long",
    NoAnswer: "vault-unreachable",
    VersionConflict: "precondition-failed",
    PreconditionNeeded: "precondition-required",
    Busy: "gateway-busy",
    Refused: "vault-refused",
    ClientClosed: "gateway-ending",
}
"""An error has the kind of the nearest of its classes that stands here; all others are `internal`."""

KIND_OF_BODY = {400: "body-malformed", 413: "body-too-large", 422: "body-refused"}


class Problem(Exception):
    """An answer that is none of the good ones."""

    def __init__(
        self,
        kind: str,
        detail: str = "",
        *,
        errors: Sequence[Mapping[str, object]] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(kind)
        self.kind, self.detail, self.errors = kind, detail, tuple(errors)
        self.status, self.title, retry_after = KINDS[kind]
        self.headers = {"Content-Type": "application/problem+json", "Cache-Control": "no-store", **_challenge(kind)}
        if retry_after:
            self.headers["Retry-After"] = str(retry_after)
        self.headers.update(headers or {})

    def as_dict(self, request_id: str) -> dict[str, Any]:
        """The members of the problem; for the parts of a batch, too."""
        members = {"type": TYPE + self.kind, "title": self.title, "status": self.status, "instance": request_id}
        optional = {"detail": self.detail, "errors": list(self.errors)}
        return {**members, **{name: value for name, value in optional.items() if value}}

    def body(self, request_id: str) -> bytes:
        return json.dumps(self.as_dict(request_id), separators=(",", ":")).encode() + b"\n"


def problem_of(error: Exception) -> Problem:
    """What a caller is told of an error; nothing of the text of those that come from below."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, BodyRefused):
        return Problem(KIND_OF_BODY[error.status], errors=error.errors)
    kind = next((KIND_OF[each] for each in type(error).__mro__ if each in KIND_OF), "internal")
    if isinstance(error, TokenRefused):
        return token_refused(error.description)
    if isinstance(error, CallerRefused):
        return token_refused("refused by Vault") if error.jwt_is_bad else Problem("forbidden-by-vault")
    if isinstance(error, PathRefused):
        return Problem(kind, str(error))
    asked_for = math.ceil(min(getattr(error, "retry_after", 0.0), LONGEST_RETRY_AFTER_SECONDS))
    later = KINDS[kind].retry_after and asked_for > KINDS[kind].retry_after
    return Problem(kind, headers={"Retry-After": str(asked_for)} if later else None)


def token_refused(description: str) -> Problem:
    """RFC 6750: what is wrong with the token, in ASCII and in words of our own."""
    challenge = f'{CHALLENGE}, error="invalid_token", error_description="{description}"'
    return Problem("token-refused", description, headers={"WWW-Authenticate": challenge})


def _challenge(kind: str) -> dict[str, str]:
    """RFC 6750, section 3: without a token no error is named; a right that is missing is called a scope."""
    if kind == "forbidden":
        return {"WWW-Authenticate": f'{CHALLENGE}, error="insufficient_scope"'}
    return {"WWW-Authenticate": CHALLENGE} if KINDS[kind].status == 401 else {}
