"""recipes/: pools whose connections follow the credentials, on the real database; each claim for both pools."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from typing import Any

import hvac
import psycopg
import pytest
from sqlalchemy import text

from benchmarks.rotation import MOST_RATIO, run
from lifetime import Moment
from recipes.psycopg_pool import VaultPool
from recipes.rotation import REPLACING_SECONDS, Rotation
from recipes.sqlalchemy_engine import vault_engine
from tests.backends import Backend
from tests.fakes import FakeClock
from tests.integration.conftest import eventually
from vault_client import VaultClient
from vault_errors import VaultError, VaultUnreachable
from vault_secret import Secret

MOUNT = "my-vault-app-database"
STATIC = "db-demo-static"
SIZE = 3

Checkout = Callable[[], AbstractContextManager[Callable[[str], Any]]]
"""Takes a connection out of the pool; what comes is a function that makes a query."""
OpenPool = Callable[..., Checkout]


@contextmanager
def sqlalchemy_pool(vault: VaultClient, get: Callable[[], Secret], database: dict[str, Any]) -> Iterator[Checkout]:
    url = f"postgresql+psycopg:///{database['dbname']}?host={database['host']}&port={database['port']}"
    with vault_engine(vault, get, url, pool_size=SIZE, max_overflow=0) as engine:

        @contextmanager
        def checkout() -> Iterator[Callable[[str], Any]]:
            with engine.connect() as connection:
                yield lambda query: connection.execute(text(query)).scalar_one()

        yield checkout


@contextmanager
def psycopg_pool(vault: VaultClient, get: Callable[[], Secret], database: dict[str, Any]) -> Iterator[Checkout]:
    where = " ".join(f"{key}={value}" for key, value in database.items())
    with VaultPool(vault, get, where, min_size=SIZE, timeout=20) as pool:

        @contextmanager
        def checkout() -> Iterator[Callable[[str], Any]]:
            def ask(query: str) -> Any:
                row = connection.execute(query).fetchone()
                assert row is not None
                return row[0]

            with pool.connection() as connection:
                yield ask

        yield checkout


@pytest.fixture(params=[sqlalchemy_pool, psycopg_pool], ids=["sqlalchemy", "psycopg_pool"])
def open_pool(request: pytest.FixtureRequest, client: VaultClient, backend: Backend) -> Iterator[OpenPool]:
    """Opens a pool on the real database."""
    with ExitStack() as stack:
        yield lambda get: stack.enter_context(request.param(client, get, backend.database))


@pytest.fixture
def role(root: hvac.Client, request: pytest.FixtureRequest) -> Iterator[str]:
    """A dynamic role with leases of 4 s."""
    name = "recipes"
    create = """CREATE ROLE "{{name}}" LOGIN PASSWORD '{{password}}';"""
    database = root.secrets.database
    database.create_role(name, "postgres", [create], default_ttl="4s", max_ttl="1h", mount_point=MOUNT)
    yield name
    database.delete_role(name, mount_point=MOUNT)


@pytest.fixture
def sessions(backend: Backend) -> Callable[[str], set[int]]:
    """The backend processes that serve a user, or any of a dynamic role."""

    def ask(user: str) -> set[int]:
        name, password = backend.superuser
        query = "SELECT pid FROM pg_stat_activity WHERE usename LIKE %s AND pid <> pg_backend_pid()"
        with psycopg.connect(**backend.database, user=name, password=password) as connection:
            return {row[0] for row in connection.execute(query, [user])}

    return ask


def rotate(root: hvac.Client) -> None:
    root.secrets.database.rotate_static_role_credentials(STATIC, mount_point=MOUNT)


def fill(checkout: Checkout) -> set[int]:
    """Have every connection of the pool open at the same time; return their processes."""
    with ExitStack() as stack:
        return {stack.enter_context(checkout())("SELECT pg_backend_pid()") for _ in range(SIZE)}


def test_pool_logs_in_with_dynamic_credentials(open_pool: OpenPool, client: VaultClient, role: str) -> None:
    """As the user that Vault made."""
    checkout = open_pool(partial(client.get_database_dynamic_secret, role))
    with checkout() as ask:
        assert ask("SELECT current_user") == client.get_database_dynamic_secret(role).data["username"]


def test_idle_pool_lets_go_before_the_lease_ends(
    open_pool: OpenPool, client: VaultClient, role: str, sessions: Callable[[str], set[int]]
) -> None:
    """Though nobody uses it: the keeper asks for new credentials, and replaces what is open under the old ones."""
    checkout = open_pool(partial(client.get_database_dynamic_secret, role))
    old = client.get_database_dynamic_secret(role)
    fill(checkout)
    assert len(sessions(old.data["username"])) == SIZE
    eventually(lambda: not sessions(old.data["username"]))
    assert old.ttl is not None
    assert old.ttl > 0
    assert sessions(client.get_database_dynamic_secret(role).data["username"])


def test_running_query_is_not_cut(open_pool: OpenPool, client: VaultClient, role: str) -> None:
    """It began under the old lease, which is replaced meanwhile; its connection goes when it comes back."""
    checkout = open_pool(partial(client.get_database_dynamic_secret, role))
    with checkout() as ask:
        process, old = ask("SELECT pg_backend_pid()"), client.get_database_dynamic_secret(role)
        assert ask("SELECT 'done' FROM pg_sleep(3.5)") == "done"  # the new lease comes after 3.2 s
        assert client.get_database_dynamic_secret(role).generation > old.generation
        assert ask("SELECT pg_backend_pid()") == process
    eventually(lambda: process not in fill(checkout))


def test_static_password_rotated_by_hand(open_pool: OpenPool, client: VaultClient, root: hvac.Client) -> None:
    """The cache still holds the old one: the database refuses it, Vault is asked anew, and the query is made."""
    get = partial(client.get_database_static_secret, STATIC)
    old = get()
    rotate(root)
    with open_pool(get)() as ask:
        assert ask("SELECT current_user") == "my-vault-app-static"
    assert get().generation > old.generation


def test_lease_revoked_by_hand(open_pool: OpenPool, client: VaultClient, root: hvac.Client, role: str) -> None:
    """The user is gone: the next connection is opened as another one."""
    get = partial(client.get_database_dynamic_secret, role)
    old = get()
    root.sys.revoke_lease(old.lease_id)
    with open_pool(get)() as ask:
        assert ask("SELECT current_user") != old.data["username"]


def test_old_connections_go_one_by_one(open_pool: OpenPool, client: VaultClient, root: hvac.Client) -> None:
    """After a rotation each is replaced once; the pool is back to its size, all under the new password."""
    checkout = open_pool(partial(client.get_database_static_secret, STATIC))
    before = fill(checkout)
    rotate(root)
    client.get_instead_of(client.get_database_static_secret(STATIC))
    eventually(lambda: not fill(checkout) & before)
    after = fill(checkout)
    time.sleep(0.5)
    assert fill(checkout) == after


def test_closed_pool_leaves_nothing(client: VaultClient, backend: Backend, sessions: Callable[[str], set[int]]) -> None:
    """No connection, and no thread."""
    for pool in (sqlalchemy_pool, psycopg_pool):
        with pool(client, partial(client.get_database_static_secret, STATIC), backend.database) as checkout:
            fill(checkout)
            assert sessions("my-vault-app-static")
        eventually(lambda: not sessions("my-vault-app-static"))
    eventually(lambda: "pool-keeper" not in {thread.name for thread in threading.enumerate()})


# ── What has to be made to order ─────────────────────────────────────────────────────────────────────────────────────


class Connection:
    """A stand-in for psycopg's: open until it is closed."""

    closed = False

    def close(self) -> None:
        self.closed = True


class Credentials:
    """A stand-in for the client: hands out what the test says, and counts the refusals that it hears of."""

    def __init__(self) -> None:
        self.secret = Secret("database_static", "role", {}, generation=1)
        self.refusals = 0

    def __call__(self) -> Secret:
        return self.secret

    def get_instead_of(self, refused: Secret) -> Secret:
        self.refusals += 1
        self.change()
        return self.secret

    def change(self) -> None:
        self.secret = Secret("database_static", "role", {}, generation=self.secret.generation + 1)

    def lease(self, clock: FakeClock, seconds: float) -> None:
        """From now on it is a lease, with so much left."""
        expires = Moment.now(clock).after(seconds)
        self.secret = Secret("database_dynamic", "role", {}, lease_id="id", generation=1, expires=expires, clock=clock)


@pytest.fixture
def credentials() -> Credentials:
    return Credentials()


@pytest.fixture
def rotation(credentials: Credentials) -> Rotation:
    vault: Any = credentials
    return Rotation(vault, credentials, lambda: None)


def test_connection_opened_during_a_change_is_not_kept(credentials: Credentials, rotation: Rotation) -> None:
    """HikariCP #1836: it was on its way when the old connections were looked for, and would outlive them all."""
    opened: list[Any] = []

    def open_slowly(_: Secret) -> Any:
        opened.append(Connection())
        if len(opened) == 1:
            credentials.change()
        return opened[-1]

    assert rotation.connect(open_slowly) is opened[1]
    assert [connection.closed for connection in opened] == [True, False]


def test_refusal_asks_anew_once(credentials: Credentials, rotation: Rotation) -> None:
    """What is refused twice is the database's word."""

    def refuse(_: Secret) -> Any:
        raise psycopg.OperationalError('FATAL:  password authentication failed for user "u"')

    with pytest.raises(psycopg.OperationalError):
        rotation.connect(refuse)
    assert credentials.refusals == 1


def test_other_trouble_is_not_a_refusal(credentials: Credentials, rotation: Rotation) -> None:
    """A full database must not cost a lease for every try."""

    def refuse(_: Secret) -> Any:
        raise psycopg.OperationalError("FATAL:  sorry, too many clients already")

    with pytest.raises(psycopg.OperationalError):
        rotation.connect(refuse)
    assert credentials.refusals == 0


def test_replacing_is_paced(credentials: Credentials, rotation: Rotation) -> None:
    """The first old connection goes at once, the next one a moment later: no herd comes to the database."""
    opened = [rotation.connect(lambda _: Connection()) for _ in range(2)]
    credentials.change()
    rotation._look()
    assert [rotation.must_go(connection) for connection in opened] == [True, False]
    eventually(lambda: rotation.must_go(opened[1]))


def test_lost_contact_while_connecting_leaves_nothing(credentials: Credentials, rotation: Rotation) -> None:
    """Whether the new connection is outdated cannot be said: it is closed, not forgotten."""
    opened = Connection()
    answers: list[Secret | VaultError] = [credentials.secret, VaultUnreachable("gone")]

    def answer() -> Secret:
        if isinstance(now := answers.pop(0), VaultError):
            raise now
        return now

    rotation._credentials = answer
    with pytest.raises(VaultUnreachable):
        rotation.connect(lambda _: opened)
    assert opened.closed


def test_late_news_make_nothing_old(credentials: Credentials, rotation: Rotation) -> None:
    """A thread that was held up comes with credentials of before: what was opened under the new ones stays."""
    before = credentials.secret
    credentials.change()
    connection = rotation.connect(lambda _: Connection())
    credentials.secret = before
    rotation._look()
    assert not rotation.must_go(connection)


def test_last_moments_wait_for_no_turn(credentials: Credentials, rotation: Rotation) -> None:
    """Of old connections whose lease is about to end all go; those that are patient stay until it has ended."""
    clock = FakeClock()
    credentials.lease(clock, 10)
    opened = [rotation.connect(lambda _: Connection()) for _ in range(3)]
    credentials.change()
    rotation._look()
    assert [rotation.must_go(connection) for connection in opened] == [True, False, False]
    clock.pass_time(9.9)
    assert [rotation.must_go(connection, patient=True) for connection in opened] == [False, False, False]
    assert [rotation.must_go(connection) for connection in opened] == [True, True, True]


def test_ended_lease_goes_without_a_newer_one(credentials: Credentials, rotation: Rotation) -> None:
    """While Vault is away there is none; the user is gone all the same."""
    clock = FakeClock()
    credentials.lease(clock, 10)
    connection = rotation.connect(lambda _: Connection())
    assert not rotation.must_go(connection)
    clock.pass_time(10)
    assert rotation.must_go(connection, patient=True)


def test_foreign_connection_is_left_alone(rotation: Rotation) -> None:
    """One that somebody else opened is somebody else's."""
    assert not rotation.must_go(Connection())


def test_outage_is_told_of_once(credentials: Credentials, rotation: Rotation, caplog: pytest.LogCaptureFixture) -> None:
    """The keeper looks each second, and does not fill a log."""
    for _ in range(5):
        rotation._report(VaultUnreachable("cannot reach Vault"))
    assert caplog.messages == ["pool-keeper: cannot reach Vault"]


def test_keeper_rests_while_old_connections_are_in_use(credentials: Credentials, rotation: Rotation) -> None:
    """After a change it hurries for a while; a long query does not keep it busy."""
    connection = rotation.connect(lambda _: Connection())
    credentials.change()
    rotation._keep()
    hurried = rotation._seconds_to_next_look()
    rotation._changed -= REPLACING_SECONDS
    assert hurried < rotation._seconds_to_next_look()
    assert not connection.closed


# ── Under load ───────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.alone
def test_no_query_is_lost_while_credentials_rotate() -> None:
    """16 threads a pool, leases of 3 s and a rotation every 5 s: what `make rotation` does for a minute, for 20 s.

    Only a query that runs keeps its connection past the end of a lease. That a static password has changed is seen
    within a second or so. A machine that is busy with other things gets twice the ratio that `make rotation` asks for.
    """
    loads = run(20)
    assert [load.failures[:3] for load in loads] == [[]] * 4
    assert sum(len(load.rotations) for load in loads) > 15
    assert all(len(load.rotations) >= 2 for load in loads)
    assert all(load.overdue < (1 if "dynamic" in load.name else 2) for load in loads)
    assert [(load.name, load.ratio) for load in loads if load.ratio > 2 * MOST_RATIO] == []
