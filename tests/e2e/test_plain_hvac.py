"""Five ways in which plain hvac fails in a service: the lines of workshop/plain_hvac.py, and our client beside them."""

from __future__ import annotations

import runpy
import sys
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any
from urllib.parse import urlsplit

import hvac
import psycopg
import pytest
import requests

from config_loader import VaultConfig
from devserver.proxy import Proxy
from tests.backends import Backend
from tests.e2e.conftest import PROJECT, Run
from tests.integration.conftest import eventually
from vault_client import VaultClient

SCRIPT = PROJECT / "workshop/plain_hvac.py"
LINES = SCRIPT.read_text(encoding="utf-8")
READS = LINES[LINES.index("kv = ") : LINES.index("print(")]
"""Its three reads, which a service does again and again."""
THREADS = 50

Variables = dict[str, Any]


@pytest.fixture
def login(backend: Backend) -> dict[str, str]:
    """What the script reads from its environment."""
    role_id = VaultConfig.load(environ=backend.application).vault.role_id
    return {"VAULT_ADDR": backend.url, "ROLE_ID": role_id, "SECRET_ID": backend.secret_id, "NO_PROXY": "*"}


@pytest.fixture
def plain(login: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Variables]:
    """Runs the script; returns its variables, as a service would go on with them."""

    def run(**environment: str) -> Variables:
        for name, value in {**login, **environment}.items():
            monkeypatch.setenv(name, value)
        return runpy.run_path(str(SCRIPT))

    return run


@pytest.fixture
def make_client(backend: Backend) -> Iterator[Callable[..., VaultClient]]:
    """Makes clients of ours, which renew their tokens; settings are given as environment variables."""
    with ExitStack() as stack:

        def make(**environment: str) -> VaultClient:
            config = VaultConfig.load(environ={**backend.application, **environment})
            client = stack.enter_context(VaultClient(config))
            client.keep_alive()
            return client

        yield make


@pytest.fixture
def proxy(backend: Backend) -> Iterator[Proxy]:
    """Stands before the server, and can be told to let nobody through."""
    where = urlsplit(backend.url)
    with Proxy((str(where.hostname), int(where.port or 0))).running() as proxy:
        yield proxy


def read_again(variables: Variables) -> None:
    exec(READS, variables)


def is_refused(variables: Variables) -> bool:
    try:
        read_again(variables)
    except hvac.exceptions.Forbidden:
        return True
    return False


def opens(backend: Backend, credentials: Mapping[str, Any]) -> bool:
    """Whether the database takes this username and password."""
    who = {"user": credentials["username"], "password": credentials["password"]}
    try:
        psycopg.connect(**backend.database, **who).close()
    except psycopg.OperationalError:
        return False
    return True


def test_token_runs_out(
    backend: Backend, plain: Callable[..., Variables], make_client: Callable[..., VaultClient], approle: Any
) -> None:
    """Nobody renews the script's token: each read is refused, for ever, and the database user is gone with it."""
    approle(token_period="5s")
    ours = make_client()
    script = plain()
    # Not by reading until it is refused: that would issue a lease in the token's last moment, which may outlive it.
    eventually(lambda: not opens(backend, script["dynamic"]["data"]))
    assert is_refused(script)
    assert is_refused(script)
    assert opens(backend, ours.get_database_dynamic_secret("db-demo-dynamic").data)


def test_password_rotates(
    backend: Backend, plain: Callable[..., Variables], make_client: Callable[..., VaultClient], root: hvac.Client
) -> None:
    """What the script read once is refused by the database after a rotation; ours is told so, and has the new one."""
    ours, script = make_client(), plain()
    before = ours.get_database_static_secret("db-demo-static")
    root.secrets.database.rotate_static_role_credentials("db-demo-static", mount_point="my-vault-app-database")
    assert not opens(backend, script["static"]["data"])
    assert opens(backend, ours.get_instead_of(before).data)


def test_vault_is_away(plain: Callable[..., Variables], make_client: Callable[..., VaultClient], proxy: Proxy) -> None:
    """Each read of the script fails with it; ours serves what it has, marked stale."""
    ours = make_client(VAULT_URL=proxy.url, KV_SECRET_REFRESH_INTERVAL="0.1")
    script = plain(VAULT_ADDR=proxy.url)
    before = ours.get_kv_secret("database")
    proxy.refuse()
    with pytest.raises(requests.ConnectionError):
        read_again(script)
    stale = eventually(lambda: (secret := ours.get_kv_secret("database")).stale and secret)
    assert stale.data == before.data


def test_each_read_is_a_request(
    backend: Backend, plain: Callable[..., Variables], make_client: Callable[..., VaultClient]
) -> None:
    """Fifty threads of the script make fifty database users; fifty of ours share one."""
    ours, script = make_client(), plain()
    path = "my-vault-app-database/creds/db-demo-dynamic"
    with ThreadPoolExecutor(THREADS) as threads:
        since = backend.audit.position()
        list(threads.map(lambda _: read_again(dict(script)), range(THREADS)))
        assert backend.audit.count(since)[path] == THREADS
        since = backend.audit.position()
        list(threads.map(ours.get_database_dynamic_secret, ["db-demo-dynamic"] * THREADS))
        assert backend.audit.count(since)[path] == 1


def test_lease_outlives_the_program(
    backend: Backend, start: Run, login: dict[str, str], make_client: Callable[..., VaultClient]
) -> None:
    """The script's token and database user live on when it has ended; ours are revoked as it closes."""
    program = start(sys.executable, SCRIPT, **login)
    assert (program.wait(), program.err) == (0, "")
    user = program.out.split("dynamic user ")[1].split()[0]
    assert user in users(backend)
    with make_client() as ours:
        user = ours.get_database_dynamic_secret("db-demo-dynamic").data["username"]
        assert user in users(backend)
    eventually(lambda: user not in users(backend))


def users(backend: Backend) -> list[str]:
    """Who may log in to the database."""
    name, password = backend.superuser
    with psycopg.connect(**backend.database, user=name, password=password) as connection:
        return [row[0] for row in connection.execute("SELECT rolname FROM pg_roles WHERE rolcanlogin")]
