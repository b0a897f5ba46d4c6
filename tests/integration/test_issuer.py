"""The issuer on the real server: what it promises, and what is left of it when it is killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from unittest.mock import patch

import hvac
import pytest

from devserver.setup import without_vault
from issuer import Service, VaultTokenIssuer
from issuer.errors import AlreadyIssued, NotIssued, NotTaken, Overtaken, RoleUnfit
from issuer.issuer import STEPS
from issuer.issues import DELIVERED
from tests.backends import Backend
from tests.integration.conftest import eventually
from tests.integration.killed_issuer import HANDED_OVER
from tests.issuing import (
    ENTITY,
    ROLE,
    ShiftedClock,
    alive_on_server,
    client_of,
    in_ledger,
    is_alive,
    issuer_of,
    prepare,
    take,
    unwrap,
)
from vault_client import VaultClient
from vaultkit.errors import PermissionDenied, RequestRejected, VaultError

FORWARD = STEPS[: STEPS.index("delivered") + 1]
KILLED = [
    *(("issue", step) for step in (*FORWARD, HANDED_OVER)),
    *(("replace", step) for step in STEPS),
    *(("rotate", step) for step in STEPS),
    *(("revoke", step) for step in ("condemned", "revoked")),
]
SERVICES = f"{ENTITY}-services"
Die = Callable[[str, str, Service], str]


@pytest.fixture(scope="module")
def environ(backend: Backend) -> dict[str, str]:
    return prepare(backend)


@pytest.fixture(scope="module")
def issuing(environ: dict[str, str]) -> Iterator[VaultClient]:
    with client_of(environ) as client:
        yield client


@pytest.fixture
def issuer(issuing: VaultClient) -> VaultTokenIssuer:
    return issuer_of(issuing)


@pytest.fixture
def service(request: pytest.FixtureRequest) -> Service:
    """One of this test's own."""
    return Service.of("shop", request.node.name.translate(str.maketrans("[]- ", "____")).lower())


@pytest.fixture(scope="module")
def die(environ: dict[str, str]) -> Iterator[Die]:
    """Has an issuer killed after a step of an action; gives what it has handed over."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.integration.killed_issuer"],
        env={**without_vault(os.environ), **environ}, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as issuers:  # fmt: skip
        assert issuers.stdin is not None
        assert issuers.stdout is not None
        stdin, stdout = issuers.stdin, issuers.stdout

        def one_more(action: str, step: str, service: Service) -> str:
            print(action, step, service.name, file=stdin, flush=True)
            end = json.loads(stdout.readline())
            assert end["signal"] == signal.SIGKILL
            return str(end["handed_over"])

        yield one_more


# ── Crashes ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("action", "step"), KILLED)
def test_x1_killed_issuer_loses_no_token(
    root: hvac.Client, die: Die, issuer: VaultTokenIssuer, service: Service, action: str, step: str
) -> None:
    """After kill -9 at any step: what went out is in the ledger, and after a restart it and the server agree."""
    if action != "issue":
        issuer.issue(service)
    handed_over = die(action, step, service)
    if handed_over:
        wrapped = hvac.Client(url=root.url, token=handed_over).sys.unwrap()["auth"]["accessor"]
        assert wrapped in in_ledger(issuer)
    issuer.recover()
    assert in_ledger(issuer) == alive_on_server(root)
    assert {issue.state for _, issue in issuer.issued(*service)} <= {DELIVERED}


def test_x1_recorded_token_is_revoked_without_a_search(
    die: Die, root: hvac.Client, issuer: VaultTokenIssuer, service: Service
) -> None:
    """Of one that was written down, the server need not be asked which of its tokens it is."""
    die("issue", "recorded", service)
    with patch.object(issuer.tokens, "all_alive", side_effect=AssertionError("the server was searched")):
        assert issuer.recover() == 1
    assert in_ledger(issuer) == alive_on_server(root)


@pytest.mark.parametrize("step", FORWARD)
def test_x1_key_is_free_after_a_crash(die: Die, issuer: VaultTokenIssuer, service: Service, step: str) -> None:
    """Whatever was left behind, the same request with `replace` leaves one token, and no more."""
    die("issue", step, service)
    issuer.issue(service, replace=True)
    assert [issue.state for _, issue in issuer.issued(*service)] == [DELIVERED]


def test_x1_refused_creation_leaves_no_intent(issuer: VaultTokenIssuer, service: Service) -> None:
    """Where the server made no token, the ledger does not wait for one."""
    with pytest.raises(RequestRejected, match="must be subset of the role's allowed policies"):
        issuer.issue(service, ["root"])
    assert list(issuer.issued(*service)) == []


# ── Issuing ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_services_see_only_their_own(backend: Backend, issuer: VaultTokenIssuer) -> None:
    """Two services of a tenant and one of another, under one policy: each reads below its own name alone."""
    names = ("shop-web", "shop-orders", "bank-web")
    tokens = {name: unwrap(issuer.issue(Service.named(name), replace=True), backend.url) for name in names}
    seen = {(name, other) for name, api in tokens.items() for other in names if reads(api, f"{other}/db")}
    assert seen == {(name, name) for name in names}


def reads(api: hvac.Client, path: str) -> bool:
    try:
        api.secrets.kv.v2.read_secret_version(path, mount_point=SERVICES, raise_on_deleted_version=True)
    except hvac.exceptions.Forbidden:
        return False
    return True


def test_token_is_bounded_by_its_role(backend: Backend, issuer: VaultTokenIssuer, service: Service) -> None:
    """An orphan of the role, for its service, with the TTL that was asked for, and without the default policy."""
    token = unwrap(issuer.issue(service, ttl=600), backend.url).auth.token.lookup_self()["data"]
    assert (token["orphan"], token["role"], token["policies"]) == (True, ROLE, [f"{ENTITY}-service"])
    assert 590 < token["ttl"] <= 600
    assert token["entity_id"]


def test_ttl_above_the_role_is_refused(issuer: VaultTokenIssuer, service: Service) -> None:
    """The server would cut it short, and of what is wrapped it does not say so."""
    with pytest.raises(RoleUnfit, match="found a TTL of 7201 s; the token role token-issuer-issuer allows 7200 s"):
        issuer.issue(service, ttl=7201)


@pytest.mark.parametrize("facts", [{"orphan": False}, {"token_explicit_max_ttl": 0}])
def test_unfit_role_is_refused(
    root: hvac.Client, issuer: VaultTokenIssuer, service: Service, facts: dict[str, object]
) -> None:
    """Tokens that die with their issuer, or live for ever, are none that it answers for."""
    path = f"/v1/auth/token/roles/{ROLE}"
    before = root.adapter.get(path)["data"]
    root.adapter.post(path, json=facts)
    try:
        with pytest.raises(RoleUnfit, match="expected true and a limit"):
            issuer.issue(service)
    finally:
        root.adapter.post(path, json={each: before[each] for each in facts})


def test_tenant_unknown_to_the_role_is_refused(issuer: VaultTokenIssuer) -> None:
    """For whom there may be tokens, the role says."""
    with pytest.raises(RequestRejected, match="invalid 'entity_alias' value"):
        issuer.issue(Service.of("stranger", "web"))


def test_same_request_twice_is_refused(issuer: VaultTokenIssuer, service: Service) -> None:
    """The second is told of the first; another key is another token."""
    first = issuer.issue(service)
    with pytest.raises(
        AlreadyIssued, match=f"{first.issue.id}, delivered, of 20.* UTC, with {ENTITY}-service for 3600 s"
    ):
        issuer.issue(service)
    assert issuer.issue(service, key="second").issue.id != first.issue.id


def test_replacing_revokes_the_first(backend: Backend, issuer: VaultTokenIssuer, service: Service) -> None:
    """Never two that live, also where the first is in use."""
    first = take(issuer.issue(service), backend.url)
    second = take(issuer.issue(service, replace=True), backend.url)
    assert (is_alive(first), is_alive(second)) == (False, True)


def test_issuer_may_not_issue_unwrapped(issuing: VaultClient) -> None:
    """Its own policy sees to it: no token of a service is in its answers."""
    with pytest.raises(PermissionDenied):
        issuing.ask(lambda api: api.auth.token.create(role_name=ROLE, policies=[f"{ENTITY}-service"]))


# ── Side by side ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_three_issuers_issue_one_token(
    root: hvac.Client, environ: dict[str, str], issuer: VaultTokenIssuer, service: Service
) -> None:
    """Each key is asked for by three at once: one issues, two are told of it, and none is left over."""
    keys, start = [f"k{number}" for number in range(4)], threading.Barrier(3)

    def issue_all(issuer: VaultTokenIssuer) -> list[str]:
        start.wait()
        return [outcome(issuer, service, key) for key in keys]

    clients = [client_of(environ) for _ in range(3)]
    with ThreadPoolExecutor(3) as pool:
        outcomes = list(pool.map(issue_all, [issuer_of(client, settle_after=60) for client in clients]))
    for client in clients:
        client.close()
    assert [sorted(of_key) for of_key in zip(*outcomes, strict=True)] == [
        ["AlreadyIssued", "AlreadyIssued", "issued"]
    ] * 4
    assert len(list(issuer.issued(*service))) == 4
    assert in_ledger(issuer) == alive_on_server(root)


def outcome(issuer: VaultTokenIssuer, service: Service, key: str) -> str:
    try:
        issuer.issue(service, key=key)
    except VaultError as error:
        return type(error).__name__
    return "issued"


@pytest.mark.parametrize("step", ["intended", "created", "recorded"])
def test_overtaken_issuer_takes_back_its_token(
    root: hvac.Client, issuing: VaultClient, issuer: VaultTokenIssuer, service: Service, step: str
) -> None:
    """Taken for dead and cleared away while it was at it, it hands nothing out."""

    def overtake(done: str) -> None:
        if done == step:
            issuer.recover()

    with pytest.raises(Overtaken, match="another issuer has taken"):
        issuer_of(issuing, on_step=overtake).issue(service)
    assert list(issuer.issued(*service)) == []
    assert in_ledger(issuer) == alive_on_server(root)


# ── Renewing, rotating, taking back ──────────────────────────────────────────────────────────────────────────────────


def test_renewal_ends_at_the_max_ttl(issuer: VaultTokenIssuer, service: Service) -> None:
    """The ledger is told what the server grants."""
    first = issuer.issue(service, ttl=600).issue
    renewed = issuer.renew(service)
    assert renewed.ends > first.ends
    assert list(issuer.issued(*service)) == [(service, renewed)]


def test_rotation_revokes_after_the_proof(backend: Backend, issuer: VaultTokenIssuer, service: Service) -> None:
    """While the new one is delivered, and until it is in use, the old one lives; then it is gone."""
    old = take(issuer.issue(service), backend.url)
    new = unwrap(issuer.begin_rotation(service), backend.url)
    assert issuer.finish_rotation(service) is None
    assert is_alive(old)
    new.auth.token.renew_self()
    assert issuer.finish_rotation(service) is not None
    assert (is_alive(old), is_alive(new)) == (False, True)


def test_rotation_that_nobody_takes_is_undone(backend: Backend, issuing: VaultClient, service: Service) -> None:
    """The service goes on with what it has."""
    clock = ShiftedClock()
    issuer = issuer_of(issuing, settle_after=300, clock=clock)
    first = issuer.issue(service)
    old = take(first, backend.url)
    with pytest.raises(NotTaken, match="nobody has unwrapped and renewed the new token"):
        issuer.rotate(service, lambda delivery: clock.set_forward(120))
    assert is_alive(old)
    assert [issue.id for _, issue in issuer.issued(*service)] == [first.issue.id]


def test_one_of_two_issuers_rotates(issuing: VaultClient, service: Service) -> None:
    """The other is told of it."""
    issuer_of(issuing).issue(service)

    def rotate_too(step: str) -> None:
        if step == "created":
            with pytest.raises(AlreadyIssued, match="another issuer rotates"):
                issuer_of(issuing, settle_after=60).begin_rotation(service)

    issuer_of(issuing, on_step=rotate_too).begin_rotation(service)


def test_revoked_token_is_dead(backend: Backend, issuer: VaultTokenIssuer, service: Service) -> None:
    """Also the one that has not been unwrapped yet; and the ledger forgets them."""
    alive = take(issuer.issue(service), backend.url)
    wrapped = issuer.issue(service, key="second")
    assert (issuer.revoke(service), issuer.revoke(service, "second")) == (1, 1)
    assert not is_alive(alive)
    assert not is_alive(unwrap(wrapped, backend.url))
    assert list(issuer.issued(*service)) == []


def test_incident_revokes_a_tenant(backend: Backend, issuer: VaultTokenIssuer) -> None:
    """All services of one, and of nobody else."""
    web, orders = Service.of("bank", "web"), Service.of("shop", "orders")
    bank, shop = (take(issuer.issue(each, replace=True), backend.url) for each in (web, orders))
    assert issuer.revoke_all("bank") == 1
    assert (is_alive(bank), is_alive(shop)) == (False, True)


def test_lost_ledger_is_made_up_for(
    root: hvac.Client, backend: Backend, issuer: VaultTokenIssuer, service: Service
) -> None:
    """Who has what is learned from the server: by the role, and what stands in the tokens' metadata."""
    token = take(issuer.issue(service), backend.url)
    root.secrets.kv.v2.delete_metadata_and_all_versions(service.name, mount_point=f"{ENTITY}-issuer")
    assert issuer.revoke_all(*service) == 0
    assert is_alive(token)
    assert issuer.revoke_all(*service, by_role=True) == 1
    assert not is_alive(token)


def test_deleted_account_is_written_anew(root: hvac.Client, issuer: VaultTokenIssuer, service: Service) -> None:
    """Somebody has deleted its version by hand: check-and-set goes on from there."""
    issuer.ledger.change(service.name, lambda issues: (replace(issuer._intent("k", ["p"], 1.0)),))
    root.secrets.kv.v2.delete_latest_version_of_secret(service.name, mount_point=f"{ENTITY}-issuer")
    assert issuer.ledger.read(service.name).issues == ()
    issuer.issue(service)
    assert len(list(issuer.issued(*service))) == 1


def test_what_is_over_is_forgotten(backend: Backend, issuing: VaultClient, service: Service) -> None:
    """But not what its holder has renewed, of which only the server knows. (The issuer's clock is set forward.)"""
    clock = ShiftedClock()
    issuer = issuer_of(issuing, clock=clock)
    take(issuer.issue(service, ttl=600, key="renewed"), backend.url)
    dead = take(issuer.issue(service, ttl=5, key="dead"), backend.url)

    def keys() -> list[str]:
        return [issue.key for issue in issuer.settle(service).issues]

    assert keys() == ["renewed", "dead"]
    eventually(lambda: not is_alive(dead))
    assert keys() == ["renewed"]
    clock.set_forward(601)
    assert keys() == ["renewed"]


def test_missing_key_is_told(issuer: VaultTokenIssuer, service: Service) -> None:
    """Nothing is renewed or rotated that the ledger does not know."""
    with pytest.raises(NotIssued, match="knows of no token under the key main"):
        issuer.renew(service)
    with pytest.raises(NotIssued):
        issuer.rotate(service, partial(take, url=""))
