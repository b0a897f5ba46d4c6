"""What callers are told: the type, the status, the headers, and nothing that came from below."""

from __future__ import annotations

import json
import re
import typing

import pytest

from gateway.bodies import BodyRefused
from gateway.identity import GroupsOverage, IdentityError, KeysUnavailable, NoToken, TenantUnknown, TokenRefused
from gateway.paths import PathRefused
from gateway.problems import KINDS, Problem, problem_of
from gateway.tokens import Description
from vaultkit import errors as kit

CANARY = "policy-of-the-canary"

CASES: list[tuple[Exception, str, int]] = [
    (NoToken(), "token-missing", 401),
    (TokenRefused("expired"), "token-refused", 401),
    (TenantUnknown(), "tenant-unknown", 403),
    (GroupsOverage(), "groups-overage", 403),
    (KeysUnavailable(), "keys-unavailable", 503),
    (PathRefused("a reason"), "path-refused", 400),
    (BodyRefused(400, [{"pointer": "", "detail": "x"}]), "body-malformed", 400),
    (BodyRefused(413, [{"pointer": "", "detail": "x"}]), "body-too-large", 413),
    (BodyRefused(422, [{"pointer": "/data", "detail": "x"}]), "body-refused", 422),
    (kit.PermissionDenied(CANARY, "read", CANARY), "forbidden-by-vault", 403),
    (kit.SecretNotFound(CANARY), "secret-not-found", 404),
    (kit.SecretDeleted(CANARY), "secret-deleted", 404),
    (kit.RequestRejected(CANARY), "vault-refused", 502),
    (kit.LoginRefused(CANARY), "vault-login-refused", 503),
    (kit.LoginUnavailable(CANARY), "vault-unreachable", 503),
    (kit.VaultSealed(CANARY), "vault-sealed", 503),
    (kit.VaultStandby(CANARY), "vault-standby", 503),
    (kit.VaultOverloaded(CANARY), "vault-overloaded", 503),
    (kit.VaultUnreachable(CANARY), "vault-unreachable", 503),
    (kit.VaultTimeout(CANARY), "vault-timeout", 504),
    (kit.UnexpectedResponse(CANARY), "vault-nonsense", 502),
    (kit.ResponseTooLarge(CANARY), "vault-answer-too-long", 502),
    (kit.ClientClosed(CANARY), "gateway-ending", 503),
    (kit.ConfigurationError([CANARY]), "internal", 500),
    (kit.VaultError(CANARY), "internal", 500),
    (ValueError(CANARY), "internal", 500),
    (KeyError(CANARY), "internal", 500),
]


@pytest.mark.parametrize(("error", "kind", "status"), CASES, ids=lambda value: getattr(value, "kind", str(value))[:30])
def test_error_has_its_problem(error: Exception, kind: str, status: int) -> None:
    """RFC 9457, with the request's id, and without a word of what was said below."""
    problem = problem_of(error)
    body = json.loads(problem.body("req-1"))
    assert (problem.kind, problem.status) == (kind, status)
    assert body["type"] == f"urn:vault-gateway:problem:{kind}"
    assert (body["status"], body["instance"], body["title"]) == (status, "req-1", KINDS[kind].title)
    assert CANARY not in f"{body} {problem.headers} {problem!r} {problem}"
    assert problem.headers["Content-Type"] == "application/problem+json"
    assert problem.headers["Cache-Control"] == "no-store"
    assert ("Retry-After" in problem.headers) == (status in (503, 504))
    assert ("WWW-Authenticate" in problem.headers) == (status == 401)


def all_below(kind: type[Exception]) -> list[type[Exception]]:
    return [kind, *(each for child in kind.__subclasses__() for each in all_below(child))]


def test_every_error_was_thought_of() -> None:
    """Of the kit's tree and of ours: none but what is a mistake of the gateway's ends as `internal`."""
    known = {type(error) for error, *_ in CASES}
    inner = {kit.NoAnswer, kit.Refused, kit.VaultUnavailable, IdentityError}
    kit_errors = [each for each in all_below(kit.VaultError) if each.__module__ == "vaultkit.errors"]
    assert {*kit_errors, *all_below(IdentityError)} - inner <= known


@pytest.mark.parametrize(
    ("asked_for", "told"), [(0.0, "2"), (1.0, "2"), (7.2, "8"), (10_000.0, "300"), (float("inf"), "300")]
)
def test_vault_may_ask_for_more_peace(asked_for: float, told: str) -> None:
    """Whole seconds, within reason."""
    error = kit.VaultOverloaded(CANARY)
    error.retry_after = asked_for
    assert problem_of(error).headers["Retry-After"] == told


def test_challenge_is_that_of_bearer_tokens() -> None:
    """RFC 6750: no error code where there was no token."""
    assert problem_of(NoToken()).headers["WWW-Authenticate"] == 'Bearer realm="vault"'
    for description in typing.get_args(Description):
        challenge = problem_of(TokenRefused(description)).headers["WWW-Authenticate"]
        assert challenge == f'Bearer realm="vault", error="invalid_token", error_description="{description}"'
        assert re.fullmatch(r"[ !#-\[\]-~]+", description)
    assert problem_of(Problem("forbidden")).headers["WWW-Authenticate"].endswith('error="insufficient_scope"')


def test_errors_say_where() -> None:
    body = json.loads(problem_of(BodyRefused(422, [{"pointer": "/data/a", "detail": "twice"}])).body("1"))
    assert body["errors"] == [{"pointer": "/data/a", "detail": "twice"}]


def test_path_is_told_its_rule() -> None:
    assert json.loads(problem_of(PathRefused("a reason")).body("1"))["detail"] == "a reason"


def test_headers_can_be_added() -> None:
    problem = Problem("precondition-failed", "of version 3", headers={"ETag": '"4-abc"'})
    assert problem.headers["ETag"] == '"4-abc"'
    assert problem_of(problem) is problem


def test_kinds_are_slugs() -> None:
    """They are part of what callers write programs against."""
    assert all(re.fullmatch(r"[a-z]+(-[a-z]+)*", kind) for kind in KINDS)
    assert all(400 <= kind.status < 600 for kind in KINDS.values())
