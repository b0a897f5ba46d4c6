"""act_as = caller, on the real server: whose JWT comes is whose right counts, whatever is cached."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Coroutine, Iterator
from functools import partial
from typing import Any, Literal
from unittest.mock import patch

import hvac
import pytest

from gateway import VaultManager
from gateway.callers import MOST_LOGINS, CallerRefused, Callers
from gateway.places import Place
from gateway.rights import Rights
from gateway.store import VersionConflict
from tests.backends import Backend
from tests.fakes import FakeClock
from tests.gateway_identity import MOUNT, Jwt, People
from tests.integration.conftest import eventually
from tests.servers import ScriptedServer, hang_up, respond
from vaultkit.errors import PermissionDenied, SecretNotFound, VaultError, VaultUnavailable
from vaultkit.lifetime import Moment
from vaultkit.transport.connection import ConnectionSettings

Mode = Literal["inline", "batch"]
APP, OTHERS = Place("", MOUNT, "acme/app"), Place("", MOUNT, "globex/app")
FLIPS = 150


@pytest.fixture(scope="module")
def people(backend: Backend) -> People:
    people = People(backend.root)
    for place in (APP, OTHERS):
        backend.root.secrets.kv.v2.create_or_update_secret(place.path, {"of": place.path}, mount_point=MOUNT)
    return people


@pytest.fixture(params=["inline", "batch"])
def callers(request: pytest.FixtureRequest, backend: Backend) -> Iterator[Callers]:
    made = callers_of(backend, request.param)
    yield made
    made.close()


@pytest.fixture
def inline(backend: Backend) -> Iterator[Callers]:
    made = callers_of(backend, "inline")
    yield made
    made.close()


def callers_of(backend: Backend, mode: Mode) -> Callers:
    return Callers(ConnectionSettings(url=backend.url), mode=mode, mount="callers-jwt")


def manage(backend: Backend, test: Any) -> None:
    """Run a test with a manager whose own token may do all."""

    async def with_manager() -> None:
        async with VaultManager(addr=backend.url, token=backend.root_token) as manager:
            await test(manager)

    asyncio.run(with_manager())


async def outcome(question: Coroutine[Any, Any, Any]) -> Any:
    """What is answered, or the kind of error."""
    try:
        return await question
    except VaultError as error:
        return type(error)


# ── Whose right counts ───────────────────────────────────────────────────────────────────────────────────────────────


def test_caller_is_given_what_vault_allows_them(backend: Backend, people: People, callers: Callers) -> None:
    """Their tenant's, and not the other's, in both modes."""

    async def test(manager: VaultManager) -> None:
        alice = people.jwt("alice", "acme", "acme-readers")
        mallory = people.jwt("mallory", "globex", "globex-readers")
        for jwt, own, other in ((alice, APP, OTHERS), (mallory, OTHERS, APP)):
            ask = jwt.ask(callers)
            assert (await manager.read(own, ask=ask, fresh=True)).data["of"] == own.path
            assert await outcome(manager.read(other, ask=ask, fresh=True)) is PermissionDenied
            assert await outcome(manager.history(other, ask=ask)) is PermissionDenied
            assert await outcome(manager.write(own, {"no": "right"}, ask=ask)) is PermissionDenied

    manage(backend, test)


def test_writer_writes_as_themselves(backend: Backend, people: People, inline: Callers) -> None:
    """With conditions, of which the errors are told from those of a login; the audit log knows the tenant."""

    async def test(manager: VaultManager) -> None:
        ask = people.jwt("alice", "acme", "acme-writers").ask(inline)
        place = Place("", MOUNT, "acme/written")
        written = await manager.write(place, {"n": 1}, ask=ask, create_only=True)
        assert await outcome(manager.write(place, {"n": 2}, ask=ask, cas=7)) is VersionConflict
        assert (await manager.write(place, {"n": 2}, ask=ask, match=written.etag)).version == 2
        await manager.delete(place, ask=ask)
        backend.root.secrets.kv.v2.delete_metadata_and_all_versions(place.path, mount_point=MOUNT)

    manage(backend, test)
    assert f'"path":"{MOUNT}/data/acme/written"' in backend.audit.text()


def test_rights_do_not_flip(backend: Backend, people: People, callers: Callers) -> None:
    """Two JWTs of one person, with another tenant each, in turn and at once: each keeps its own right."""

    async def test(manager: VaultManager) -> None:
        first = people.jwt("flip", "acme", "acme-readers").ask(callers)
        second = people.jwt("flip", "globex", "globex-readers").ask(callers)

        async def once() -> None:
            answers = [
                await outcome(manager.read(place, ask=ask, fresh=True))
                for ask in (first, second)
                for place in (APP, OTHERS)
            ]
            assert answers[1:3] == [PermissionDenied] * 2
            assert [answers[0].data["of"], answers[3].data["of"]] == [APP.path, OTHERS.path]

        for _ in range(FLIPS // 5):
            await asyncio.gather(*(once() for _ in range(5)))

    manage(backend, test)


def test_groups_are_those_of_the_jwt(backend: Backend, people: People, inline: Callers) -> None:
    """A writer's old and a reader's new JWT of one person, in turn."""

    async def test(manager: VaultManager) -> None:
        place = Place("", MOUNT, "acme/turns")
        old = people.jwt("turner", "acme", "acme-writers").ask(inline)
        new = people.jwt("turner", "acme", "acme-readers").ask(inline)
        for number in range(1, 30):
            assert (await manager.write(place, {"n": number}, ask=old)).version == number
            assert await outcome(manager.write(place, {"n": 0}, ask=new)) is PermissionDenied

    manage(backend, test)


# ── A shared value, and the right to it ──────────────────────────────────────────────────────────────────────────────


def test_cached_value_is_given_to_whom_vault_allows(backend: Backend, people: People, inline: Callers) -> None:
    """One who may not read gets it neither while it is fresh nor with the ETag; nor one who may see metadata alone."""

    async def test(manager: VaultManager) -> None:
        rights = Rights()
        alice = people.jwt("alice", "acme", "acme-readers")
        auditor = people.jwt("auditor", "acme", "acme-auditors")
        mallory = people.jwt("mallory", "globex", "globex-readers")
        reading = await rights.read(alice.digest, APP, alice.ask(inline), manager)
        assert reading.data["of"] == APP.path
        assert (await manager.history(APP, ask=auditor.ask(inline)))[-1].version == reading.version
        for jwt in (auditor, mallory):
            assert manager.peek(APP) is not None
            assert await outcome(rights.prove(jwt.digest, APP, jwt.ask(inline), manager)) is PermissionDenied
            assert not rights.known(jwt.digest, APP)
            await rights.read(alice.digest, APP, alice.ask(inline), manager)

    manage(backend, test)


def test_right_is_proven_anew(backend: Backend, people: People, inline: Callers) -> None:
    """After half a minute (of a clock that is set) a right that was withdrawn is gone, for a cached value as well."""

    async def test(manager: VaultManager) -> None:
        clock = FakeClock()
        rights = Rights(clock=clock)
        alice = people.jwt("alice", "acme", "acme-readers")
        question = partial(rights.prove, alice.digest, APP, alice.ask(inline), manager)
        position = backend.audit.position()
        assert (await question()) is not None
        assert [await question() for _ in range(50)] == [None] * 50
        assert backend.audit.text(position).count(f'"path":"{MOUNT}/data/acme/app"') <= 3  # auth, request, response
        people.policy("callers-acme-read", {})
        try:
            clock.pass_time(29)
            assert (await question()) is None
            clock.pass_time(2)
            assert await outcome(question()) is PermissionDenied
        finally:
            people.policy("callers-acme-read", {"data/acme/*": ["read"], "metadata/acme/*": ["read", "list"]})
        assert (await question()) is not None

    manage(backend, test)


def test_right_to_what_is_not_there(backend: Backend, people: People, inline: Callers) -> None:
    """Vault tells only those who may read that there is nothing."""

    async def test(manager: VaultManager) -> None:
        rights = Rights()
        place = Place("", MOUNT, "acme/nothing")
        alice = people.jwt("alice", "acme", "acme-readers")
        mallory = people.jwt("mallory", "globex", "globex-readers")
        assert await outcome(rights.read(alice.digest, place, alice.ask(inline), manager)) is SecretNotFound
        assert rights.known(alice.digest, place)
        assert await outcome(rights.read(mallory.digest, place, mallory.ask(inline), manager)) is PermissionDenied

    manage(backend, test)


def test_one_caller_asks_once(backend: Backend, people: People, inline: Callers) -> None:
    """However many of their requests need the same right at once."""

    async def test(manager: VaultManager) -> None:
        rights, asked = Rights(), []
        alice = people.jwt("alice", "acme", "acme-readers")
        ask = alice.ask(inline)

        def counted(request: Any) -> Any:
            asked.append(1)
            return ask(request)

        await asyncio.gather(*(rights.prove(alice.digest, APP, counted, manager) for _ in range(200)))
        assert len(asked) == 1

    manage(backend, test)


def test_no_right_while_vault_is_away(backend: Backend, people: People) -> None:
    """A stale value goes to whom the right was proven lately, and to nobody else. (A server that hangs up.)"""

    async def test(manager: VaultManager) -> None:
        rights = Rights()
        alice, bob = people.jwt("alice", "acme", "acme-readers"), people.jwt("bob", "acme", "acme-readers")
        away = ScriptedServer(hang_up)
        with away.running():
            callers = Callers(ConnectionSettings(url=away.url))
            up = callers_of(backend, "inline")
            await rights.prove(alice.digest, APP, alice.ask(up), manager)
            assert await rights.prove(alice.digest, APP, alice.ask(callers), manager) is None
            answer = await outcome(rights.prove(bob.digest, APP, bob.ask(callers), manager))
            assert issubclass(answer, VaultUnavailable)
            callers.close()
            up.close()

    manage(backend, test)


def test_rights_are_bounded() -> None:
    """100,000 random callers leave what the limit allows. (No Vault: who asks is a fake.)"""

    async def test() -> None:
        rights = Rights(most=100)

        class Found:
            async def read(self, *_: Any, **__: Any) -> str:
                return "reading"

        for number in range(100_000):
            await rights.prove(f"digest-{number}", APP, lambda request: None, Found())  # type: ignore[arg-type]
        assert (len(rights), len(rights._asking)) == (100, 0)

    asyncio.run(test())


# ── Logins ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("broken", "jwt_is_bad"), [("signature", True), ("text", True), ("expired", True), ("no access", False)]
)
def test_refused_login_is_told_in_our_words(
    backend: Backend, people: People, callers: Callers, broken: str, jwt_is_bad: bool
) -> None:
    """Vault says 400 and why; its words, which name roles and policies, are not passed on."""

    async def test(manager: VaultManager) -> None:
        jwt = people.jwt("alice", "acme" if jwt_is_bad else "nowhere", "acme-readers")
        text = {"signature": jwt.text[:-8] + "AAAAAAAA", "text": "not-a-jwt"}.get(broken, jwt.text)
        expires = 1.0 if broken == "expired" else jwt.expires
        ask = Jwt(text, "acme", expires).ask(callers)
        with pytest.raises(CallerRefused) as refused:
            await manager.read(APP, ask=ask, fresh=True)
        assert refused.value.jwt_is_bad is jwt_is_bad
        assert "claim" not in str(refused.value)
        shown = "".join(traceback.TracebackException.from_exception(refused.value, capture_locals=True).format())
        assert text not in shown.replace(repr(text), "").partition("guarded")[2]

    manage(backend, test)


@pytest.mark.parametrize("mode", ["inline", "batch"])
def test_expired_jwt_is_refused_by_vault_too(backend: Backend, people: People, mode: Mode) -> None:
    """With no leeway: also where we were told that it lives."""
    jwt = people.jwt("alice", "acme", "acme-readers", ttl="1s")
    later = Jwt(jwt.text, jwt.tenant, jwt.expires + 3600)

    def refused() -> bool:
        callers = callers_of(backend, mode)  # anew, for it to hold no token
        try:
            later.ask(callers)(lambda api: api.adapter.get(APP.url("data")))
        except CallerRefused as error:
            return error.jwt_is_bad
        finally:
            callers.close()
        return False

    assert eventually(refused)


def test_batch_token_is_kept_for_its_caller(backend: Backend, people: People) -> None:
    """One login for many requests; not past a minute, not past the JWT's end. (A clock that is set.)"""
    clock = FakeClock()
    callers = Callers(ConnectionSettings(url=backend.url), mode="batch", mount="callers-jwt", clock=clock)
    jwt = people.jwt("alice", "acme", "acme-readers")

    def logins(expires: float) -> int:
        position = backend.audit.position()
        ask = callers.ask_as(jwt.text, jwt.digest, expires, "acme")
        for _ in range(3):
            ask(lambda api: api.adapter.get(APP.url("data")))
        lines = backend.audit.text(position).splitlines()
        return sum('"type":"request"' in line and '"path":"auth/callers-jwt/login"' in line for line in lines)

    seen = [logins(clock.time() + 300), logins(clock.time() + 300)]
    clock.pass_time(61)
    seen.append(logins(clock.time() + 5))
    clock.pass_time(6)
    with pytest.raises(CallerRefused):
        logins(clock.time())
    seen.append(logins(clock.time() + 300))
    assert seen == [1, 0, 1, 1]
    callers.close()
    assert len(callers) == 0


def test_batch_tokens_are_bounded() -> None:
    """100,000 random callers. (No Vault: the login is a fake.)"""
    clock = FakeClock()
    callers = Callers(ConnectionSettings(), mode="batch", clock=clock)
    with patch.object(callers, "_log_in", return_value=("token", Moment.now(clock).after(60))):
        for number in range(100_000):
            callers._token("jwt", f"digest-{number}", clock.time() + 300, "acme")
    assert len(callers) == MOST_LOGINS
    callers.close()


def test_callers_send_no_token_of_ours(monkeypatch: pytest.MonkeyPatch, people: People) -> None:
    """hvac would look for one in the environment; OpenBao refuses both at once. (A server that shows what came.)"""
    monkeypatch.setenv("VAULT_TOKEN", "token-of-the-gateway")
    seen: list[dict[str, str]] = []

    def show(handler: Any) -> None:
        seen.append({name: value for name, value in handler.headers.items() if name.startswith("X-Vault")})
        respond(200, {"data": {}})(handler)

    jwt = people.jwt("alice", "acme", "acme-readers")
    with ScriptedServer(show).running() as server:
        callers = Callers(ConnectionSettings(url=server.url))
        jwt.ask(callers)(lambda api: api.adapter.get("/v1/tenants/data/acme/app"))
        callers.close()
    assert sorted(seen[0]) == [
        "X-Vault-Inline-Auth-Namespace",
        "X-Vault-Inline-Auth-Parameter-jwt",
        "X-Vault-Inline-Auth-Parameter-role",
        "X-Vault-Inline-Auth-Path",
        "X-Vault-Request",
    ]


def test_namespace_of_the_secret_is_not_that_of_the_login(backend: Backend, people: People, inline: Callers) -> None:
    """A caller logs in where the gateway does, and is let into a namespace or not by policies of that place."""
    root = backend.root
    root.adapter.post("/v1/sys/namespaces/team-callers")
    team = hvac.Client(url=backend.url, token=backend.root_token, namespace="team-callers")
    team.sys.enable_secrets_engine("kv", path=MOUNT, options={"version": "2"})
    team.secrets.kv.v2.create_or_update_secret("acme/app", {"of": "the team"}, mount_point=MOUNT)

    async def test(manager: VaultManager) -> None:
        ask = people.jwt("alice", "acme", "acme-readers").ask(inline)
        there = APP._replace(namespace="team-callers")
        assert await outcome(manager.read(there, ask=ask, fresh=True)) is PermissionDenied
        assert (await manager.read(there)).data["of"] == "the team"
        assert (await manager.read(APP)).data["of"] == APP.path

    manage(backend, test)
