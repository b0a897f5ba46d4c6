"""The live page on real servers: every fault at its button, and what the page says of it.

The application is a process of its own, the page's server is in this one. Faults last less long than for people.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from devserver import DevServer
from devserver.live import LIFETIMES, showing
from devserver.stored import StoredOpenBao
from tests.live_page import Reader

PACE = 0.5
CALM_SECONDS = 12.0
DOUBT = 3
"""So many requests may lie at the edge of the time that is counted, or of an outage's."""


@pytest.fixture(scope="module")
def server() -> Iterator[DevServer]:
    with DevServer(kind=StoredOpenBao, lifetimes=LIFETIMES) as running:
        yield running


@pytest.fixture(scope="module")
def page(server: DevServer) -> Iterator[Reader]:
    """One page for all of these tests, as somebody has it open who presses one button after the other."""
    with ExitStack() as stack:
        # A fault that lasts 4 s is to be noticed.
        stack.enter_context(pytest.MonkeyPatch.context()).setenv("KV_SECRET_REFRESH_INTERVAL", "1")
        address = stack.enter_context(showing(server, 0, PACE))
        reader = Reader(int(address.rstrip("/").rpartition(":")[2]))
        yield stack.enter_context(reader.watching())


def secret(page: Reader, engine: str) -> dict[str, Any]:
    return next((each for each in page.state["secrets"] if each["engine"] == engine), {})


def is_well(page: Reader) -> bool:
    """Whether all is as it is to be: fresh secrets, a pool of the current generation, and no fault."""
    state = page.state
    return (
        not state["application"]["past"]
        and state["vault"]["state"] == "active"
        and state["token"]["state"] == "valid"
        and [each["engine"] for each in state["secrets"] if not each["stale"] and each["error"] is None]
        == ["kv_secret", "database_dynamic", "database_static"]
        and any(each["current"] and each["connections"] for each in state["pool"]["generations"])
        and not any(fault["running"] for fault in state["faults"])
    )


def is_running(page: Reader, fault: str) -> bool:
    return any(each["name"] == fault and each["running"] for each in page.state["faults"])


def break_it(page: Reader, fault: str) -> int:
    """Press the button when all is well; how much had happened before."""
    page.wait_for(is_well)
    before = len(page.happened)
    assert page.press(fault).status == 202
    page.wait_for(lambda seen: is_running(seen, fault) or "FaultEnded" in seen.kinds()[before:])
    return before


def wait_to_hear(page: Reader, since: int, kind: str, words: str = "") -> dict[str, Any]:
    """Wait until something of this kind is told, with these words."""
    found: dict[str, Any] = page.wait_for(
        lambda seen: next(
            (each for each in seen.happened[since:] if each["kind"] == kind and words in each["text"]), None
        )
    )
    return found


def test_calm_costs_the_least(page: Reader) -> None:
    """The requests beside the least that the rules permit, before anything is broken.

    Where time passes in which nobody runs, fewer are made than are counted as due.
    """
    page.wait_for(is_well)
    page.wait_for(lambda seen: seen.state["at"] - seen.state["requests"]["since"] > CALM_SECONDS)
    requests = page.state["requests"]
    assert requests["least"] / 2 < requests["total"] <= requests["least"] + DOUBT
    assert requests["total"] == sum(requests["by"].values())
    assert requests["by"]["other"] == 0


def test_threads_are_those_of_the_application(page: Reader) -> None:
    page.wait_for(is_well)
    names = {each["name"] for each in page.state["threads"]}
    assert {"token-watcher", "kv-secret", "database-dynamic", "database-static", "pool-keeper", "query-1"} <= names


def test_new_version(page: Reader) -> None:
    page.wait_for(is_well)
    before = secret(page, "kv_secret")["version"]
    since = break_it(page, "kv-write")
    told = wait_to_hear(page, since, "SecretChanged", f"version {before} → {before + 1}")
    assert (told["rule"], told["fault"]) in (("K1", "kv-write"), ("K1", None))
    page.wait_for(lambda seen: secret(seen, "kv_secret")["version"] == before + 1)


def test_deleted_secret(page: Reader) -> None:
    """K3: an error, without a value; and then it is there again."""
    since = break_it(page, "kv-delete")
    assert wait_to_hear(page, since, "TurnFailed", "deleted")["rule"] == "K3"
    page.wait_for(lambda seen: secret(seen, "kv_secret")["error"])
    page.wait_for(lambda seen: secret(seen, "kv_secret")["values"] == {} or is_well(seen))
    page.wait_for(is_well)


def test_rotation(page: Reader) -> None:
    since = break_it(page, "rotate")
    assert wait_to_hear(page, since, "SecretChanged", "password rotated")["rule"] == "S1"


def test_revoked_lease(page: Reader) -> None:
    """Other credentials, a new generation of connections, and no query lost."""
    page.wait_for(is_well)
    lost = page.state["pool"]["lost"]
    since = break_it(page, "revoke-lease")
    assert wait_to_hear(page, since, "SecretChanged", "credentials replaced")["rule"] == "D1"
    page.wait_for(is_well)
    assert page.state["pool"]["lost"] == lost


def test_revoked_token(page: Reader) -> None:
    """T8, T9: a login, and a new generation."""
    page.wait_for(is_well)
    generation = page.state["token"]["generation"]
    since = break_it(page, "revoke-token")
    assert wait_to_hear(page, since, "TokenLost")["rule"] in ("T7", "T9")
    assert wait_to_hear(page, since, "LoggedIn")["rule"] == "T8"
    page.wait_for(lambda seen: is_well(seen) and seen.state["token"]["generation"] > generation)


@pytest.mark.parametrize(("fault", "state"), [("seal", "sealed"), ("kill", "away"), ("cut", "hangs")])
def test_outage(page: Reader, fault: str, state: str) -> None:
    """K4: the cached secret serves on, marked stale; no fault begins beside it; afterwards all is well by itself."""
    since = break_it(page, fault)
    page.wait_for(lambda seen: is_running(seen, fault))
    assert page.press("kv-write").status == 409
    page.wait_for(lambda seen: seen.state["vault"]["state"] == state)
    assert wait_to_hear(page, since, "StaleServed", "KV database")["rule"] == "K4"
    page.wait_for(is_well)


def test_stopped_database(page: Reader) -> None:
    """Queries fail while nobody is there to answer; the pool connects again."""
    page.wait_for(is_well)
    lost = page.state["pool"]["lost"]
    break_it(page, "stop-database")
    page.wait_for(lambda seen: seen.state["pool"]["lost"] > lost)
    page.wait_for(is_well)


def test_spent_secret_id(page: Reader) -> None:
    """T7: the application ends with status 1; the past is shown as such; a new one is started, with a new secret_id."""
    page.wait_for(is_well)
    starts = page.state["application"]["starts"]
    since = break_it(page, "spend-secret-id")
    assert wait_to_hear(page, since, "ApplicationEnded", "status 1")["rule"] == "T7"
    page.wait_for(lambda seen: seen.state["application"]["past"] and not seen.state["application"]["running"])
    page.wait_for(lambda seen: is_well(seen) and seen.state["application"]["starts"] == starts + 1)


def test_killed_application(page: Reader) -> None:
    """What the page shows is marked as the past, and still there."""
    page.wait_for(is_well)
    starts = page.state["application"]["starts"]
    break_it(page, "restart")
    page.wait_for(lambda seen: seen.state["application"]["past"] and len(seen.state["secrets"]) == 3)
    page.wait_for(lambda seen: is_well(seen) and seen.state["application"]["starts"] == starts + 1)


def test_administrator_is_not_counted(page: Reader) -> None:
    """What a fault asks of the server is shown, and is none of the application's requests."""
    asked = [each for each in page.requests if not each["ours"]]
    assert any("revoke-prefix" in each["path"] or "secret-id" in each["path"] for each in asked)
    assert not [each for each in page.requests if each["ours"] and each["kind"] == "other"]


def test_stream_held_no_secret(page: Reader, server: DevServer) -> None:
    """P1: after all that: neither values, nor tokens, nor the users' names."""
    said = json.dumps(page.raw)
    assert len(page.raw) > 100
    secrets = [server.openbao.root_token, server.secret_id, server.postgres.password, "myapp-api-key", "changed-"]
    assert [each for each in [*secrets, "v-approle", "hvs.", "hmac-sha256"] if each in said] == []
