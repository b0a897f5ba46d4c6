"""P1: no secret value, token, secret_id or accessor in a log line, an exception text, a repr or a traceback."""

from __future__ import annotations

import gc
import logging
import traceback
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import requests

from config_loader import VaultConfig
from tests.fakes import (
    DYNAMIC,
    KV_DATA,
    KV_METADATA,
    LOGIN,
    LOOKUP,
    PASSWORD,
    RENEW,
    ROLE_ID,
    SECRET_ID,
    STATIC,
    TOKEN,
    FakeClock,
    FakeVault,
    Refusal,
)
from tests.unit.test_token_rules import raising
from vault_client import VaultClient
from vaultkit.errors import VaultError
from vaultkit.events import Event

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
    said = "".join(traceback.format_exception(caught.value)) + repr(caught.value) + with_local_variables(caught.value)
    assert not [word for word in FORBIDDEN if word in said]


def with_local_variables(error: BaseException | None) -> str:
    """The traceback as error trackers have it: with the variables of every frame but the test's own, and all causes."""
    said = ""
    while error is not None:
        frames = [
            frame for frame, _ in traceback.walk_tb(error.__traceback__) if "/tests/" not in frame.f_code.co_filename
        ]
        said += "".join(f"{frame.f_code.co_name}: {frame.f_locals!r}\n" for frame in frames)
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return said


@pytest.mark.parametrize("path", [LOGIN, RENEW, LOOKUP, KV_DATA, KV_METADATA, DYNAMIC, STATIC])
@pytest.mark.parametrize("answer", [PASSWORD, f'{{"data": "{PASSWORD}", "auth": 1}}', OSError("broken pipe")])
def test_p1_nothing_in_local_variables(
    client: VaultClient, vault: FakeVault, clock: FakeClock, path: str, answer: str | OSError
) -> None:
    """Whatever call the error leaves, the frames that it has passed hold neither tokens nor bodies nor credentials."""

    def fail() -> bytes:
        if isinstance(answer, OSError):
            raise requests.ConnectionError(answer)
        return answer.encode()

    calls: dict[str, Callable[[], object]] = {
        LOGIN: client.login,
        RENEW: client.renew_token,
        LOOKUP: partial(client.ask, lambda api: api.auth.token.lookup_self()),
    }
    if path != LOGIN:
        client.login()
    if path == KV_METADATA:
        client.get_kv_secret("database")
        clock.pass_time(5)
    vault.instead[path] = fail
    try:
        calls.get(path, partial(read_everything, client))()
    except VaultError as error:
        said = with_local_variables(error)
        assert "guarded" in said
        assert not [word for word in (*FORBIDDEN, ROLE_ID) if word in said]
    else:
        assert path in (KV_METADATA, LOOKUP)  # the cached value serves; and whoever asks by themselves may get anything


@pytest.mark.parametrize(
    "environ",
    [
        {"VAULT_SECRET_ID": PASSWORD},
        {"VAULT_SECRET_ID": "", "VAULT_WRAPPED_SECRET_ID": PASSWORD},
        {"VAULT_AUTH_METHOD": "jwt", "JWT_AUTH_ROLE": "web", "JWT_AUTH_JWT": PASSWORD},
        {
            "VAULT_AUTH_METHOD": "jwt",
            "JWT_AUTH_ROLE": "web",
            "JWT_AUTH_JWT_URL": f"http://metadata.test/?key={PASSWORD}",
            "JWT_AUTH_JWT_HEADERS": f"Authorization: bearer {PASSWORD}",
        },
        {"VAULT_AUTH_METHOD": "token", "VAULT_TOKEN": PASSWORD},
    ],
)
def test_p1_closed_client_forgets_its_settings(environ: dict[str, str]) -> None:
    """With its own session, and whatever the login method was given by value; no repr of the settings shows it."""
    config = VaultConfig.load(environ={"VAULT_ROLE_ID": ROLE_ID, **environ})
    client = VaultClient(config)
    assert PASSWORD not in repr(config)
    client.close()
    assert not [text for text in strings_reachable_from(client) if PASSWORD in text]


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


def test_p1_closed_client_knows_no_credentials() -> None:
    """Nor does the session of its own leave a way to them, which it makes where none is given."""
    client = VaultClient(VaultConfig.load(environ={"VAULT_ROLE_ID": ROLE_ID, "VAULT_SECRET_ID": SECRET_ID}))
    client.close()
    assert not {ROLE_ID, SECRET_ID} & strings_reachable_from(client)


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
