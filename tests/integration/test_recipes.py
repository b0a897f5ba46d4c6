"""recipes/: pools whose connections follow the credentials, on the real database; each claim for both pools."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import hvac
import psycopg
import pytest
from sqlalchemy import text

from benchmarks.rotation import MOST_RATIO, run
from devserver.setup import without_vault
from recipes.rotation import LONGEST_LOOK_SECONDS, REPLACING_SECONDS, Rotation, is_refusal
from recipes.vault_engine import vault_engine
from recipes.vault_pool import VaultPool
from tests.backends import Backend
from tests.e2e.conftest import PROJECT
from tests.fakes import FakeClock
from tests.integration.conftest import eventually
from vault_client import VaultClient
from vaultkit.errors import VaultError, VaultUnreachable
from vaultkit.lifetime import Moment
from vaultkit.secret import Secret

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


def make_role(root: hvac.Client, default_ttl: str, max_ttl: str = "1h", **options: Any) -> Iterator[str]:
    name = "recipes"
    create = """CREATE ROLE "{{name}}" LOGIN PASSWORD '{{password}}';"""
    database = root.secrets.database
    database.create_role(
        name, "postgres", [create], default_ttl=default_ttl, max_ttl=max_ttl, mount_point=MOUNT, **options
    )
    yield name
    database.delete_role(name, mount_point=MOUNT)


@pytest.fixture
def role(root: hvac.Client) -> Iterator[str]:
    """A dynamic role with leases of 4 s."""
    yield from make_role(root, default_ttl="4s")


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


@pytest.fixture
def longer_role(root: hvac.Client) -> Iterator[str]:
    """A dynamic role with leases of 10 s, the last two of which are time to let go."""
    yield from make_role(root, default_ttl="10s")


def test_idle_pool_lets_go_before_the_lease_ends(
    open_pool: OpenPool, client: VaultClient, longer_role: str, sessions: Callable[[str], set[int]]
) -> None:
    """Though nobody uses it: the keeper asks for new credentials, and replaces what is open under the old ones."""
    checkout = open_pool(partial(client.get_database_dynamic_secret, longer_role))
    old = client.get_database_dynamic_secret(longer_role)
    fill(checkout)
    assert len(sessions(old.data["username"])) == SIZE
    eventually(lambda: not sessions(old.data["username"]))
    assert old.ttl is not None
    assert old.ttl > 0
    eventually(lambda: sessions(client.get_database_dynamic_secret(longer_role).data["username"]))


def test_running_query_is_not_cut(open_pool: OpenPool, client: VaultClient, role: str) -> None:
    """It began under the old lease, which is replaced meanwhile; its connection goes when it comes back."""
    checkout = open_pool(partial(client.get_database_dynamic_secret, role))
    with checkout() as ask:
        process, old = ask("SELECT pg_backend_pid()"), client.get_database_dynamic_secret(role)
        assert ask("SELECT 'done' FROM pg_sleep(3.5)") == "done"  # the new lease comes after 3.2 s
        assert client.get_database_dynamic_secret(role).revision > old.revision
        assert ask("SELECT pg_backend_pid()") == process
    eventually(lambda: process not in fill(checkout))


@pytest.fixture
def ending_role(root: hvac.Client) -> Iterator[str]:
    """A dynamic role with leases of 10 s, which are renewed for 24 s."""
    yield from make_role(root, default_ttl="10s", max_ttl="24s")


def test_d1_renewals_keep_every_connection(
    make_client: Callable[..., VaultClient],
    backend: Backend,
    ending_role: str,
    sessions: Callable[[str], set[int]],
) -> None:
    """Over two renewals a busy pool of each kind stays as it is; max TTL then costs one new user, and no query."""
    client = make_client(DATABASE_DYNAMIC_ON_EXPIRY="renew")
    get = partial(client.get_database_dynamic_secret, ending_role)
    since, first = backend.audit.position(), get()
    with ExitStack() as stack:
        pools = [
            stack.enter_context(open_a(client, get, backend.database)) for open_a in (sqlalchemy_pool, psycopg_pool)
        ]
        opened = [fill(checkout) for checkout in pools]
        while get().revision == first.revision:
            processes = [fill(checkout) for checkout in pools]
            if get().revision == first.revision:
                assert processes == opened
        for checkout, before in zip(pools, opened, strict=True):
            eventually(partial(lambda checkout, before: not fill(checkout) & before, checkout, before))
        eventually(lambda: not sessions(first.data["username"]))
    asked = backend.audit.count(since)
    assert asked["sys/leases/renew"] >= 2
    assert asked[f"{MOUNT}/creds/{ending_role}"] == 2


def test_static_password_rotated_by_hand(open_pool: OpenPool, client: VaultClient, root: hvac.Client) -> None:
    """The cache still holds the old one: the database refuses it, Vault is asked anew, and the query is made."""
    get = partial(client.get_database_static_secret, STATIC)
    old = get()
    rotate(root)
    with open_pool(get)() as ask:
        assert ask("SELECT current_user") == "my-vault-app-static"
    assert get().revision > old.revision


REVOCATIONS: dict[str, list[str]] = {
    "dropped": [],
    "may not log in": ["""ALTER ROLE "{{name}}" NOLOGIN;"""],
    "expired": ["""ALTER ROLE "{{name}}" VALID UNTIL '2001-01-01';"""],
}


@pytest.fixture(params=list(REVOCATIONS.values()), ids=list(REVOCATIONS))
def role_revoked_somehow(root: hvac.Client, request: pytest.FixtureRequest) -> Iterator[str]:
    """A dynamic role whose users end in one way or another."""
    yield from make_role(root, default_ttl="1h", revocation_statements=request.param)


def test_lease_revoked_by_hand(
    open_pool: OpenPool, client: VaultClient, root: hvac.Client, role_revoked_somehow: str
) -> None:
    """Whatever becomes of its user: the next connection is opened as another one, at once."""
    get = partial(client.get_database_dynamic_secret, role_revoked_somehow)
    old = get()
    root.sys.revoke_lease(old.lease_id)
    with open_pool(get)() as ask:
        assert ask("SELECT current_user") != old.data["username"]


def test_waiting_query_outlasts_an_outage(client: VaultClient, backend: Backend) -> None:
    """The pool has given up when the database can be reached again: who waits is served, not left to time out."""
    asked, is_away = threading.Semaphore(0), True

    def get() -> Secret:
        asked.release()
        if is_away:
            raise VaultUnreachable("gone")
        return client.get_database_static_secret(STATIC)

    where = " ".join(f"{key}={value}" for key, value in backend.database.items())
    with ThreadPoolExecutor() as executor, VaultPool(client, get, where, min_size=1, reconnect_timeout=0.1) as pool:
        waiting = executor.submit(pool.getconn, 60)
        for _ in range(5):  # more often than it tries by itself
            assert asked.acquire(timeout=30)
        is_away = False
        pool.putconn(waiting.result())


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


def test_idle_pool_follows_the_news(
    open_pool: OpenPool, client: VaultClient, root: hvac.Client, sessions: Callable[[str], set[int]]
) -> None:
    """Whoever hears first of a rotated password, the idle connections go at once, not when the keeper next looks."""
    checkout = open_pool(partial(client.get_database_static_secret, STATIC))
    before = fill(checkout)
    eventually(lambda: sessions("my-vault-app-static") == before)
    rotate(root)
    heard = time.monotonic()
    client.get_instead_of(client.get_database_static_secret(STATIC))
    eventually(lambda: not sessions("my-vault-app-static") & before)
    assert time.monotonic() - heard < LONGEST_LOOK_SECONDS / 2


def test_closed_pool_leaves_nothing(client: VaultClient, backend: Backend, sessions: Callable[[str], set[int]]) -> None:
    """No connection, and no thread."""
    of_others = set(threading.enumerate())
    for pool in (sqlalchemy_pool, psycopg_pool):
        with pool(client, partial(client.get_database_static_secret, STATIC), backend.database) as checkout:
            fill(checkout)
            assert sessions("my-vault-app-static")
        eventually(lambda: not sessions("my-vault-app-static"))
    eventually(lambda: "pool-keeper" not in {thread.name for thread in set(threading.enumerate()) - of_others})


@pytest.fixture
def lasting_role(root: hvac.Client) -> Iterator[str]:
    """A dynamic role with leases of an hour."""
    yield from make_role(root, default_ttl="1h")


# ── Elsewhere ────────────────────────────────────────────────────────────────────────────────────────────────────────


def run_program(backend: Backend, *arguments: str, cwd: Path) -> str:
    """What it prints."""
    database = {f"PG{key.upper()}".replace("DBNAME", "DATABASE"): str(value) for key, value in backend.database.items()}
    program = subprocess.run(
        [sys.executable, *arguments],
        env={**without_vault(os.environ), **backend.application, **database},
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert (program.returncode, program.stderr) == (0, "")
    return program.stdout


@pytest.mark.parametrize("recipe", sorted(path.stem for path in (PROJECT / "recipes").glob("*.py")))
def test_recipe_shadows_nothing(recipe: str) -> None:
    """Copied flat beside a program, it is in the way of no package that is installed."""
    assert importlib.util.find_spec(recipe) is None


def test_copied_folder_runs(backend: Backend, tmp_path: Path) -> None:
    """The lines of both pages, typed with the name of an empty folder; and then the snippet."""
    pages = [(PROJECT / room / "README.md").read_text(encoding="utf-8") for room in ("vaultkit", "recipes")]
    for page in pages:
        copy = re.findall(r"^(cp -r .*) \.\./my-program\b", page, re.MULTILINE)
        subprocess.run([*copy[0].split(), tmp_path], cwd=PROJECT, check=True)
    snippet = re.findall(r"```python\n(.*?)```", pages[1], re.DOTALL)[0]
    (tmp_path / "program.py").write_text(snippet, encoding="utf-8")
    program = run_program(backend, "program.py", cwd=tmp_path)
    assert "psycopg as v-approle-" in program
    assert "SQLAlchemy as my-vault-app-static" in program


# ── In the child of a fork ───────────────────────────────────────────────────────────────────────────────────────────


def play_fork(backend: Backend, *arguments: str) -> list[dict[str, Any]]:
    """What each process saw, the parent first."""
    quiet = ["-W", "ignore::DeprecationWarning"]  # of a fork beside threads, from Python 3.12 on
    program = run_program(backend, *quiet, "-m", "tests.integration.forking_pools", *arguments, cwd=PROJECT)
    seen: list[dict[str, Any]] = json.loads(program)
    return seen


@pytest.mark.parametrize("pool", ["sqlalchemy_pool", "psycopg_pool"])
@pytest.mark.parametrize("play", ["together", "held"])
def test_t10_child_of_a_pool_starts_anew(backend: Backend, lasting_role: str, pool: str, play: str) -> None:
    """Under a user and on connections of its own; the parent loses none of its, and nobody gets another's answer."""
    parent, *children = seen = play_fork(backend, pool, lasting_role, play)
    assert [each["wrong"] for each in seen] == [[]] * len(seen)
    assert [len(each["users"]) for each in seen] == [1] * len(seen)
    assert len({*parent["users"], *(user for child in children for user in child["users"])}) == len(seen)
    assert not {*parent["sessions"]} & {session for child in children for session in child["sessions"]}
    assert len(parent["sessions"]) <= SIZE


# ── What has to be made to order ─────────────────────────────────────────────────────────────────────────────────────


class Connection:
    """A stand-in for psycopg's: open until it is closed."""

    closed = False

    def close(self) -> None:
        self.closed = True

    def fileno(self) -> int:
        raise NotImplementedError


class Credentials:
    """A stand-in for the client: hands out what the test says, and counts the refusals that it hears of."""

    def __init__(self) -> None:
        self.secret = Secret("database_static", "role", {}, revision=1)
        self.refusals = 0

    def __call__(self) -> Secret:
        return self.secret

    def listen(self, _: object) -> Callable[[], None]:
        return lambda: None

    def get_instead_of(self, refused: Secret) -> Secret:
        self.refusals += 1
        self.change()
        return self.secret

    def change(self) -> None:
        self.secret = replace(self.secret, revision=self.secret.revision + 1)

    def lease(self, clock: FakeClock, seconds: float) -> None:
        """From now on it is a lease, with so much left."""
        expires = Moment.now(clock).after(seconds)
        self.secret = Secret("database_dynamic", "role", {}, lease_id="id", revision=1, expires=expires, clock=clock)


@pytest.fixture
def credentials() -> Credentials:
    return Credentials()


@pytest.fixture
def rotation(credentials: Credentials) -> Rotation:
    vault: Any = credentials
    return Rotation(vault, credentials, cycle=lambda: None, empty=lambda: None)


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


def refusing(said: str, *, after_password: bool = True) -> Callable[[Secret], Any]:
    """A database that says this to whoever connects, before or after it has asked for the password."""

    def refuse(_: Secret) -> Any:
        connection: Any = SimpleNamespace(used_password=after_password)
        raise psycopg.OperationalError(f"connection failed: {said}", pgconn=connection)

    return refuse


@pytest.mark.parametrize(
    ("said", "after_password"),
    [
        ('FATAL:  password authentication failed for user "u"', True),
        # The PostgreSQL of these tests speaks English only.
        ("FATAL:  Passwort-Authentifizierung für Benutzer »u« fehlgeschlagen", True),
        ('ВАЖНО:  для роли "u" вход запрещён', True),
        ('FATAL:  Peer authentication failed for user "u"', False),
        ('FATAL:  role "u" does not exist', False),
        ('FATAL:  no pg_hba.conf entry for host "10.0.0.1", user "u", database "d", no encryption', False),
        ("ERROR:  no such user: u", False),
    ],
    ids=["wrong", "german", "russian", "peer", "gone", "pg_hba", "pgbouncer"],
)
def test_refusal_asks_anew_once(credentials: Credentials, rotation: Rotation, said: str, after_password: bool) -> None:
    """What is refused twice is the database's word."""
    with pytest.raises(psycopg.OperationalError):
        rotation.connect(refusing(said, after_password=after_password))
    assert credentials.refusals == 1


@pytest.mark.parametrize(
    "said",
    [
        "FATAL:  sorry, too many clients already",
        "FATAL:  remaining connection slots are reserved for roles with the SUPERUSER attribute",
        'FATAL:  database "d" does not exist',
        "FATAL:  the database system is starting up",
        "FATAL:  the database system is not yet accepting connections",
        "server closed the connection unexpectedly",
    ],
    ids=["full", "reserved", "database", "starting", "recovering", "closed"],
)
def test_other_trouble_is_not_a_refusal(credentials: Credentials, rotation: Rotation, said: str) -> None:
    """A full database must not cost a lease for every try."""
    with pytest.raises(psycopg.OperationalError):
        rotation.connect(refusing(said))
    assert credentials.refusals == 0


def test_lost_server_is_not_a_refusal(credentials: Credentials, rotation: Rotation) -> None:
    """Where nobody answered, nobody refused."""
    with pytest.raises(psycopg.OperationalError):
        rotation.connect(lambda _: psycopg.connect(host="127.0.0.1", port=1, user="u", password="p"))
    assert credentials.refusals == 0


def test_asking_in_vain_is_rare(credentials: Credentials, rotation: Rotation) -> None:
    """In a language that we do not know, a full database looks like a refusal: that costs one lease a minute."""
    credentials.lease(FakeClock(), 60)
    for _ in range(3):
        with pytest.raises(psycopg.OperationalError):
            rotation.connect(refusing("FATAL:  tut mir leid, schon zu viele Verbindungen"))
    assert credentials.refusals == 1


def test_password_that_rotates_on_is_asked_for_each_time(credentials: Credentials, rotation: Rotation) -> None:
    """On a slow machine it rotates twice while one connection is opened; that is no reason to believe the old one."""
    for _ in range(3):
        with pytest.raises(psycopg.OperationalError):
            rotation.connect(refusing("FATAL:  password authentication failed"))
    assert credentials.refusals == 3


def test_sqlstate_is_believed() -> None:
    """Should the driver come to tell it one day, no word is read."""
    assert is_refusal(psycopg.errors.InvalidPassword("?"))
    assert not is_refusal(psycopg.errors.TooManyConnections("password authentication failed"))


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


def test_d1_renewed_lease_keeps_its_connections(credentials: Credentials, rotation: Rotation) -> None:
    """They were opened long before under what has been renewed since; its end is the last that was heard of."""
    clock = FakeClock()
    credentials.lease(clock, 10)
    connection = rotation.connect(lambda _: Connection())
    for _ in range(3):
        clock.pass_time(8)
        credentials.lease(clock, 10)
        rotation._look()
    assert not rotation.must_go(connection)
    clock.pass_time(10)
    assert rotation.must_go(connection)


def test_d1_replacing_after_renewals_is_paced(credentials: Credentials, rotation: Rotation) -> None:
    """The lease that ends is the renewed one: there is time for one connection after the other, and patience."""
    clock = FakeClock()
    credentials.lease(clock, 10)
    opened = [rotation.connect(lambda _: Connection()) for _ in range(2)]
    clock.pass_time(8)
    credentials.lease(clock, 10)
    rotation._look()
    clock.pass_time(8)
    credentials.change()
    rotation._look()
    assert [rotation.must_go(connection, patient=True) for connection in opened] == [False, False]
    assert [rotation.must_go(connection) for connection in opened] == [True, False]


def test_foreign_connection_is_left_alone(rotation: Rotation) -> None:
    """One that somebody else opened is somebody else's."""
    assert not rotation.must_go(Connection())


@pytest.mark.timeout(20)
def test_t10_held_locks_are_left_behind(credentials: Credentials) -> None:
    """Some thread that the child does not have holds them for ever."""
    vault: Any = credentials
    pool = VaultPool(vault, credentials)
    for lock in (pool._lock, pool._rotation._lock):
        holder = threading.Thread(target=lock.acquire)
        holder.start()
        holder.join()
    pool._rotation.start_anew()
    assert pool._rotation.connect(lambda _: Connection())
    pool.drain()


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
    """16 threads a pool, leases of 3 s, a rotation every 5 s: `make rotation`, but for two rotations of each.

    Only a query that runs keeps its connection past the end of a lease. That a static password has changed is seen
    within a second or so. A machine that is busy with other things gets twice the ratio that `make rotation` asks for.
    """
    loads = run(12, rotations=2)
    assert [load.failures[:3] for load in loads] == [[]] * 4
    assert sum(len(load.rotations) for load in loads) > 9
    assert all(len(load.rotations) >= 2 for load in loads)
    assert all(load.overdue < (1 if "dynamic" in load.name else 2) for load in loads)
    assert [(load.name, load.ratio) for load in loads if load.ratio > 2 * MOST_RATIO] == []
