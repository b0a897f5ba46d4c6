"""Clients of the real server, and the means to change things behind their back."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from typing import Any

import hvac
import psycopg
import pytest

from config_loader import VaultConfig
from tests.backends import Backend
from tests.fakes import ROLE_ID, SECRET_ID
from tests.login_methods import (
    Prepared,
    PreparedAppRole,
    PreparedCert,
    PreparedJwt,
    PreparedKubernetes,
    PreparedToken,
    PreparedTokenRole,
    PreparedWrapped,
    prepared_server,
    tls_server,
)
from tests.servers import ScriptedServer
from vault_client import VaultClient
from vaultkit.events import Event
from vaultkit.secret import Secret

PATIENCE_SECONDS = 60.0

ClientOf = Callable[..., VaultClient]
Prepare = Callable[[str, str], Prepared]
Make = Callable[[str], Prepared]
MakeClient = Callable[..., VaultClient]


class Events(list[Event]):
    """A listener that keeps what it hears."""

    def of(self, kind: type[Any]) -> list[Any]:
        return [event for event in self if isinstance(event, kind)]


@pytest.fixture
def events() -> Events:
    return Events()


@pytest.fixture
def make_client(backend: Backend, events: Events) -> Iterator[Callable[..., VaultClient]]:
    """Makes clients of the real server; settings are given as environment variables."""
    with ExitStack() as stack:

        def make(**environ: str) -> VaultClient:
            config = VaultConfig.load(environ={**backend.application, **environ})
            return stack.enter_context(VaultClient(config, listeners=[events.append]))

        yield make


@pytest.fixture
def client_of() -> Iterator[ClientOf]:
    """Makes a client of a scripted server, or of an address."""
    with ExitStack() as stack:

        def make(server: ScriptedServer | str, **environ: str) -> VaultClient:
            url = server if isinstance(server, str) else stack.enter_context(server.running()).url
            environ = {"VAULT_URL": url, "VAULT_ROLE_ID": ROLE_ID, "VAULT_SECRET_ID": SECRET_ID, **environ}
            return VaultClient(VaultConfig.load(environ=environ))

        yield make


@pytest.fixture
def client(make_client: Callable[..., VaultClient]) -> VaultClient:
    """A client that asks for the version of a KV secret at every turn."""
    return make_client(KV_SECRET_REFRESH_INTERVAL="0.1")


@pytest.fixture
def secret(root: hvac.Client, request: pytest.FixtureRequest) -> Iterator[str]:
    """The path of a KV secret of this test's own, at version 1."""
    path = f"tests/{request.node.originalname}"
    put(root, path, value="one")
    yield path
    root.secrets.kv.v2.delete_metadata_and_all_versions(path, mount_point="my-vault-app-kv")


def put(root: hvac.Client, path: str, **values: str) -> None:
    root.secrets.kv.v2.create_or_update_secret(path, values, mount_point="my-vault-app-kv")


@pytest.fixture
def log_in_to_database(backend: Backend) -> Callable[..., str]:
    """Who the database takes us for. Raises: psycopg.OperationalError, if for nobody."""

    def log_in(username: str, password: str) -> str:
        with psycopg.connect(**backend.database, user=username, password=password) as connection:
            row = connection.execute("SELECT current_user").fetchone()
        assert row is not None
        return str(row[0])

    return log_in


def eventually(condition: Callable[[], Any]) -> Any:
    """Ask until the answer is true; fail after a time that no machine needs."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not (result := condition()):
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.02)
    return result


def is_refused(log_in: Callable[..., str], secret: Secret) -> bool:
    """Whether the database does not take this username and password (a lease is revoked a moment after its token)."""
    try:
        log_in(**secret.data)
    except psycopg.Error:  # at the login, or, if the user goes at that very moment, at the query
        return True
    return False


# ── Login methods ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def prepare(backend: Backend, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prepare]:
    """Prepares a login method by its name, with an account of the name that is given."""
    folder = tmp_path_factory.mktemp("logins")
    with ExitStack() as stack:
        reviews, signer = stack.enter_context(prepared_server(backend.root))
        tls_root, ca_file = stack.enter_context(tls_server(tmp_path_factory.mktemp("tls-login")))
        ways: dict[str, Callable[..., Prepared]] = {
            "approle": PreparedAppRole,
            "wrapped": PreparedWrapped,
            "kubernetes": partial(PreparedKubernetes, reviews=reviews, signer=signer),
            "jwt": partial(PreparedJwt, signer=signer),
            "cert": partial(PreparedCert, ca_file=ca_file),
            "token": PreparedToken,
            "token_role": PreparedTokenRole,
        }
        yield lambda way, name: ways[way](name, tls_root if way == "cert" else backend.root, folder)


@pytest.fixture
def make(prepare: Prepare, request: pytest.FixtureRequest) -> Make:
    """Prepares a login method with an account of this test's own."""
    name = request.node.originalname.replace("_", "-")
    return lambda way: prepare(way, f"{name}-{way}"[-60:].lstrip("-"))


@pytest.fixture
def client_with(backend: Backend, events: Events) -> Iterator[MakeClient]:
    """Makes a client that logs in as it was prepared."""
    with ExitStack() as stack:

        def make(prepared: Prepared, **environ: str) -> VaultClient:
            config = VaultConfig.load(environ={"VAULT_URL": backend.url, **prepared.environ, **environ})
            return stack.enter_context(VaultClient(config, listeners=[events.append]))

        yield make


def look_up(client: VaultClient) -> dict[str, object]:
    """What the server says of the client's token."""
    return dict(client.ask(lambda api: api.auth.token.lookup_self())["data"])


def token_of(client: VaultClient) -> str:
    token = client._token._token
    assert token is not None
    return str(token.api.token)
