"""P1: no secret value, token, secret_id or accessor in a log line, an exception text, a repr or a traceback."""

from __future__ import annotations

import gc
import logging
import traceback
from collections.abc import Callable
from typing import Any

import pytest

from tests.fakes import DYNAMIC, KV_DATA, LOGIN, PASSWORD, SECRET_ID, STATIC, TOKEN, FakeClock, FakeVault, Refusal
from tests.unit.test_token_rules import raising
from vault_client import VaultClient
from vault_errors import VaultError
from vault_events import Event

FORBIDDEN = (PASSWORD, SECRET_ID, TOKEN)


def read_everything(client: VaultClient) -> list[Any]:
    return [
        client.get_kv_secret("database"),
        client.get_database_dynamic_secret("db-demo-dynamic"),
        client.get_database_static_secret("db-demo-static"),
    ]


def test_p1_nothing_in_logs_events_and_reprs(
    client: VaultClient, vault: FakeVault, clock: FakeClock, events: list[Event], caplog: pytest.LogCaptureFixture
) -> None:
    """A whole life: login, reads, renewal, outage, revocation, with every logger at DEBUG."""
    caplog.set_level(logging.DEBUG)
    secrets = read_everything(client)
    clock.pass_time(48)
    client.keep_token_alive()
    vault.go_down()
    clock.pass_time(9)
    secrets += read_everything(client)
    vault.come_back()
    client.close()
    said = caplog.text + repr(events) + repr(secrets) + repr(client) + repr(client.__dict__)
    assert not [word for word in FORBIDDEN if word in said]


@pytest.mark.parametrize(
    "answer",
    [
        raising(Refusal(400, "invalid role or secret ID")),
        raising(Refusal(403, "permission denied")),
        raising(Refusal(500, "internal error")),
        lambda: f"<html>{PASSWORD}".encode(),
        lambda: f'{{"data": "{PASSWORD}", "auth": "{PASSWORD}"}}'.encode(),
        lambda: f'["{PASSWORD}"]'.encode(),
    ],
)
@pytest.mark.parametrize("path", [LOGIN, KV_DATA, DYNAMIC, STATIC])
def test_p1_nothing_in_tracebacks(client: VaultClient, vault: FakeVault, path: str, answer: Callable[[], Any]) -> None:
    """The whole chain of causes is printed, as a log does it, and quotes neither body nor credentials."""
    vault.instead[path] = answer
    with pytest.raises(VaultError) as caught:
        read_everything(client)
    said = "".join(traceback.format_exception(caught.value)) + repr(caught.value)
    assert not [word for word in FORBIDDEN if word in said]


@pytest.mark.parametrize("token", ["", "hvs.with\nnewline", "hvs.with space", "hvs.ünïcode"])
def test_p1_unusable_token_is_not_quoted(client: VaultClient, vault: FakeVault, token: str) -> None:
    """requests would quote a bad header in its error; such a token is refused before."""
    vault.instead[LOGIN] = lambda: {"auth": {**vault._auth(60)["auth"], "client_token": token}}
    with pytest.raises(VaultError, match="without a usable token") as caught:
        client.login()
    assert not token or token not in "".join(traceback.format_exception(caught.value))


def test_close_leaves_nothing_reachable(
    client: VaultClient, vault: FakeVault, clock: FakeClock, events: list[Event]
) -> None:
    """From the closed client no path of references leads to the token, role_id, secret_id or any value."""
    read_everything(client)
    clock.pass_time(48)
    client.keep_token_alive()
    vault.go_down()
    clock.pass_time(9)
    read_everything(client)
    reached = strings_reachable_from(client)
    assert [word for word in FORBIDDEN if any(word in text for text in reached)] == list(FORBIDDEN)
    client.close()
    events.clear()  # what a listener keeps is the listener's
    reached = strings_reachable_from(client)
    assert not [word for word in FORBIDDEN if any(word in text for text in reached)]


def strings_reachable_from(root: object) -> set[str]:
    """Every string that the garbage collector finds from here; modules, classes, functions and the fake are no way."""
    strings, seen, todo = set(), set(), [root]
    while todo:
        found = todo.pop()
        if id(found) in seen or isinstance(found, (type, type(gc), FakeVault)) or type(found).__name__ == "function":
            continue
        seen.add(id(found))
        if isinstance(found, str):
            strings.add(found)
        elif isinstance(found, bytes):
            strings.add(found.decode("latin-1"))
        todo.extend(gc.get_referents(found))
    return strings
