"""Who is calling, as OpenBao's own identity provider says it; and what its store does to values."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Iterator
from decimal import Decimal
from typing import Any

import hvac
import pytest
import requests

from gateway.bodies import BodyRefused, parse
from gateway.identity import Caller, TokenRefused, Verifier
from gateway.keys import KeySet
from gateway.roles import groups_in
from gateway.settings import IdentitySettings, LimitsSettings
from tests.backends import Backend
from tests.identity_provider import AUDIENCE, bearer

KEY = ROLE = "test-gateway-identity"
PASSWORD = "correct-horse"
TEMPLATE = (
    '{"groups": {{identity.entity.groups.names}}, "username": {{identity.entity.name}},'
    ' "tenant": {{identity.entity.metadata.tenant}}, "nbf": {{time.now}}}'
)
SHORT = {"keys_refresh": 0.2, "keys_cooldown": 0.2}
"""Seconds, where the defaults are minutes."""

TokenOf = Callable[[], str]


@pytest.fixture
def token_of_alice(root: hvac.Client) -> Iterator[TokenOf]:
    """Makes JWTs of alice, who writes for acme, by OpenBao's identity tokens."""
    write, name = root.write_data, KEY
    write(f"identity/oidc/key/{KEY}", data={"algorithm": "ES256", "allowed_client_ids": "*", "verification_ttl": "1h"})
    claims = {"key": KEY, "client_id": AUDIENCE, "ttl": "5m", "template": TEMPLATE}
    write(f"identity/oidc/role/{ROLE}", data=claims)
    policy = 'path "identity/oidc/token/*" { capabilities = ["read"] }'
    root.sys.create_or_update_policy(name, policy)
    root.sys.enable_auth_method("userpass", path=name)
    write(f"auth/{name}/users/alice", data={"password": PASSWORD, "policies": name})
    accessor = root.sys.list_auth_methods()["data"][f"{name}/"]["accessor"]
    entity = write("identity/entity", data={"name": f"{name}-alice", "metadata": {"tenant": "acme"}})["data"]["id"]
    alias = {"name": "alice", "canonical_id": entity, "mount_accessor": accessor}
    write("identity/entity-alias", data=alias)
    group = write("identity/group", data={"name": f"{name}-writers", "member_entity_ids": [entity]})["data"]["id"]

    def token() -> str:
        alice = hvac.Client(url=root.url)
        alice.auth.userpass.login("alice", PASSWORD, mount_point=name)
        return str(alice.read(f"identity/oidc/token/{ROLE}")["data"]["token"])

    yield token
    for path in (f"identity/group/id/{group}", f"identity/entity/id/{entity}", f"identity/oidc/role/{ROLE}"):
        root.delete(path)
    root.delete(f"identity/oidc/key/{KEY}")
    root.sys.disable_auth_method(name)
    root.sys.delete_policy(name)


def issuer_of(backend: Backend) -> str:
    url = f"{backend.url}/v1/identity/oidc/.well-known/openid-configuration"
    return str(requests.get(url, timeout=30).json()["issuer"])


def using(backend: Backend, use: Callable[[Verifier, KeySet], Awaitable[Any]], **changes: Any) -> Any:
    async def run() -> Any:
        settings = IdentitySettings(issuer=issuer_of(backend), **changes)
        keys = KeySet(settings)
        await keys.start()
        try:
            return await use(Verifier(settings, keys, ["acme"]), keys)
        finally:
            await keys.close()

    return asyncio.run(run())


async def eventually(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "it did not come true"
        await asyncio.sleep(0.02)


def test_openbao_vouches_for_callers(backend: Backend, token_of_alice: TokenOf) -> None:
    """Its keys are found by discovery, and its claims are those that roles are made of."""

    async def use(verifier: Verifier, _: KeySet) -> Caller:
        return await verifier.verify(bearer(token_of_alice()))

    caller = using(backend, use)
    assert (caller.username, caller.tenant) == (f"{KEY}-alice", "acme")
    assert list(groups_in(caller.claims, ("groups",))) == [f"{KEY}-writers"]


def test_rotated_key_is_there_beforehand(backend: Backend, root: hvac.Client, token_of_alice: TokenOf) -> None:
    """OpenBao publishes the next key ahead: what it signs is accepted without a fetch; the last one is good still."""

    async def use(verifier: Verifier, keys: KeySet) -> None:
        before = token_of_alice()
        assert (await verifier.verify(bearer(before))).tenant == "acme"
        root.write_data(f"identity/oidc/key/{KEY}/rotate", data={})
        after = await verifier.verify(bearer(token_of_alice()))
        assert after.kid != (await verifier.verify(bearer(before))).kid
        assert keys.fetches == 1

    using(backend, use)


def test_withdrawn_key_ends_its_tokens(backend: Backend, root: hvac.Client, token_of_alice: TokenOf) -> None:
    """The emergency drill: a key that has leaked is rotated away, and nothing that it signed is good any more.

    Neither what is verified anew nor what is remembered; what the new key signs is.
    """

    async def use(verifier: Verifier, _: KeySet) -> None:
        leaked = bearer(token_of_alice())
        await verifier.verify(leaked)
        assert verifier.peek(leaked) is not None
        root.write_data(f"identity/oidc/key/{KEY}/rotate", data={"verification_ttl": "0s"})
        await eventually(lambda: verifier.peek(leaked) is None)
        with pytest.raises(TokenRefused, match="key"):
            await verifier.verify(leaked)
        assert (await verifier.verify(bearer(token_of_alice()))).tenant == "acme"

    using(backend, use, **SHORT)


# ── What the store does to values ────────────────────────────────────────────────────────────────────────────────────

TEXTS = [
    "null", "[null]", "[]", "{}", '"\\u0000"', "1.0", "1e2", "5e-324", "9007199254740992", '"\\ud83d\\ude00"', '{"":1}',
    "9007199254740993", "1152921504606846976", "12345678901234567.0", "0.10000000000000000001", "1e-400",
    '"\\ud800"', '{"a":1,"a":2}',
]  # fmt: skip


def exactly(text: str) -> Any:
    """JSON as it was written: with all digits of a number, and all pairs of an object."""
    return json.loads(text, parse_int=Decimal, parse_float=Decimal, object_pairs_hook=tuple)


@pytest.mark.parametrize("text", TEXTS)
def test_what_is_refused_is_what_would_change(root: hvac.Client, text: str) -> None:
    """The server takes them all; those that it gives back as they were sent are those that the gateway lets pass."""
    body = f'{{"data": {{"v": {text}}}}}'
    url, headers = f"{root.url}/v1/my-vault-app-kv/data/tests/values", {"X-Vault-Token": root.token}
    requests.post(url, data=body.encode(), headers=headers, timeout=30).raise_for_status()
    answer = dict(exactly(requests.get(url, headers=headers, timeout=30).text))
    is_kept = dict(answer["data"])["data"] == dict(exactly(body))["data"]
    try:
        parse(body.encode(), LimitsSettings())
        passes = True
    except BodyRefused:
        passes = False
    assert passes == is_kept
