"""Bad JWTs over HTTP: always 401, never 500, in words of RFC 6750.

The rules one by one are in tests/unit/test_gateway_identity.py.
"""

from __future__ import annotations

import random
import re
import time
from typing import Any

import pytest

from tests.attacked import ALICE, MALLORY, NOBODY, OSCAR, VALUES, Attacked, reply, request
from tests.backends import Backend
from tests.e2e.gateway_security.conftest import asked_of_vault
from tests.identity_provider import base64url, encoded
from tests.issuing import ShiftedClock
from tests.unit.test_gateway_identity import BAD_CLAIMS, BAD_HEADERS

APP = "/vault/secrets/app"
INVALID = re.compile(r'Bearer realm="vault", error="invalid_token", error_description="[a-zA-Z ]+"', re.ASCII)


def with_headers(*authorization: bytes) -> bytes:
    lines = b"".join(b"Authorization: " + each + b"\r\n" for each in authorization)
    return b"GET /vault/secrets/app HTTP/1.1\r\nHost: gateway\r\n" + lines + b"\r\n"


def test_every_bad_jwt_is_a_401(gateway: Attacked, backend: Backend) -> None:
    """All that the unit tests know, over the wire: and Vault hears of none of them."""
    since = backend.audit.position()
    corpus = [gateway.jwt(ALICE, **claims) for claims, _ in BAD_CLAIMS]
    corpus += [gateway.provider.token(header) for header, _ in BAD_HEADERS]
    for token in corpus:
        found = gateway.ask(APP, jwt=token)
        assert (found.status, found.kind) == (401, "token-refused")
        assert INVALID.fullmatch(found.headers["www-authenticate"])
        assert "canary" not in found.body.decode()
    assert asked_of_vault(backend, since) == []


def test_no_changed_jwt_is_taken(gateway: Attacked) -> None:
    """Two hundred good ones with a character changed, lost, doubled or moved: by a fixed seed."""
    chance, good = random.Random(14), gateway.jwt()
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.=+/ ,\"'"
    for _ in range(200):
        at = chance.randrange(len(good) - 2)  # the last character of a signature has bits that mean nothing
        changed = chance.choice([
            good[:at] + chance.choice(alphabet) + good[at + 1 :], good[:at] + good[at + 1 :],
            good[:at] + good[at] + good[at:],
            good[:at] + good[at + 1] + good[at] + good[at + 2 :],
        ])  # fmt: skip
        if changed != good:
            assert reply(gateway.send(with_headers(b"Bearer " + changed.encode()))).status == 401


@pytest.mark.parametrize(
    ("authorization", "said"),
    [
        ([], None), ([b""], None), ([b"Basic YWxpY2U6cHc="], None), ([b"Bearer"], "malformed"),
        ([b"Bearer "], "malformed"),
        ([b"Bearer hvs.CAESIJlWh"], "malformed"), ([b"Bearer \xff\xfe"], "malformed"), ([b"Digest x"], None),
        ([b"Bearer " + b"a" * 9000], "too long"), ([b"Bearer a.b.c", b"Basic x"], "more than one Authorization header"),
    ],
    ids=lambda value: str(value)[:30],
)  # fmt: skip
def test_challenge_says_what_is_missing(gateway: Attacked, authorization: list[bytes], said: str | None) -> None:
    """No token: no error is named (RFC 6750, section 3.1)."""
    found = reply(gateway.send(with_headers(*authorization)))
    named = f', error="invalid_token", error_description="{said}"' if said else ""
    assert (found.status, found.headers["www-authenticate"]) == (401, f'Bearer realm="vault"{named}')


def test_one_token_in_the_one_place(gateway: Attacked) -> None:
    """Two headers are refused, equal ones too; what stands in the query, a cookie, a body or a trailer is no token."""
    token = gateway.jwt().encode()
    assert reply(gateway.send(with_headers(b"bearer " + token))).json["data"] == {"value": VALUES["acme"]}
    assert reply(gateway.send(with_headers(b"Bearer " + token, b"Bearer " + token))).status == 401
    for raw in (
        request(f"{APP}?access_token={token.decode()}"),
        request(APP, Cookie=f"Authorization=Bearer {token.decode()}"),
        request(APP, X_Authorization=f"Bearer {token.decode()}", Proxy_Authorization=f"Bearer {token.decode()}"),
        request(APP, "POST", body=b"access_token=" + token),
        b"PUT /vault/secrets/app HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nAuthorization: Bearer "
        + token + b"\r\n\r\n",
    ):  # fmt: skip
        assert reply(gateway.send(raw)).kind == "token-missing"
    found = gateway.ask(f"{APP}?access_token={token.decode()}")
    assert (found.kind, token in found.body) == ("query-refused", False)


@pytest.mark.parametrize(
    ("person", "kind"),
    [
        (NOBODY, "forbidden"), ({"groups": "acme-readers"}, "forbidden"), ({"groups": None}, "forbidden"),
        ({"groups": ["globex-readers"]}, "forbidden"),
        ({"groups": ["{tenant}-readers", "*", "acme-readers "]}, "forbidden"),
        ({"groups": ["acme-readers"] * 201}, "forbidden"),
        ({"tenant": "initech"}, "tenant-unknown"), (OSCAR, "forbidden"),
        ({"tenant": "acme/../globex"}, "tenant-unknown"), ({"tenant": ["acme", "globex"]}, "tenant-unknown"),
        ({"tenant": "globex"}, "forbidden"), ({"hasgroups": True}, "groups-overage"),
    ],
    ids=lambda value: str(value)[:50],
)  # fmt: skip
def test_without_a_role_nobody_is_told_what_there_is(
    gateway: Attacked, backend: Backend, person: dict[str, Any], kind: str
) -> None:
    """The same 403 for what is there and what is not, and Vault is not asked."""
    since, jwt = backend.audit.position(), gateway.jwt(person)
    found = [gateway.ask(f"/vault/secrets/{path}", jwt=jwt) for path in ("app", "nothing-there")]
    assert {(each.status, each.kind, each.headers["content-length"]) for each in found} == {
        (403, kind, found[0].headers["content-length"])
    }
    assert asked_of_vault(backend, since) == []


@pytest.mark.parametrize("mode", ["service", "caller"])
def test_one_subject_has_the_right_of_the_jwt_at_hand(gateway: Attacked, as_callers: Attacked, mode: str) -> None:
    """Two JWTs of one person with another tenant, and a third without a group, by turns: none borrows from another."""
    running = gateway if mode == "service" else as_callers
    here, there = running.jwt(), running.jwt({**MALLORY, "sub": "5f1c9a"})
    nothing = running.jwt(groups=["globex-writers"])
    for _ in range(100):
        assert running.ask(APP, jwt=here).json["data"] == {"value": VALUES["acme"]}
        assert running.ask(APP, jwt=there).json["data"] == {"value": VALUES["globex"]}
        assert running.ask(APP, jwt=nothing).status == 403


def test_jwt_that_ends_is_over_at_once(gateway: Attacked, monkeypatch: pytest.MonkeyPatch) -> None:
    """Though it was remembered: exp and the leeway of 30 s are the end, for which a clock is set forward."""
    clock = ShiftedClock()
    monkeypatch.setattr(gateway.gateway._verifier, "_clock", clock)
    token = gateway.jwt(exp=int(time.time()) + 20)
    statuses = [gateway.ask(APP, jwt=token).status]
    for seconds in (25, 30):
        clock.set_forward(seconds)
        statuses.append(gateway.ask(APP, jwt=token).status)
    assert statuses == [200, 200, 401]


def test_withdrawn_key_ends_its_tokens_here_too(gateway: Attacked) -> None:
    """Within keys_refresh (here by hand): also one that is remembered. Afterwards there is a new key."""
    provider, keys = gateway.provider, gateway.gateway._keys
    old, token = provider.current, gateway.jwt()
    assert gateway.ask(APP, jwt=token).status == 200
    pair = provider.pairs.pop(old)
    keys._take({})
    try:
        assert gateway.ask(APP, jwt=token).status in (401, 503)
    finally:
        provider.pairs[old] = pair
        keys._take({old: provider.jwk(old)})
    assert gateway.ask(APP, jwt=token).status == 200


def test_renewal_is_the_operators(gateway: Attacked, as_callers: Attacked) -> None:
    """Once however many ask; the answer holds neither token nor accessor. As callers no token is held."""
    tell = "/vault/token/renew"
    assert {gateway.ask(tell, "POST", jwt=gateway.jwt(who)).status for who in (ALICE, MALLORY, NOBODY)} == {403}
    found = gateway.ask(tell, "POST", jwt=gateway.jwt(OSCAR))
    assert set(found.json) == {"ttl", "renewable", "policies"}
    assert as_callers.ask(tell, "POST", jwt=as_callers.jwt(OSCAR)).kind == "token-not-renewable"


def test_signature_of_another_algorithm_is_none(gateway: Attacked) -> None:
    """alg none with the signature of a good one, and without."""
    _, claims, signature = gateway.jwt().split(".")
    none = encoded({"alg": "none", "kid": "key-1"})
    for token in (f"{none}.{claims}.{signature}", f"{none}.{claims}.{base64url(b'x')}", f"{none}.{claims}."):
        assert gateway.ask(APP, jwt=token).status == 401
