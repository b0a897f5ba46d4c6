"""VaultManager on the real server: what it writes is what it reads, for whoever asks, also while Vault is away."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
import threading
import time
import traceback
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import hvac
import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st

from config_loader import VaultConfig
from devserver.setup import without_vault
from gateway import VaultManager
from gateway.cache import CacheSettings, SecretCache
from gateway.places import Place
from gateway.store import LARGEST_ANSWER_BYTES, PreconditionNeeded, VersionConflict, etag_of
from gateway.threads import Busy, Threads
from tests.backends import Backend
from tests.issuing import ShiftedClock
from tests.servers import ScriptedServer, hang_up, respond
from vault_client import VaultClient
from vaultkit.errors import (
    ClientClosed,
    LoginRefused,
    PermissionDenied,
    RequestRejected,
    SecretDeleted,
    SecretNotFound,
    VaultError,
    VaultSealed,
    VaultUnavailable,
)

PAGE = Path(__file__).parents[2] / "gateway/README.md"
MOUNT = "gateway-tests"
CANARY = "canary-value-of-a-secret"
PATIENCE_SECONDS = 60.0
METADATA = {"created_time": "2026-11-23T19:12:51Z", "deletion_time": "", "destroyed": False}
VALUES = {"data": {"data": {"n": 1}, "metadata": {**METADATA, "version": 1}}}
AUTH = {"data": {"ttl": 0, "renewable": False, "policies": ["root"]}}

Test = Callable[[VaultManager], Awaitable[None]]


@pytest.fixture(scope="module")
def kv(backend: Backend) -> Iterator[hvac.Client]:
    """The operator, beside a mount for these tests."""
    backend.root.sys.enable_secrets_engine("kv", path=MOUNT, options={"version": "2"})
    yield backend.root
    backend.root.sys.disable_secrets_engine(MOUNT)


@pytest.fixture
def place(request: pytest.FixtureRequest, kv: hvac.Client) -> Place:
    """Of this test's own."""
    return Place("", MOUNT, f"tests/{request.node.originalname}")


def run(test: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(test, PATIENCE_SECONDS))


def manage(url: str, token: str, test: Test, **options: Any) -> None:
    async def with_manager() -> None:
        async with VaultManager(addr=url, token=token, **options) as manager:
            await test(manager)

    run(with_manager())


async def outcome(question: Coroutine[Any, Any, Any]) -> Any:
    """What is answered, or the kind of error."""
    try:
        return await question
    except VaultError as error:
        return type(error)


# ── The document's interface ─────────────────────────────────────────────────────────────────────────────────────────


def test_secret_is_written_read_and_deleted(backend: Backend, kv: hvac.Client) -> None:
    """By the paths of Vault's API; each write is seen by the next read, at once."""
    path = f"{MOUNT}/data/team/app"

    async def test(manager: VaultManager) -> None:
        assert await outcome(manager.read_secret(path)) is SecretNotFound
        assert await manager.write_secret(path, {"key": "one"}) == 1
        assert await manager.read_secret(path) == ({"key": "one"}, 1)
        assert await manager.write_secret(path, {"key": "two"}, cas=1) == 2
        assert await manager.read_secret(path) == ({"key": "two"}, 2)
        assert await outcome(manager.write_secret(path, {}, cas=1)) is VersionConflict
        assert await manager.rollback(path, 1) == 3
        assert await manager.read_secret(path) == ({"key": "one"}, 3)
        assert [each.version for each in await manager.versions(path)] == [1, 2, 3]
        await manager.delete_secret(path)
        assert await outcome(manager.read_secret(path)) is SecretDeleted
        assert [bool(each.deleted) for each in await manager.versions(path)] == [False, False, True]
        assert await outcome(manager.rollback(path, 3)) is SecretDeleted
        assert await outcome(manager.rollback(path, 9)) is SecretNotFound
        assert await manager.rollback(path, 2) == 4
        assert await manager.read_secret(path) == ({"key": "two"}, 4)

    manage(backend.url, backend.root_token, test)


def test_what_was_read_belongs_to_who_read_it(backend: Backend, kv: hvac.Client) -> None:
    """They may change it; the cache does not."""
    path = f"{MOUNT}/data/mine"

    async def test(manager: VaultManager) -> None:
        await manager.write_secret(path, {"deep": {"list": [1]}})
        secret, _ = await manager.read_secret(path)
        secret["deep"]["list"].append(2)
        assert await manager.read_secret(path) == ({"deep": {"list": [1]}}, 1)

    manage(backend.url, backend.root_token, test)


def test_names_come_in_pages(backend: Backend, kv: hvac.Client) -> None:
    """In order, each once; nothing below a prefix is an empty page."""
    names = ["a", "a/", "b", "c", "é"]
    for name in ("a", "a/x", "b", "c", "é"):
        kv.secrets.kv.v2.create_or_update_secret(f"pages/{name}", {}, mount_point=MOUNT)

    async def test(manager: VaultManager) -> None:
        for limit in (1, 2, 5, 100):
            after, seen = "", []
            while True:
                page = await manager.list(f"{MOUNT}/data/pages", after=after, limit=limit)
                seen += page.names
                assert len(page.names) <= limit
                if not page.next:
                    break
                after = page.next
            assert seen == names
        assert (await manager.list(f"{MOUNT}/data/no/such")).names == []
        assert "pages/" in (await manager.list(f"{MOUNT}/data")).names

    manage(backend.url, backend.root_token, test)


def test_token_is_told_of_and_renewed(backend: Backend) -> None:
    """From the settings, with a login; the token itself is in nothing that is given out."""

    async def test() -> None:
        async with VaultManager.from_settings(VaultConfig.load(environ=backend.application)) as manager:
            before = await manager.connect()
            after = await manager.renew_token()
            assert (before.generation, after.generation, after.renewable) == (1, 1, True)
            assert set(vars(after)) == {"generation", "ttl", "renewable", "policies"}

    run(test())


def test_login_that_is_refused_leaves_nothing(backend: Backend) -> None:
    """`async with` raises, and has closed what it opened."""

    async def test() -> None:
        environ = {**backend.application, "VAULT_SECRET_ID": "wrong"}
        manager = VaultManager.from_settings(VaultConfig.load(environ=environ))
        with pytest.raises(LoginRefused):
            async with manager:
                pass
        assert await outcome(manager.read_secret("secret/data/x")) is ClientClosed

    run(test())


# ── Paths ────────────────────────────────────────────────────────────────────────────────────────────────────────────

BREAKING_OUT = [
    "..", "acme/../globex/app", "acme/./app", "acme//app", "/acme", "acme/", "acme\x00", "acme\r\nX: y", "a\u200bb", ""
]  # fmt: skip


@pytest.mark.parametrize("path", BREAKING_OUT)
@pytest.mark.parametrize("kind", ["path", "mount", "namespace"])
def test_no_path_leads_elsewhere(path: str, kind: str) -> None:
    """requests collapses dot segments: what has such never reaches it."""
    place = Place("", "tenants", "acme/app")._replace(**{kind: path})
    if (kind, path) == ("namespace", ""):
        return
    with pytest.raises(SecretNotFound):
        place.url("data")


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
def test_path_reaches_vault_as_it_is(name: str) -> None:
    """Either it is refused, or its URL leads to it, by the rules of requests."""
    try:
        url = Place("", "tenants", f"acme/{name}").url("data")
    except SecretNotFound:
        return
    sent = str(requests.Request("GET", f"http://vault{url}").prepare().path_url)
    assert unquote(sent) == f"/v1/tenants/data/acme/{name}"


def test_odd_names_are_kept_apart(backend: Backend, kv: hvac.Client) -> None:
    """What looks like an escape, a query or a fragment is part of the name, for the server as well."""
    names = ["%2e%2e", "a b", "a?b", "a#b", "a%2fb", "ä", "A", "a", "a;b", "a+b"]

    async def test(manager: VaultManager) -> None:
        for name in names:
            await manager.write(Place("", MOUNT, f"odd/{name}"), {"name": name})
        for name in names:
            assert (await manager.read(Place("", MOUNT, f"odd/{name}"), fresh=True)).data["name"] == name
        assert (await manager.list(f"{MOUNT}/data/odd")).names == sorted(names)

    manage(backend.url, backend.root_token, test)


# ── Preconditions ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_one_of_fifty_writers_wins(backend: Backend, place: Place) -> None:
    """The others are told, and have written nothing."""

    async def test(manager: VaultManager) -> None:
        async def by_number() -> dict[str, Any]:
            return {"cas": (await manager.read(place)).version}

        async def by_etag() -> dict[str, Any]:
            return {"match": (await manager.read(place)).etag}

        first = await manager.write(place, {"n": 0})
        for condition in (by_number, by_etag):
            known = await condition()
            writers = [outcome(manager.write(place, {"n": n}, **known)) for n in range(50)]
            conflicts = [each is VersionConflict for each in await asyncio.gather(*writers)]
            assert Counter(conflicts) == {False: 1, True: 49}
        assert (await manager.read(place)).version == first.version + 2

    manage(backend.url, backend.root_token, test)


def test_etag_must_be_that_of_the_current_version(backend: Backend, kv: hvac.Client, place: Place) -> None:
    """Not of one before, of one that is deleted, or of a secret that was deleted and made anew: version 1 again."""

    async def test(manager: VaultManager) -> None:
        first = await manager.write(place, {"n": 1})
        assert (await manager.read(place)).etag == first.etag
        second = await manager.write(place, {"n": 2}, match=first.etag)
        assert second.version == 2
        assert await outcome(manager.write(place, {"n": 3}, match=first.etag)) is VersionConflict
        await manager.delete(place)
        assert await outcome(manager.write(place, {"n": 3}, match=second.etag)) is VersionConflict
        kv.secrets.kv.v2.delete_metadata_and_all_versions(place.path, mount_point=MOUNT)
        assert await outcome(manager.write(place, {"n": 3}, match=second.etag)) is VersionConflict
        anew = await manager.write(place, {"n": 4})
        assert (anew.version, anew.etag == first.etag) == (1, False)
        assert await outcome(manager.write(place, {"n": 5}, match=first.etag)) is VersionConflict

    manage(backend.url, backend.root_token, test)


@pytest.mark.parametrize("gone", ["never", "deleted", "destroyed", "with metadata"])
def test_secret_is_created_where_there_is_none(backend: Backend, kv: hvac.Client, place: Place, gone: str) -> None:
    """One that was deleted is none, and its versions go on counting; where there is one, nothing is written."""
    place = place._replace(path=f"{place.path}/{gone}")
    v2 = kv.secrets.kv.v2

    async def test(manager: VaultManager) -> None:
        if gone != "never":
            await manager.write(place, {"n": 1})
            assert await outcome(manager.write(place, {"n": 2}, create_only=True)) is VersionConflict
        if gone == "deleted":
            await manager.delete(place)
        elif gone == "destroyed":
            v2.destroy_secret_versions(place.path, [1], mount_point=MOUNT)
        elif gone == "with metadata":
            v2.delete_metadata_and_all_versions(place.path, mount_point=MOUNT)
        created = await manager.write(place, {"n": 3}, create_only=True)
        assert created.version == (2 if gone in ("deleted", "destroyed") else 1)
        assert await outcome(manager.write(place, {"n": 4}, create_only=True)) is VersionConflict
        assert (await manager.read(place)).data["n"] == 3

    manage(backend.url, backend.root_token, test)


def test_missing_precondition_is_told(backend: Backend, kv: hvac.Client, place: Place) -> None:
    """Where the secret wants check-and-set."""
    kv.secrets.kv.v2.update_metadata(place.path, cas_required=True, mount_point=MOUNT)

    async def test(manager: VaultManager) -> None:
        assert await outcome(manager.write(place, {"n": 1})) is PreconditionNeeded
        assert (await manager.write(place, {"n": 1}, cas=0)).version == 1

    manage(backend.url, backend.root_token, test)


def test_rollback_writes_over_nothing(backend: Backend, place: Place) -> None:
    """On the condition that was given, and without one on what was current when it began."""

    async def test(manager: VaultManager) -> None:
        for n in (1, 2):
            await manager.write(place, {"n": n})
        assert await outcome(manager.roll_back(place, 1, cas=1)) is VersionConflict
        assert (await manager.roll_back(place, 1, match=(await manager.read(place)).etag)).version == 3
        outcomes = await asyncio.gather(*(outcome(manager.roll_back(place, 1)) for _ in range(10)))
        written = [each for each in outcomes if each is not VersionConflict]
        assert len({each.version for each in written}) == len(written) >= 1

    manage(backend.url, backend.root_token, test)


# ── Read your writes ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_slow_read_does_not_undo_a_write(backend: Backend, place: Place) -> None:
    """It began before, and its answer is held up (by who asks) until after the write."""

    async def test(manager: VaultManager) -> None:
        await manager.write(place, {"n": 1})
        asked, go = threading.Event(), threading.Event()

        def slowly(request: Callable[[hvac.Client], Any]) -> Any:
            answer = manager.client.ask(request)
            asked.set()
            go.wait(PATIENCE_SECONDS)
            return answer

        slow = asyncio.ensure_future(manager.read(place, ask=slowly))
        await asyncio.to_thread(asked.wait, PATIENCE_SECONDS)
        await manager.write(place, {"n": 2})
        go.set()
        assert (await slow).version == 1
        assert (await manager.read(place)).version == 2

    manage(backend.url, backend.root_token, test)


def test_write_of_one_who_has_left_counts(backend: Backend, place: Place) -> None:
    """They were cancelled while it was under way; once it has ended, it is seen."""

    async def test(manager: VaultManager) -> None:
        await manager.write(place, {"n": 1})
        await manager.read(place)
        begun, go = threading.Event(), threading.Event()

        def slowly(request: Callable[[hvac.Client], Any]) -> Any:
            begun.set()
            go.wait(PATIENCE_SECONDS)
            return manager.client.ask(request)

        writing = asyncio.ensure_future(manager.write(place, {"n": 2}, ask=slowly))
        await asyncio.to_thread(begun.wait, PATIENCE_SECONDS)
        writing.cancel()
        assert (await manager.read(place)).version == 1
        go.set()
        while (await manager.read(place)).version == 1:
            await asyncio.sleep(0.01)

    manage(backend.url, backend.root_token, test)


def test_change_behind_our_back_is_seen(backend: Backend, kv: hvac.Client, place: Place) -> None:
    """After refresh_interval, by the version alone; a secret that was deleted and made anew as well."""
    settings = CacheSettings(refresh_interval=0.1)

    async def test() -> None:
        async with VaultManager(backend.url, backend.root_token, cache=SecretCache(settings)) as manager:
            await manager.write(place, {"n": 1})
            await manager.read(place)
            kv.secrets.kv.v2.create_or_update_secret(place.path, {"n": 2}, mount_point=MOUNT)
            while (await manager.read(place)).data["n"] != 2:
                await asyncio.sleep(0.02)
            kv.secrets.kv.v2.delete_metadata_and_all_versions(place.path, mount_point=MOUNT)
            for n in (3, 4):
                kv.secrets.kv.v2.create_or_update_secret(place.path, {"n": n}, mount_point=MOUNT)
            while (await manager.read(place)).data["n"] != 4:
                await asyncio.sleep(0.02)
            await asyncio.sleep(0.2)
            assert (await manager.read(place)).outcome == "revalidated"

    run(test())


def test_values_are_read_where_the_version_may_not_be_asked(backend: Backend, kv: hvac.Client, place: Place) -> None:
    """K2: the policy grants the data alone; what was read is right all the same."""
    kv.sys.create_or_update_policy("gateway-data", {"path": {f"{MOUNT}/data/*": {"capabilities": ["read"]}}})
    token = kv.auth.token.create(policies=["gateway-data"])["auth"]["client_token"]
    clock = ShiftedClock()

    async def test() -> None:
        async with VaultManager(backend.url, token, cache=SecretCache(clock=clock)) as manager:
            for n in (1, 2):
                kv.secrets.kv.v2.create_or_update_secret(place.path, {"n": n}, mount_point=MOUNT)
                outcomes = []
                for _ in range(3):
                    reading = await manager.read(place)
                    assert reading.data["n"] == n
                    outcomes.append(reading.outcome)
                    clock.set_forward(6)
                assert outcomes == ["miss", "revalidated", "revalidated"]
            assert await outcome(manager.history(place)) is PermissionDenied

    run(test())


# ── Many who ask ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_two_hundred_readers_are_one_request(backend: Backend, place: Place) -> None:
    """As the server itself wrote down (C1)."""

    async def test(manager: VaultManager) -> None:
        await manager.write(place, {"n": 1})
        position = backend.audit.position()
        readings = await asyncio.gather(*(manager.read(place) for _ in range(200)))
        assert {reading.version for reading in readings} == {1}
        lines = backend.audit.text(position).splitlines()
        asked = [line for line in lines if '"type":"request"' in line and f'"path":"{MOUNT}/data/{place.path}"' in line]
        assert len(asked) == 1
        assert manager.peek(place) is not None

    manage(backend.url, backend.root_token, test)


def test_tenants_share_a_cache_and_keep_apart(backend: Backend, kv: hvac.Client) -> None:
    """Equal paths in two namespaces and two mounts, at once: each gives its own."""
    places = []
    for namespace in ("gateway-a", "gateway-b"):
        kv.adapter.post(f"/v1/sys/namespaces/{namespace}")
        api = hvac.Client(url=backend.url, token=backend.root_token, namespace=namespace)
        for mount in ("one", "two"):
            api.sys.enable_secrets_engine("kv", path=mount, options={"version": "2"})
            places.append(Place(namespace, mount, "acme/app"))

    async def test() -> None:
        cache, threads = SecretCache(), Threads(4, queue=500)
        async with (
            VaultManager(backend.url, backend.root_token, cache=cache, threads=threads) as first,
            VaultManager(backend.url, backend.root_token, "gateway-a", cache=cache, threads=threads) as second,
        ):
            for place in places:
                await first.write(place, {"of": "/".join(place)})
            readings = await asyncio.gather(
                *(manager.read(place) for _ in range(20) for place in places for manager in (first, second))
            )
            expected = ["/".join(place) for _ in range(20) for place in places for _ in range(2)]
            assert [reading.data["of"] for reading in readings] == expected
            assert await second.read_secret("one/data/acme/app") == ({"of": "gateway-a/one/acme/app"}, 1)
            assert len(cache) == 4
        assert len(cache) == 4  # shared, so it is not theirs to clear
        assert await threads.run(lambda: 1) == 1

    run(test())


def test_full_limiter_tells_at_once(backend: Backend, place: Place) -> None:
    """What is cached is served meanwhile."""

    async def test() -> None:
        threads, begun, go = Threads(1, queue=0), threading.Event(), threading.Event()

        def hang(_: Any) -> None:
            begun.set()
            go.wait(PATIENCE_SECONDS)

        async with VaultManager(backend.url, backend.root_token, threads=threads) as manager:
            await manager.write(place, {"n": 1})
            await manager.read(place)
            hung = asyncio.ensure_future(manager.read(place, ask=hang, fresh=True))
            await asyncio.to_thread(begun.wait, PATIENCE_SECONDS)
            assert await outcome(manager.read(place, fresh=True)) is Busy
            assert (await manager.read(place)).outcome == "hit"
            hung.cancel()
            go.set()

    run(test())


# ── Vault is away ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_sealed_vault_serves_what_is_cached(place: Place) -> None:
    """Marked stale, also for readers who come at once; what is not cached is an error. (A server that says so.)"""
    sealed = respond(503, {"errors": ["Vault is sealed"]})
    clock = ShiftedClock()

    async def test() -> None:
        with ScriptedServer(respond(200, AUTH), respond(200, VALUES), sealed).running() as server:
            cache = SecretCache(clock=clock)
            async with VaultManager(server.url, "token", cache=cache) as manager:
                assert (await manager.read(place)).stale is False
                clock.set_forward(6)
                readings = await asyncio.gather(*(manager.read(place) for _ in range(50)))
                assert {(each.stale, each.outcome) for each in readings} == {(True, "stale")}
                peeked = manager.peek(place)
                assert peeked is not None
                assert peeked.stale
                assert await outcome(manager.read(place._replace(path="other"))) is VaultSealed
                assert await outcome(manager.write(place, {"n": 2})) is VaultSealed

    run(test())


def test_lost_answer_of_a_write_is_not_repeated(place: Place) -> None:
    """And nothing that was read before it counts any more. (A server that hangs up after it has heard.)"""

    async def test() -> None:
        script = [respond(200, AUTH), respond(200, VALUES), hang_up]
        with ScriptedServer(*script).running() as server:
            async with VaultManager(server.url, "token") as manager:
                await manager.read(place)
                assert issubclass(await outcome(manager.write(place, {"n": 2})), VaultUnavailable)
                assert manager.peek(place) is None
            assert sum(request.startswith("POST") for request in server.requests) == 1

    run(test())


def test_hung_vault_holds_up_no_end(place: Place) -> None:
    """Who waits is told, and the end comes; hits are served to the last. (A server that does not answer.)"""

    async def test() -> None:
        server = ScriptedServer(respond(200, AUTH), respond(200, VALUES))
        server.script.append(server.deaf())
        with server.running():
            async with VaultManager(server.url, "token") as manager:
                await manager.read(place)
                waiting = [asyncio.ensure_future(manager.read(place._replace(path=f"other/{n}"))) for n in range(30)]
                await asyncio.sleep(0.2)
                assert (await manager.read(place)).outcome == "hit"
                began = time.monotonic()
            assert time.monotonic() - began < 5
            assert {await outcome(each) for each in waiting} == {ClientClosed}  # type: ignore[arg-type]

    run(test())


def test_manager_may_start_without_vault(place: Place) -> None:
    """What needs no login to begin just asks later. (A server that hangs up at first.)"""

    async def test() -> None:
        with ScriptedServer(hang_up, hang_up, hang_up, respond(200, AUTH), respond(200, VALUES)).running() as server:
            manager = VaultManager.of(VaultClient.of(url=server.url, token="token"))
            try:
                answer = await outcome(manager.connect())
                assert issubclass(answer, VaultUnavailable)
                while isinstance(answer, type):
                    await asyncio.sleep(0.05)
                    answer = await outcome(manager.read(place))
                assert answer.data["n"] == 1
            finally:
                await manager.close()
                await manager.close()

    run(test())


# ── What is not shown ────────────────────────────────────────────────────────────────────────────────────────────────


def test_no_error_shows_a_value(backend: Backend, kv: hvac.Client, place: Place, caplog: Any) -> None:
    """Not its text, nor its traceback with all local variables, below the one who called (P1)."""

    async def test(manager: VaultManager) -> None:
        await manager.write(place, {"key": CANARY}, cas=0)
        questions: list[Callable[[], Coroutine[Any, Any, Any]]] = [
            lambda: manager.write(place, {"key": CANARY}, cas=7),
            lambda: manager.write(place, {"key": CANARY}, match=etag_of(1, "")),
            lambda: manager.write(place, {"key": CANARY}, create_only=True),
            lambda: manager.roll_back(place, 1, cas=7),
            lambda: manager.write(Place("", "no-such-mount", "x"), {"key": CANARY}),
        ]
        for question in questions:
            with pytest.raises((RequestRejected, SecretNotFound)) as raised:
                await question()
            error = raised.value
            assert error.__traceback__ is not None
            below = error.__traceback__.tb_next  # whoever called knows what they wrote
            report = traceback.TracebackException(type(error), error, below, capture_locals=True)
            shown = "".join(report.format())
            for secret in (CANARY, backend.root_token):
                assert secret not in shown
            assert error.__context__ is None

    with caplog.at_level("DEBUG"):
        manage(backend.url, backend.root_token, test)
    assert CANARY not in caplog.text
    assert backend.root_token not in caplog.text


def test_large_secret_is_read(backend: Backend, place: Place) -> None:
    """Larger than the application's own limit, and bounded all the same."""

    async def test(manager: VaultManager) -> None:
        await manager.write(place, {"key": "x" * 500_000})
        assert len((await manager.read(place)).data["key"]) == 500_000 < LARGEST_ANSWER_BYTES

    manage(backend.url, backend.root_token, test)


def test_snippet_of_the_page_runs(backend: Backend) -> None:
    """As a process, with what the environment says."""
    snippet = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)[0]
    environ = {**without_vault(os.environ), "VAULT_ADDR": backend.url, "VAULT_TOKEN": backend.root_token}
    command = [sys.executable, "-W", "error", "-c", snippet]
    done = subprocess.run(command, cwd=PAGE.parents[1], env=environ, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        "({'key': 'value'}, 1)",
        "the current version of secret/myapp is another",
        "version 2 of 2",
        "['myapp']",
    ]
