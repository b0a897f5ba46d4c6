"""A JWT in, a caller out: a corpus of bad ones, keys that come and go, and what is remembered.

Against a provider that does as it is told, on a real socket, and a clock that moves when it is told to.
"""

from __future__ import annotations

import asyncio
import gc
import hashlib
import hmac
import json
import logging
import os
import time
import tracemalloc
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

from gateway.identity import Caller, GroupsOverage, KeysUnavailable, NoToken, TenantUnknown, TokenRefused, Verifier
from gateway.key_source import key_of
from gateway.keys import PATIENCE_SECONDS, KeySet
from gateway.roles import groups_in
from tests.fakes import FakeClock
from tests.identity_provider import WITHOUT, Provider, base64url, bearer, encoded, signature_by
from tests.servers import Answer, respond, truncated

TENANTS = ("acme", "globex")
DAY = 86_400
Use = Callable[[Verifier, KeySet], Awaitable[Any]]


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that stands still for a second is no provider that does not answer."""
    for name in ("keys.PATIENCE_SECONDS", "keys.START_SECONDS", "key_source.TIMEOUT_SECONDS"):
        monkeypatch.setattr(f"gateway.{name}", 60.0)


@pytest.fixture
def provider() -> Iterator[Provider]:
    with Provider().running() as provider:
        yield provider


def using(provider: Provider, use: Use, *, clock: Any = time, **changes: Any) -> Any:
    """What `use` returns of a verifier with the provider's keys."""

    async def run() -> Any:
        settings = provider.settings(**changes)
        keys = KeySet(settings, clock=clock)
        await keys.start()
        try:
            return await use(Verifier(settings, keys, TENANTS, clock=clock), keys)
        finally:
            await keys.close()

    return asyncio.run(run())


def verified(provider: Provider, headers: list[bytes], **changes: Any) -> Caller:
    async def use(verifier: Verifier, _: KeySet) -> Caller:
        return await verifier.verify(headers)

    caller = using(provider, use, **changes)
    assert isinstance(caller, Caller)
    return caller


def refusal(provider: Provider, headers: list[bytes], **changes: Any) -> str:
    with pytest.raises(TokenRefused) as refused:
        verified(provider, headers, **changes)
    return refused.value.description


# ── Good ones ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_caller_is_who_the_token_says(provider: Provider) -> None:
    token = provider.token()
    caller = verified(provider, bearer(token))
    assert (caller.subject, caller.username, caller.tenant, caller.kid) == ("5f1c9a", "alice", "acme", "key-1")
    assert (caller.token, caller.digest) == (token, hashlib.sha256(token.encode()).hexdigest())
    assert caller.expires == caller.claims["exp"]
    assert list(groups_in(caller.claims, ("groups",))) == ["acme-writers", "acme-readers"]


@pytest.mark.parametrize(
    ("header", "claims"),
    [
        ({"typ": "JWT"}, {}),
        ({"typ": "at+jwt"}, {}),
        ({"typ": "application/AT+JWT"}, {}),
        ({"jku": "http://127.0.0.1:1/keys", "x5u": "x", "jwk": {"kty": "oct", "k": "eA"}}, {}),
        ({}, {"aud": ["other", "secrets-gateway"]}),
        ({}, {"nbf": WITHOUT}),
        ({}, {"iat": WITHOUT, "nbf": WITHOUT}),
        ({}, {"exp": int(time.time()) + 3600, "iat": int(time.time()) - 3590}),
        ({}, {"sub": "x" * 255}),
        ({}, {"groups": WITHOUT}),
    ],
)
def test_good_tokens_are_accepted(provider: Provider, header: dict[str, Any], claims: dict[str, Any]) -> None:
    assert verified(provider, bearer(provider.token(header, **claims))).tenant == "acme"


def test_scheme_has_no_case(provider: Provider) -> None:
    token = provider.token().encode()
    assert verified(provider, [b"bearer " + token]).username == verified(provider, [b"BEARER " + token]).username


@pytest.mark.parametrize("username", [WITHOUT, "", 7, "a\nb", "x" * 256, None])
def test_name_that_is_none_is_the_subject(provider: Provider, username: Any) -> None:
    assert verified(provider, bearer(provider.token(username=username))).username == "5f1c9a"


@pytest.mark.parametrize("algorithm", ["RS256", "PS256"])
def test_rsa_keys_verify_too(provider: Provider, algorithm: str) -> None:
    pair = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    jwk = {**RSAAlgorithm.to_jwk(pair.public_key(), as_dict=True), "kid": "rsa"}
    provider.answer(respond(200, {"keys": [jwk]}))
    token = signature_by(pair, algorithm, provider.claims(), kid="rsa")
    assert verified(provider, bearer(token), algorithms=(algorithm,)).kid == "rsa"


# ── Bad ones ─────────────────────────────────────────────────────────────────────────────────────────────────────────

NOW = int(time.time())
BAD_CLAIMS: list[tuple[dict[str, Any], str]] = [
    ({"iss": WITHOUT}, "issuer"),
    ({"iss": "http://127.0.0.1:1"}, "issuer"),
    ({"iss": ["http://127.0.0.1:1"]}, "issuer"),
    ({"aud": WITHOUT}, "audience"),
    ({"aud": "other"}, "audience"),
    ({"aud": "secrets-gateway-2"}, "audience"),
    ({"aud": []}, "audience"),
    ({"aud": {"secrets-gateway": 1}}, "audience"),
    ({"aud": ["other", ["secrets-gateway"]]}, "audience"),
    ({"exp": WITHOUT}, "times"),
    ({"exp": None}, "times"),
    ({"exp": str(NOW + 300)}, "times"),
    ({"exp": NOW + 300.5}, "times"),
    ({"exp": True}, "times"),
    ({"exp": [NOW + 300]}, "times"),
    ({"exp": float("inf")}, "times"),
    ({"exp": float("nan")}, "times"),
    ({"exp": NOW - 60}, "expired"),
    ({"exp": -1}, "expired"),
    ({"exp": -(10**300)}, "expired"),
    ({"exp": 10**300}, "lives too long"),
    ({"exp": NOW + DAY}, "lives too long"),
    ({"exp": NOW + DAY, "iat": NOW - DAY}, "lives too long"),
    ({"exp": NOW + DAY, "iat": WITHOUT}, "lives too long"),
    ({"iat": "yesterday"}, "times"),
    ({"iat": NOW + 3000}, "not yet valid"),
    ({"nbf": NOW + 3000}, "not yet valid"),
    ({"nbf": 10**300}, "not yet valid"),
    ({"nbf": None}, "times"),
    ({"sub": WITHOUT}, "subject"),
    ({"sub": ""}, "subject"),
    ({"sub": 7}, "subject"),
    ({"sub": ["alice"]}, "subject"),
    ({"sub": "x" * 256}, "subject"),
    ({"sub": "a\r\nb"}, "subject"),
]
BAD_HEADERS: list[tuple[dict[str, Any], str]] = [
    ({"alg": "none"}, "algorithm"),
    ({"alg": "None"}, "algorithm"),
    ({"alg": "HS256"}, "algorithm"),
    ({"alg": "HS256", "kid": "unknown"}, "algorithm"),  # for which no key is sought
    ({"alg": "ES384"}, "algorithm"),
    ({"alg": "RS256"}, "algorithm"),
    ({"alg": WITHOUT}, "algorithm"),
    ({"alg": ["ES256"]}, "algorithm"),
    ({"alg": {}}, "algorithm"),
    ({"crit": ["exp"], "exp": 1}, "critical header"),
    ({"crit": []}, "critical header"),
    ({"b64": False}, "critical header"),
    ({"typ": "JWE"}, "type"),
    ({"typ": 7}, "type"),
    ({"typ": "logout+jwt"}, "type"),
    ({"kid": WITHOUT}, "key"),
    ({"kid": ""}, "key"),
    ({"kid": 1}, "key"),
    ({"kid": ["key-1"]}, "key"),
    ({"kid": "KEY-1"}, "key"),
    ({"kid": "../../dev/null"}, "key"),
    ({"kid": "' OR 1=1 --"}, "key"),
    ({"kid": "x" * 256}, "key"),
    ({"kid": "\x00"}, "key"),
]


@pytest.mark.parametrize(
    ("claims", "description"), BAD_CLAIMS, ids=[f"{what} {n}" for n, (_, what) in enumerate(BAD_CLAIMS)]
)
def test_bad_claims_are_refused(provider: Provider, claims: dict[str, Any], description: str) -> None:
    assert refusal(provider, bearer(provider.token(**claims))) == description


@pytest.mark.parametrize(("header", "description"), BAD_HEADERS, ids=str)
def test_bad_headers_are_refused(provider: Provider, header: dict[str, Any], description: str) -> None:
    assert refusal(provider, bearer(provider.token(header))) == description


def test_leeway_has_edges(provider: Provider) -> None:
    """Whoever is ahead, or behind, by up to the leeway is taken, and by a second more is not."""
    clock = FakeClock()
    now = int(clock.time())
    good: list[dict[str, Any]] = [{"exp": now - 4}, {"nbf": now + 5}, {"iat": now + 5}]
    bad: list[tuple[dict[str, Any], str]] = [
        ({"exp": now - 5}, "expired"),
        ({"nbf": now + 6}, "not yet valid"),
        ({"iat": now + 6}, "not yet valid"),
    ]
    for changes in good:
        assert verified(provider, bearer(provider.token(now=now, **changes)), clock=clock)
    for changes, description in bad:
        assert refusal(provider, bearer(provider.token(now=now, **changes)), clock=clock) == description


def test_unsigned_token_is_refused(provider: Provider) -> None:
    """Also one without the last part, or with the signature of another."""
    head, claims, signature = provider.token().split(".")
    none = encoded({"alg": "none", "kid": "key-1"})
    assert refusal(provider, bearer(f"{none}.{claims}.{signature}")) == "algorithm"
    assert refusal(provider, bearer(f"{none}.{claims}.")) == "malformed"
    assert refusal(provider, bearer(f"{head}.{claims}.AAAA")) == "signature"
    other = encoded(provider.claims(tenant="globex"))
    assert refusal(provider, bearer(f"{head}.{other}.{signature}")) == "signature"


def test_public_key_is_no_shared_secret(provider: Provider) -> None:
    """HS256, "signed" with what everybody can read."""
    public = provider.pairs["key-1"].public_key()
    forms = [
        public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo),
        json.dumps(provider.jwk("key-1")).encode(),
    ]
    for form in forms:
        signed = f"{encoded({'alg': 'HS256', 'kid': 'key-1'})}.{encoded(provider.claims())}"
        signature = base64url(hmac.new(form, signed.encode(), "sha256").digest())
        assert refusal(provider, bearer(f"{signed}.{signature}")) == "algorithm"


def test_key_in_the_header_is_ignored(provider: Provider) -> None:
    """Whoever brings his own key signs for nobody."""
    own = ec.generate_private_key(ec.SECP256R1())
    jwk = ECAlgorithm.to_jwk(own.public_key(), as_dict=True)
    token = signature_by(own, "ES256", provider.claims(), kid="key-1", jwk=jwk, jku="http://127.0.0.1:1/keys")
    assert refusal(provider, bearer(token)) == "signature"


@pytest.mark.parametrize("tenant", [WITHOUT, "", "other", "ACME", "acme\n", "acme/../globex", "*", ["acme"], None, 7])
def test_tenant_is_one_of_ours(provider: Provider, tenant: Any) -> None:
    with pytest.raises(TenantUnknown):
        verified(provider, bearer(provider.token(tenant=tenant)))


@pytest.mark.parametrize("claims", [{"_claim_names": {"groups": "src1"}}, {"hasgroups": True}], ids=str)
def test_groups_elsewhere_are_an_error(provider: Provider, claims: dict[str, Any]) -> None:
    with pytest.raises(GroupsOverage):
        verified(provider, bearer(provider.token(**claims)))


@pytest.mark.parametrize("headers", [[], [b""], [b"Basic YTpi"], [b"Bearer"[:5]], [b"Bear er"]], ids=str)
def test_no_token_is_no_bad_token(provider: Provider, headers: list[bytes]) -> None:
    with pytest.raises(NoToken):
        verified(provider, headers)


@pytest.mark.parametrize(
    ("headers", "description"),
    [
        ([b"Bearer a.b.c", b"Bearer a.b.c"], "more than one Authorization header"),
        ([b"Bearer"], "malformed"),
        ([b"Bearer "], "malformed"),
        ([b"Bearer hvs.token"], "malformed"),
        ([b"Bearer a.b.c"], "malformed"),
        ([b"Bearer a.b.c.d.e"], "malformed"),
        ([b"Bearer  a.b.c"], "malformed"),
        ([b"Bearer a.b.c\n"], "malformed"),
        ([b"Bearer \xff.\xff.\xff"], "malformed"),
        ([b"Bearer W10.W10.W10"], "malformed"),
        ([b"Bearer " + base64url(b"[" * 5000).encode() + b".a.b"], "malformed"),
        ([b"Bearer " + b"a" * 9000], "too long"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_garbage_is_refused(provider: Provider, headers: list[bytes], description: str) -> None:
    assert refusal(provider, headers) == description


def test_deep_claims_are_refused(provider: Provider) -> None:
    """Also where a key has signed them."""
    signed = f"{encoded({'alg': 'ES256', 'kid': 'key-1'})}.{base64url(b'[' * 3000)}"
    signature = ECAlgorithm(ECAlgorithm.SHA256).sign(signed.encode(), provider.pairs["key-1"])
    assert refusal(provider, bearer(f"{signed}.{base64url(signature)}")) == "malformed"


def test_nothing_shows_the_token(provider: Provider) -> None:
    """No repr, no error, no variable of a frame below, and no log (P1)."""
    token = provider.token(username="canary-name", secret="canary-claim")
    caller = verified(provider, bearer(token))
    assert token not in repr(caller)
    assert "canary-claim" not in repr(caller)
    with pytest.raises(TokenRefused) as refused:
        verified(provider, bearer(provider.token(exp=1, secret="canary-claim")))
    trace, frames = refused.value.__traceback__, []
    while trace is not None:
        frames.append(trace.tb_frame.f_code.co_name)
        trace = trace.tb_next
    assert frames[-1] == "verify"
    assert refused.value.__context__ is None


# ── Keys ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_new_key_is_fetched_when_wanted(provider: Provider) -> None:
    clock = FakeClock()

    async def use(verifier: Verifier, keys: KeySet) -> int:
        provider.current = provider.add_key("key-2")
        headers = bearer(provider.token(now=int(clock.time())))
        with pytest.raises(TokenRefused, match="key"):
            await verifier.verify(headers)
        clock.pass_time(30)
        assert (await verifier.verify(headers)).kid == "key-2"
        return keys.generation

    assert using(provider, use, clock=clock) == 2
    assert provider.fetches == 2


@pytest.mark.parametrize("answer", ["good", "bad"])
def test_unknown_keys_cost_one_fetch(provider: Provider, answer: str) -> None:
    """In 30 s, whether it succeeds or fails, and good tokens work meanwhile."""
    clock = FakeClock()

    async def use(verifier: Verifier, keys: KeySet) -> None:
        good = bearer(provider.token(now=int(clock.time())))
        if answer == "bad":
            provider.answer(respond(500))
        clock.pass_time(30)
        wanted = [keys.wanted(f"unknown-{number}") for number in range(10_000)]
        assert set(await asyncio.gather(*wanted)) == {None}
        clock.pass_time(29)
        assert await keys.wanted("one more") is None
        assert (await verifier.verify(good)).tenant == "acme"

    using(provider, use, clock=clock)
    assert provider.fetches == 2


def test_caller_waits_for_keys_a_moment(provider: Provider, monkeypatch: pytest.MonkeyPatch) -> None:
    """A provider that does not answer is waited for no longer than a second, and the loop goes on meanwhile."""
    monkeypatch.setattr("gateway.keys.PATIENCE_SECONDS", PATIENCE_SECONDS)
    clock = FakeClock()

    async def use(_: Verifier, keys: KeySet) -> float:
        provider.answer(provider.server.deaf())
        clock.pass_time(30)
        began, turns = time.monotonic(), 0
        wanted = asyncio.ensure_future(keys.wanted("unknown"))
        while not wanted.done():
            await asyncio.sleep(0.01)
            turns += 1
        assert turns > 1  # a loop that is held up comes round once
        provider.server.closing.set()
        return time.monotonic() - began

    assert 0.9 < using(provider, use, clock=clock) < 20


def test_no_keys_is_no_bad_token(provider: Provider) -> None:
    """A provider that was away at the start is asked again."""
    clock = FakeClock()
    headers = bearer(provider.token(now=int(clock.time())))
    jwks = provider.jwks()
    provider.answer(respond(503))

    async def use(verifier: Verifier, keys: KeySet) -> None:
        assert not keys.ready
        with pytest.raises(KeysUnavailable):
            await verifier.verify(headers)
        provider.answer(respond(200, jwks))
        clock.pass_time(30)
        assert (await verifier.verify(headers)).tenant == "acme"

    using(provider, use, clock=clock)


def test_keys_serve_on_for_an_hour(provider: Provider) -> None:
    """While the provider is away; then nobody can say what it has withdrawn."""
    clock = FakeClock()

    async def use(_: Verifier, keys: KeySet) -> None:
        provider.answer(respond(500))
        clock.pass_time(3600)
        assert keys.ready
        assert keys.find("key-1") is not None
        clock.pass_time(1)
        assert not keys.ready
        assert keys.find("key-1") is None

    using(provider, use, clock=clock)


@pytest.mark.parametrize(
    "answer",
    [
        respond(500),
        respond(302, Location="/other"),
        respond(200, b"<html>sign in</html>"),
        respond(200, b"[" * 100_000),
        respond(200, []),
        respond(200, {"keys": {}}),
        respond(200, {"keys": [{}] * 33}),
        respond(200, b'{"keys": []' + b" " * 300_000 + b"}"),
        truncated,
    ],
    ids=["500", "redirect", "html", "deep", "list", "no list", "many", "huge", "truncated"],
)
def test_bad_answer_changes_no_key(provider: Provider, answer: Answer, caplog: pytest.LogCaptureFixture) -> None:
    """It is one try, it is logged without what was answered, and the keys that are there serve on."""
    clock = FakeClock()

    async def use(_: Verifier, keys: KeySet) -> KeySet:
        provider.answer(answer)
        clock.pass_time(30)
        assert await keys.wanted("key-2") is None
        assert keys.find("key-1") is not None
        return keys

    with caplog.at_level(logging.WARNING):
        keys = using(provider, use, clock=clock)
    assert (keys.fetches, keys.failures, provider.fetches) == (2, 1, 2)
    assert "could not be fetched" in caplog.text
    assert "html" not in caplog.text


def test_keys_are_found_by_discovery(provider: Provider) -> None:
    provider.server.script = [
        respond(200, {"issuer": provider.issuer, "jwks_uri": f"{provider.issuer}/elsewhere?p=1"}),
        respond(200, provider.jwks()),
    ]
    assert verified(provider, bearer(provider.token()), jwks_url="").kid == "key-1"
    assert provider.server.requests == ["GET /.well-known/openid-configuration", "GET /elsewhere?p=1"]


@pytest.mark.parametrize(
    "changes", [{"issuer": "http://127.0.0.1:1"}, {"jwks_uri": "http://192.0.2.1/keys"}, {"jwks_uri": 7}], ids=str
)
def test_discovery_may_not_mislead(provider: Provider, changes: dict[str, Any]) -> None:
    """To the keys of another issuer, or to where anybody can change them."""
    found = {"issuer": provider.issuer, "jwks_uri": f"{provider.issuer}/keys", **changes}
    provider.answer(respond(200, found))
    with pytest.raises(KeysUnavailable):
        verified(provider, bearer(provider.token()), jwks_url="")
    assert provider.fetches == 1


def test_keys_are_fetched_in_the_background(provider: Provider) -> None:
    """Nobody needs to want one."""

    async def use(_: Verifier, keys: KeySet) -> None:
        provider.add_key("key-2")
        deadline = time.monotonic() + 30
        while keys.find("key-2") is None:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.02)

    using(provider, use, keys_refresh=0.1)


def test_keys_that_do_not_fit_are_left_out(provider: Provider) -> None:
    """A key verifies by one algorithm of the list, of its own family, and of enough strength."""
    good = provider.jwk("key-1")
    short = RSAAlgorithm.to_jwk(
        rsa.generate_private_key(public_exponent=65537, key_size=1024).public_key(), as_dict=True
    )
    p384 = ECAlgorithm.to_jwk(ec.generate_private_key(ec.SECP384R1()).public_key(), as_dict=True)
    bad = [
        {**good, "use": "enc"}, {**good, "key_ops": ["encrypt"]}, {**good, "key_ops": 5}, {**good, "alg": "RS256"},
        {**good, "alg": "HS256"}, {**good, "alg": None}, {**good, "alg": ["ES256"]}, {**good, "kty": "RSA"},
        {**good, "crv": "P-384"}, {**good, "x": "AAAA"}, {**good, "x": 5},
        {"kty": "oct", "k": "c2VjcmV0", "alg": "ES256"}, {"kty": "oct", "k": "c2VjcmV0"}, {}, short,
        {**p384, "alg": "ES256"},
    ]  # fmt: skip
    assert [jwk for jwk in bad if key_of(jwk, ("ES256", "RS256"))] == []
    unnamed = {name: value for name, value in good.items() if name not in ("alg", "use")}
    key, larger = key_of(unnamed, ("RS256", "ES256")), key_of(p384, ("ES256", "ES384"))
    assert key is not None
    assert larger is not None
    assert (key.algorithm_name, larger.algorithm_name) == ("ES256", "ES384")


# ── What is remembered ───────────────────────────────────────────────────────────────────────────────────────────────


def test_token_is_remembered_for_a_minute(provider: Provider) -> None:
    """By its hash, to the letter; and not past its end."""
    clock = FakeClock()

    async def use(verifier: Verifier, _: KeySet) -> None:
        now = int(clock.time())
        long, short = bearer(provider.token(now=now)), bearer(provider.token(now=now, exp=now + 20))
        assert verifier.peek(long) is None
        caller = await verifier.verify(long)
        await verifier.verify(short)
        assert verifier.peek(long) is caller
        assert verifier.peek([b"bearer" + long[0][6:]]) is caller
        assert verifier.peek([long[0] + b"x"]) is None
        assert verifier.peek([b"Basic  " + long[0][7:]]) is None
        assert verifier.peek(long * 2) is None
        assert verifier.peek([]) is None
        clock.pass_time(20)
        assert verifier.peek(short) is None
        clock.pass_time(39)
        assert verifier.peek(long) is caller
        clock.pass_time(1)
        assert verifier.peek(long) is None
        assert len(verifier) == 0

    using(provider, use, clock=clock)


def test_clock_that_is_set_prolongs_nothing(provider: Provider) -> None:
    clock = FakeClock()

    async def use(verifier: Verifier, _: KeySet) -> None:
        headers = bearer(provider.token(now=int(clock.time())))
        await verifier.verify(headers)
        clock.set_wall_clock(-3600)
        clock.pass_time(60)
        assert verifier.peek(headers) is None

    using(provider, use, clock=clock)


@pytest.mark.parametrize("left", ["nothing", "another", "another of the same name"])
def test_token_is_forgotten_with_its_key(provider: Provider, left: str) -> None:
    """As soon as the provider has withdrawn it, or put another in its place."""
    clock = FakeClock()

    async def use(verifier: Verifier, keys: KeySet) -> None:
        headers = bearer(provider.token(now=int(clock.time())))
        await verifier.verify(headers)
        assert verifier.peek(headers) is not None
        provider.withdraw("key-1")
        if left != "nothing":
            provider.add_key("key-1" if left.endswith("name") else "key-2")
        clock.pass_time(30)
        await keys.wanted("unknown")
        assert verifier.peek(headers) is None
        with pytest.raises((TokenRefused, KeysUnavailable)):
            await verifier.verify(headers)

    using(provider, use, clock=clock)


def test_same_keys_forget_nothing(provider: Provider) -> None:
    """A fetch that finds what was there is no change."""
    clock = FakeClock()

    async def use(verifier: Verifier, keys: KeySet) -> int:
        headers = bearer(provider.token(now=int(clock.time())))
        await verifier.verify(headers)
        clock.pass_time(30)
        await keys.wanted("unknown")
        assert verifier.peek(headers) is not None
        return keys.generation

    assert using(provider, use, clock=clock) == 1


def test_least_used_is_forgotten_first(provider: Provider) -> None:
    async def use(verifier: Verifier, _: KeySet) -> None:
        tokens = [bearer(provider.token(jti=number)) for number in range(4)]
        for headers in tokens[:3]:
            await verifier.verify(headers)
        verifier.peek(tokens[0])
        await verifier.verify(tokens[3])
        assert [verifier.peek(headers) is not None for headers in tokens] == [True, False, True, True]
        assert len(verifier) == 3

    using(provider, use, remember_most=3)


def test_memory_is_flat_after_random_tokens(provider: Provider) -> None:
    """100,000 of them leave nothing behind."""
    header = encoded({"alg": "ES256", "kid": "unknown"})

    async def use(verifier: Verifier, _: KeySet) -> int:
        async def some(count: int) -> None:
            for _ in range(count):
                headers = bearer(f"{header}.e30.{base64url(os.urandom(16))}")
                assert verifier.peek(headers) is None
                with pytest.raises(TokenRefused):
                    await verifier.verify(headers)

        await some(1000)
        gc.disable()  # what the tokens leave behind is to be gone without it
        tracemalloc.start()
        try:
            before = tracemalloc.get_traced_memory()[0]
            await some(3000)
            grown_by = tracemalloc.get_traced_memory()[0] - before
        finally:
            tracemalloc.stop()
            gc.enable()
        await some(96_000)
        assert len(verifier) == 0
        return grown_by

    assert using(provider, use) < 100_000
