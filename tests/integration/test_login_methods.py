"""Every rule of the token's life, held by every login method on a real server."""

from __future__ import annotations

import json
import logging
import os
import re
import subprocess
import sys
import threading
import traceback
from contextlib import ExitStack
from dataclasses import dataclass, field

import hvac
import pytest

from config_loader import VaultConfig
from devserver.proxy import Proxy
from tests.backends import Backend
from tests.e2e.conftest import PROJECT
from tests.integration.conftest import Events, Make, MakeClient, Prepare, eventually, look_up, token_of
from tests.unit.test_privacy import strings_reachable_from, with_local_variables
from vault_client import VaultClient
from vaultkit.errors import LoginRefused, VaultUnreachable
from vaultkit.events import LoggedIn, LoginFailed, TokenLeft, TokenLost, TokenRenewed, TokenRevoked
from vaultkit.worker import Worker

WAYS = ("approle", "wrapped", "kubernetes", "jwt", "cert", "token", "token_role")
LOG_IN_ANEW = tuple(way for way in WAYS if way != "token")
BY_PROXY = tuple(way for way in WAYS if way != "cert")
"""The proxy of the tests looks into what passes, so not through TLS."""
REMEDY = {
    "approle": "are role_id and secret_id right and still valid?",
    "wrapped": "are role_id and secret_id right and still valid?",
    "kubernetes": "vault read auth/kubernetes/role/",
    "jwt": "vault read auth/jwt/role/",
    "cert": "a role of auth/cert",
    "token": "read on auth/token/lookup-self",
    "token_role": "update on auth/token/create/",
}


# ── Alive ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass
class Life:
    """What was heard of a token that has a TTL of 14 s, and ends after 22 s."""

    events: Events = field(default_factory=Events)
    errors: list[Exception] = field(default_factory=list)


@pytest.fixture(scope="module")
def lives(prepare: Prepare, backend: Backend) -> dict[str, Life]:
    """A token of each method, all kept alive at the same time, until each has been renewed and then met its end."""
    lives = {way: Life() for way in WAYS}
    stop = threading.Event()
    with ExitStack() as stack:
        for way, life in lives.items():
            prepared = prepare(way, f"lives-{way}")
            prepared.set_token("14s", "22s")
            config = VaultConfig.load(environ={"VAULT_URL": backend.url, **prepared.environ})
            client = stack.enter_context(VaultClient(config, listeners=[life.events.append]))
            interval, heard = client.seconds_to_next_look, life.errors.append
            worker = Worker(way, client.keep_token_alive, interval=interval, stop=stop, on_error=heard)
            stack.callback(worker.join, 5)
            worker.start()
        stack.callback(stop.set)
        eventually(lambda: all(len(life.events.of(LoggedIn)) >= 2 for way, life in lives.items() if way in LOG_IN_ANEW))
        eventually(lambda: lives["token"].errors)
    return lives


@pytest.mark.parametrize("way", WAYS)
def test_t3_every_method_is_renewed(lives: dict[str, Life], way: str) -> None:
    """At 4/5, and the grant tells that max TTL is near."""
    assert lives[way].events.of(TokenRenewed)[0].last


@pytest.mark.parametrize("way", LOG_IN_ANEW)
def test_t4_every_method_logs_in_anew(lives: dict[str, Life], way: str) -> None:
    """Before max TTL; a wrapped secret_id comes from memory then, and the token is never lost."""
    assert not lives[way].events.of(TokenLost)
    assert lives[way].errors == []


def test_t4_end_of_given_token_is_announced(lives: dict[str, Life]) -> None:
    """Nobody can log in anew: it is said while the token lives, and it ends the program when it is over."""
    events = lives["token"].events
    told = [str(event.error) for event in events.of(LoginFailed)]
    assert re.search("ends in [0-2] s: hand over another", told[0])
    assert events.index(events.of(LoginFailed)[0]) < events.index(events.of(TokenLost)[0])
    assert isinstance(lives["token"].errors[0], LoginRefused)


@pytest.mark.parametrize("way", WAYS)
def test_renewal_grants_the_full_ttl(way: str, make: Make, client_with: MakeClient) -> None:
    """With what the method needs for a renewal: cert the same certificate, kubernetes a token that is still good."""
    client = client_with(make(way))
    client.login()
    assert 55 < client.renew_token().ttl <= 60


@pytest.mark.parametrize("way", LOG_IN_ANEW)
def test_t9_revoked_token_is_replaced(way: str, make: Make, client_with: MakeClient) -> None:
    """Behind our back: one login, and the request goes on."""
    prepared = make(way)
    client = client_with(prepared)
    client.login()
    prepared.root.auth.token.revoke(token_of(client))
    assert look_up(client)["ttl"]
    assert client.get_token_info().generation == 2


# ── No ───────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("way", WAYS)
def test_t7_refusal_names_the_remedy(
    way: str, make: Make, client_with: MakeClient, caplog: pytest.LogCaptureFixture
) -> None:
    """What is refused for good ends the program, in words that help; not even a debugger's traceback has the secret."""
    caplog.set_level(logging.DEBUG)
    prepared = make(way)
    client = client_with(prepared)
    prepared.refuse()
    with pytest.raises(LoginRefused) as caught:
        client.login()
    assert REMEDY[way] in str(caught.value)
    said = caplog.text + "".join(traceback.format_exception(caught.value)) + with_local_variables(caught.value)
    assert not [secret for secret in prepared.given if secret in said]


@pytest.mark.parametrize("way", WAYS)
def test_p1_close_forgets_every_method(way: str, make: Make, client_with: MakeClient) -> None:
    """From the closed client no path of references leads to its token, or to what it logged in with."""
    prepared = make(way)
    client = client_with(prepared)
    client.login()
    secrets = [*prepared.given, token_of(client)]
    assert any(token_of(client) in text for text in strings_reachable_from(client))
    client.close()
    reached = strings_reachable_from(client)
    assert not [secret for secret in secrets if any(secret in text for text in reached)]


@pytest.mark.parametrize("way", BY_PROXY)
def test_t6_outage_leaves_the_token(way: str, make: Make, client_with: MakeClient, backend: Backend) -> None:
    """A login that finds nobody changes nothing, and the token serves again when the server is back."""
    host, port = backend.url.removeprefix("http://").split(":")
    with Proxy((host, int(port))).running() as proxy:
        client = client_with(make(way), VAULT_URL=proxy.url)
        client.login()
        proxy.refuse()
        with pytest.raises(VaultUnreachable):
            client.login()
        proxy.behave()
        assert look_up(client)["ttl"]
        assert client.get_token_info().generation == 1


@pytest.mark.parametrize("way", WAYS)
def test_x1_close_revokes_what_is_ours(way: str, make: Make, client_with: MakeClient, events: Events) -> None:
    """And never what was handed over."""
    prepared = make(way)
    client = client_with(prepared)
    client.login()
    token = token_of(client)
    client.close()
    assert len(events.of(TokenLeft if prepared.survives_close else TokenRevoked)) == 1
    if prepared.survives_close:
        assert prepared.root.auth.token.lookup(token)["data"]["ttl"]
    else:
        with pytest.raises(hvac.exceptions.Forbidden):
            prepared.root.auth.token.lookup(token)


def test_t10_children_log_in_by_themselves(make: Make, backend: Backend) -> None:
    """Each child gets a token of its own, wrapped secret_ids come from memory; a handed-over token is shared."""
    prepared = {way: {"VAULT_URL": backend.url, **make(way).environ} for way in WAYS}
    program = subprocess.run(
        [sys.executable, "-m", "tests.integration.forking_logins"],
        input=json.dumps(prepared),
        env=os.environ,
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert program.returncode == 0, program.stderr
    assert json.loads(program.stdout) == {way: "shared" if way == "token" else "own" for way in WAYS}
