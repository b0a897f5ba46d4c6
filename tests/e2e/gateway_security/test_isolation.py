"""Tenants under load at equal paths, rights that are taken away, and what strangers cannot make grow."""

from __future__ import annotations

import functools
import gc
import json
import random
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import hvac
import pytest
from prometheus_client.parser import text_string_to_metric_families

from gateway.rights import PROVEN_SECONDS, Rights
from tests.attacked import MALLORY, NOBODY, Attacked, request
from tests.backends import Backend
from tests.integration.conftest import eventually

APP = "/vault/secrets/app"
SHARED = [f"shared-{number}" for number in range(5)]


def at_once(*calls: Callable[[], object]) -> None:
    """Make the calls in a thread each; the first error of any is raised here."""
    errors: list[BaseException] = []

    def run(call: Callable[[], object]) -> None:
        try:
            call()
        except BaseException as error:  # noqa: BLE001
            errors.append(error)

    threads = [threading.Thread(target=run, args=(call,)) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


@pytest.mark.parametrize("mode", ["service", "caller"])
def test_tenants_keep_apart_under_load(gateway: Attacked, as_callers: Attacked, mode: str) -> None:
    """Eight connections that read and write the same five paths in two tenants: nobody sees the other's, ever."""
    running = gateway if mode == "service" else as_callers
    people = {"acme": running.jwt(), "globex": running.jwt(MALLORY)}
    for tenant, jwt in people.items():
        for path in SHARED:
            written = running.ask(f"/vault/secrets/{path}", "PUT", jwt=jwt, body={"data": {"of": tenant, "n": 0}})
            assert written.status in (200, 201)

    def use(tenant: str, seed: int) -> None:
        chance = random.Random(seed)
        for n in range(40):
            path = f"/vault/secrets/{chance.choice(SHARED)}"
            if chance.random() < 0.2:
                body = {"data": {"of": tenant, "n": n}}
                assert running.ask(path, "PUT", jwt=people[tenant], body=body).status == 200
            else:
                assert running.ask(path, jwt=people[tenant]).json["data"]["of"] == tenant
            batch = running.ask("/vault/batch", "POST", jwt=people[tenant], body={"paths": SHARED[:2]})
            assert {each["data"]["of"] for each in batch.json["secrets"]} == {tenant}

    at_once(*(functools.partial(use, tenant, seed) for seed in range(4) for tenant in people))


@contextmanager
def without_policy(root: hvac.Client, name: str) -> Iterator[None]:
    """As long as this lasts, whoever has it may nothing by it."""
    rules = root.sys.read_policy(name)["data"]["rules"]
    root.sys.delete_policy(name)
    try:
        yield
    finally:
        root.sys.create_or_update_policy(name, rules)


def test_right_that_is_taken_away_ends_cached_answers(
    as_callers: Attacked, root: hvac.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hits and 304 as well, within PROVEN_SECONDS: here a second, which is 30 as shipped and cannot be more."""
    assert Rights(seconds=300)._seconds == PROVEN_SECONDS == 30
    monkeypatch.setattr(as_callers.gateway, "_rights", Rights(seconds=1))
    jwt = as_callers.jwt()
    etag = as_callers.ask(APP, jwt=jwt).headers["etag"]
    eventually(lambda: as_callers.ask(APP, jwt=jwt).headers["cache-status"].startswith("gateway; hit"))
    with without_policy(root, "gateway-acme-read"), without_policy(root, "gateway-acme-write"):
        eventually(lambda: as_callers.ask(APP, jwt=jwt).status == 403)
        assert as_callers.ask(APP, jwt=jwt).kind == "forbidden-by-vault"
        assert as_callers.ask(APP, jwt=jwt, If_None_Match=etag).status == 403
        assert as_callers.ask(APP, jwt=as_callers.jwt(MALLORY)).status == 200
    assert as_callers.ask(APP, jwt=jwt).status == 200


def test_right_of_the_gateway_that_is_taken_away_ends_cached_answers(gateway: Attacked, root: hvac.Client) -> None:
    """With act_as = service: when the version is asked about next, after 5 s, or at once if the cache forgets it."""
    assert gateway.ask(APP).status == 200
    with without_policy(root, "my-vault-app-gateway-acme"):
        gateway.gateway._cache.clear()
        assert gateway.ask(APP).kind == "forbidden-by-vault"


# ── Nothing grows ────────────────────────────────────────────────────────────────────────────────────────────────────


def series(text: str) -> set[str]:
    """The names and labels, without the values."""
    return {line.rpartition(" ")[0] for line in text.splitlines() if not line.startswith("#")}


def test_strangers_make_no_series(gateway: Attacked) -> None:
    """Random methods, routes, paths, tenants, kids: the figures are those that were there."""
    methods = [
        "GET",
        "HEAD",
        "PUT",
        "DELETE",
        "POST",
        "PROPFIND",
        "PURGE",
        "MKCOL",
        "TRACE",
        "OPTIONS",
        "PATCH",
        "BREW",
    ]
    routes = ["/vault/secrets/", "/vault/versions/", "/vault/list/", "/vault/rollback/", "/", "/admin/", "/vault/"]

    def attack(seed: int) -> None:
        chance = random.Random(seed)
        for _ in range(100):
            name = f"{chance.getrandbits(64):x}"
            token = chance.choice(
                [gateway.jwt(NOBODY), gateway.jwt(tenant=name), gateway.provider.token({"kid": name}), ""]
            )
            gateway.send(request(chance.choice(routes) + name, chance.choice(methods), token, X_Request_Id=name))

    attack(1)
    before = series(gateway.metrics())
    attack(2)
    new = series(gateway.metrics()) - before
    closed = re.compile(r'.*\{(?:le="[^"]+",)?(?:(?:route|method|status|outcome|le)="[\w/{}. +]+",?)+\}')
    assert [
        each for each in new if not closed.fullmatch(each)
    ] == []  # a pair of known labels may come for the first time
    assert len(before | new) < 400


def test_figures_agree_with_the_log(gateway: Attacked) -> None:
    """Each answer is a line and a count: and the exposition is one."""

    def counted() -> Counter[str]:
        families = text_string_to_metric_families(gateway.metrics())
        samples = [sample for family in families for sample in family.samples]
        found: Counter[str] = Counter()
        for sample in samples:
            if sample.name == "vault_gateway_requests_total":
                found[sample.labels["status"]] += int(sample.value)
        return found

    eventually(lambda: gateway.gate._under_way == 0)
    counts, lines = counted(), len(gateway.access)
    for path, status in (("app", 200), ("nothing", 404), ("..", 400), ("app?x=1", 400)):
        assert gateway.ask(f"/vault/secrets/{path}").status == status
    assert gateway.ask(APP, jwt="x.y.z").status == 401
    eventually(lambda: len(gateway.access) >= lines + 5)
    seen = Counter(str(line["status"]) for line in gateway.access[lines:] if line["status"])
    assert counted() - counts == seen == {"200": 1, "404": 1, "400": 2, "401": 1}


def test_whatever_is_remembered_has_a_bound() -> None:
    """Of the caches by function of the whole room: none is without. (Values, rights, tokens: see docs/SECURITY.md.)"""
    found = [thing for thing in gc.get_objects() if isinstance(thing, functools._lru_cache_wrapper)]
    ours = [thing for thing in found if str(getattr(thing, "__module__", "")).startswith(("gateway", "vaultkit"))]
    assert ours
    assert [thing for thing in ours if thing.cache_parameters()["maxsize"] is None] == []


def test_random_paths_leave_nothing(gateway: Attacked, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is kept by path or by token stays at its bound; here bounds of tens, which as shipped are of thousands."""
    inner, cache, verifier = gateway.gateway, gateway.gateway._cache, gateway.gateway._verifier
    monkeypatch.setattr("gateway.cache.MOST_MISSING", 20)
    monkeypatch.setattr(verifier, "_settings", gateway.gateway.settings.identity.__class__(
        **{**vars(inner.settings.identity), "remember_most": 20}
    ))  # fmt: skip
    for number in range(200):
        assert gateway.ask(f"/vault/secrets/random-{number}", jwt=gateway.jwt(sub=f"s{number}")).status == 404
    assert (len(cache._missing), len(verifier), len(cache._flights)) == (20, 20, 0)
    assert inner._threads.under_way == 0


@pytest.mark.parametrize("field", ["request_id", "sub", "path"])
def test_log_and_trail_are_lines_of_known_fields(gateway: Attacked, backend: Backend, field: str) -> None:
    """What a stranger writes into them stays in its field, and on its line."""
    forged = 'x", "status": 200}\\n{"sub": "root"'
    gateway.ask("/vault/secrets/app", jwt=gateway.jwt(sub="a\u2028b"), X_Request_Id=forged)
    gateway.ask("/vault/secrets/a%22%2C%20%22status%22%3A%20200", jwt=gateway.jwt(sub=forged))
    allowed = {
        "time",
        "request_id",
        "tenant",
        "verb",
        "path",
        "status",
        "version",
        "ms",
        "cache",
        "sub",
        "kid",
        "username",
        "outcome",
    }
    for line in [*gateway.access, *(json.loads(text) for text in gateway.trail.splitlines())]:
        assert set(line) <= allowed
        assert line.get(field) != "root"
