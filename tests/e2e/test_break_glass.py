"""scripts/break-glass.sh on the real server and database: who is locked out, what is left, and what is told of it."""

from __future__ import annotations

import secrets
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import hvac
import psycopg
import pytest

from config_loader import VaultConfig
from devserver.openbao import OpenBao
from scripts import break_glass
from scripts.operating import AWAY, OK, REFUSED, USAGE, tell
from tests.backends import Backend
from tests.e2e.conftest import PROJECT, Run
from tests.e2e.in_process import Script, in_process
from tests.integration.conftest import eventually
from vault_client import VaultClient
from vaultkit.errors import LoginRefused, PermissionDenied, VaultOverloaded
from vaultkit.secret import Secret

SCRIPT = PROJECT / "scripts/break-glass.sh"
ENTITY, ADMIN = "glass", "glass-admin"
DATABASE = f"{ENTITY}-database"
DYNAMIC, STATIC = f"{DATABASE}/db-demo-dynamic", f"{DATABASE}/db-demo-static"
LEASES = f"sys/leases/lookup/{DATABASE}/creds/db-demo-dynamic"


class Glass:
    """An application of this file's own, whose database can be cut off from Vault."""

    def __init__(self, backend: Backend) -> None:
        self.backend, self.root = backend, backend.root
        self.password = secrets.token_urlsafe()
        self._postgres = Path(backend.administration["DB_HOST"])
        self._socket = backend.folder / "glass"
        self._can_be_cut = self._postgres.is_absolute()  # not so in containers
        self.superuser = self.connect(*backend.superuser)
        self.superuser.execute(f"CREATE ROLE \"{ADMIN}\" SUPERUSER LOGIN PASSWORD '{self.password}'")
        self.joins()
        where = {"DB_HOST": str(self._socket)} if self._can_be_cut else {}
        self.role_id = secrets.token_urlsafe()
        ours = {"VAULT_ENTITY": ENTITY, "VAULT_ROLE_ID": self.role_id, "DB_USER": ADMIN, "DB_PASSWORD": self.password}
        backend.setup(**ours, **where)

    def connect(self, user: str, password: str) -> psycopg.Connection[Any]:
        return psycopg.connect(**self.backend.database, user=user, password=password, autocommit=True)

    def joins(self) -> None:
        if self._can_be_cut:
            self._socket.symlink_to(self._postgres)

    @contextmanager
    def without_database(self) -> Iterator[None]:
        """Vault's way there is gone, with the connections that it has."""
        yield
        self.joins()

    def cut(self) -> None:
        if not self._can_be_cut:
            pytest.skip("the database is in a container")
        self._socket.unlink()
        self.superuser.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE usename = %s", [ADMIN]
        )

    def secret_id(self) -> str:
        return str(self.root.write_data(f"auth/approle/role/{ENTITY}/secret-id")["data"]["secret_id"])

    def leases(self) -> list[str]:
        try:
            return list(self.root.list(LEASES)["data"]["keys"])
        except TypeError:  # hvac's None for a 404
            return []


class Intruder:
    """Somebody with the application's credentials: a token, two database users, and a session of each."""

    def __init__(self, glass: Glass) -> None:
        self.secret_id = glass.secret_id()
        config = VaultConfig.load(
            environ={
                "VAULT_URL": glass.backend.url,
                "VAULT_ENTITY": ENTITY,
                "VAULT_ROLE_ID": glass.role_id,
                "VAULT_SECRET_ID": self.secret_id,
            }
        )
        self.client = VaultClient(config)
        self.api: hvac.Client = self.client.ask(lambda api: api)
        self.dynamic = self.client.get_database_dynamic_secret("db-demo-dynamic")
        self.static = self.client.get_database_static_secret("db-demo-static")
        self.sessions = [self._session(glass, secret) for secret in (self.dynamic, self.static)]
        self.accessor = str(self.api.auth.token.lookup_self()["data"]["accessor"])

    def _session(self, glass: Glass, secret: Secret) -> psycopg.Connection[Any]:
        return glass.connect(secret.data["username"], secret.data["password"])

    @property
    def secrets(self) -> list[str]:
        """What must be in no output."""
        passwords = [self.dynamic.data["password"], self.static.data["password"]]
        return [self.secret_id, self.accessor, self.api.token, *passwords]

    def has_token(self) -> bool:
        try:
            self.api.auth.token.lookup_self()
        except PermissionDenied:
            return False
        return True

    def open_sessions(self) -> int:
        return sum(is_open(session) for session in self.sessions)

    def close(self) -> None:
        for session in self.sessions:
            session.close()
        self.client.close()


def is_open(session: psycopg.Connection[Any]) -> bool:
    try:
        session.execute("SELECT 1")
    except psycopg.OperationalError:
        return False
    return True


@pytest.fixture(scope="module")
def glass(backend: Backend) -> Iterator[Glass]:
    glass = Glass(backend)
    yield glass
    glass.superuser.close()


@pytest.fixture
def intruder(glass: Glass, caplog: pytest.LogCaptureFixture) -> Iterator[Intruder]:
    eventually(lambda: not glass.leases())  # those of the test before go a moment after their token
    intruder = Intruder(glass)
    yield intruder
    intruder.close()


@pytest.fixture
def break_glass_at(
    backend: Backend, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Script]:
    """Runs the script in this process; `test_script_tells_of_no_server` runs it as it is called."""
    with in_process(break_glass.main, break_glass.PROGRAM, monkeypatch, capsys) as run:
        yield lambda *arguments, **environ: run(
            *arguments, **{"VAULT_URL": backend.url, "VAULT_TOKEN": backend.root_token, **environ}
        )


@pytest.fixture
def run(break_glass_at: Script) -> Iterator[Script]:
    """The same; what it froze is lifted at the end."""
    scopes: list[tuple[str, ...]] = []

    def run(mode: str, *scope: str, **environ: str) -> Any:
        scopes.append(scope)
        return break_glass_at(mode, *scope, **environ)

    yield run
    for scope in scopes:
        assert break_glass_at("--lift", *scope).status == OK


class TestEntity:
    def test_everything_of_it_ends(self, run: Script, glass: Glass, intruder: Intruder) -> None:
        """Its token, its login, its lease, its password, and its sessions; nobody else's session."""
        done = run("--go", "entity", ENTITY)
        assert done.status == OK, done.out
        assert (intruder.has_token(), glass.leases(), intruder.open_sessions()) == (False, [], 0)
        with pytest.raises(LoginRefused):
            intruder.client.login()
        with pytest.raises(psycopg.OperationalError):
            glass.connect(**as_login(intruder.static))
        assert is_open(glass.superuser)

    def test_others_go_on(self, run: Script, glass: Glass, backend: Backend) -> None:
        """Another application of the same server and database keeps its token, its lease and its session."""
        with VaultClient(VaultConfig.load(environ=backend.application)) as client:
            secret = client.get_database_dynamic_secret("db-demo-dynamic")
            with glass.connect(**as_login(secret)) as session:
                run("--go", "entity", ENTITY)
                assert is_open(session)
            assert client.ask(lambda api: api.auth.token.lookup_self())["data"]["ttl"] > 0
            glass.connect(**as_login(secret)).close()

    def test_lifting_lets_in_again(self, break_glass_at: Script, glass: Glass) -> None:
        """With a new secret_id, for the old ones are destroyed; while it is locked out, not even with that."""
        break_glass_at("--go", "entity", ENTITY)
        with pytest.raises(LoginRefused):
            Intruder(glass)
        break_glass_at("--lift", "entity", ENTITY)
        Intruder(glass).close()

    def test_dry_run_changes_nothing(self, run: Script, intruder: Intruder) -> None:
        """It shows each step that the run then takes."""
        dry, sessions = run("--dry-run", "entity", ENTITY), intruder.open_sessions()
        assert (dry.status, intruder.has_token(), sessions) == (OK, True, 2)
        assert intruder.client.login().generation == 2
        assert set(marked("·", dry.out)) <= set(marked("✓", run("--go", "entity", ENTITY).out))
        assert len(marked("·", dry.out)) > 5

    def test_p1_report_tells_no_secret(self, run: Script, intruder: Intruder, backend: Backend) -> None:
        """Tokens are named as the audit log names them, so that what was done with them is found there."""
        done = run("--go", "entity", ENTITY)
        assert not any(secret in done.out + done.err for secret in (*intruder.secrets, backend.root_token))
        hashed = backend.root.write_data("sys/audit-hash/audit", data={"input": intruder.accessor})["data"]["hash"]
        assert f"token {hashed} of auth/approle/login" in done.out
        assert hashed in backend.audit.text()

    def test_kv_is_left_to_people(self, run: Script, glass: Glass) -> None:
        """A value that comes from elsewhere is changed there; the report names it."""
        assert f"to be changed where it comes from: {ENTITY}-kv/data/database" in run("--dry-run", "entity", ENTITY).out


def as_login(secret: Secret) -> dict[str, str]:
    return {"user": secret.data["username"], "password": secret.data["password"]}


def marked(mark: str, out: str) -> list[str]:
    lines = [line.strip() for line in out.splitlines()]
    return [line.removeprefix(mark) for line in lines if line.startswith(mark)]


class TestRoleAndMount:
    def test_database_role_ends(self, run: Script, glass: Glass, intruder: Intruder) -> None:
        """What it has issued, with its session; not the token, nor the session of another role."""
        assert run("--go", "role", DYNAMIC).status == OK
        assert (glass.leases(), intruder.has_token(), intruder.open_sessions()) == ([], True, 1)

    def test_static_role_ends(self, run: Script, glass: Glass, intruder: Intruder) -> None:
        """Its password, and the session that was opened with it; the lease of another role goes on."""
        assert run("--go", "role", STATIC).status == OK
        with pytest.raises(psycopg.OperationalError):
            glass.connect(**as_login(intruder.static))
        assert (len(glass.leases()), intruder.open_sessions()) == (1, 1)

    def test_static_user_is_of_one_database(self, run: Script, glass: Glass) -> None:
        """In another database of the same mount, somebody of this name is somebody else."""
        address = "postgresql://{{username}}:{{password}}@127.0.0.1:1/"
        other = {"plugin_name": "postgresql-database-plugin", "verify_connection": False, "connection_url": address}
        glass.root.write_data(f"{DATABASE}/config/other", data={**other, "username": "u", "password": "p"})
        out = run("--dry-run", "role", STATIC).out
        glass.root.delete(f"{DATABASE}/config/other")
        assert "config/other: sessions of users that are gone ended" in out
        assert f"config/postgres: sessions of users that are gone, and of {ENTITY}-static ended" in out

    def test_auth_role_ends(self, run: Script, backend: Backend, glass: Glass, intruder: Intruder) -> None:
        """All its tokens and secret_ids, not those of another; of later logins one of each address passes at most."""
        with VaultClient(VaultConfig.load(environ=backend.application)) as other:
            generation = other.get_token_info().generation
            assert run("--go", "role", f"auth/approle/{ENTITY}").status == OK
            other.get_kv_secret("database")
            assert other.get_token_info().generation == generation
        assert not intruder.has_token()
        with suppress(VaultOverloaded):
            Intruder(glass).close()
        with pytest.raises(VaultOverloaded):
            Intruder(glass)

    def test_token_role_ends(self, run: Script, root: hvac.Client) -> None:
        """What was created of it, whoever holds it; such tokens have no entity."""
        root.write_data("auth/token/roles/glass-jobs", data={"orphan": True, "allowed_policies": "default"})
        token = root.write_data("auth/token/create/glass-jobs")["auth"]["client_token"]
        assert run("--go", "role", "auth/token/glass-jobs").status == OK
        assert not hvac.Client(url=root.url, token=token).is_authenticated()

    def test_auth_mount_ends(self, people: hvac.Client, run: Script, root: hvac.Client) -> None:
        """All who came in by it; who came in by another goes on."""
        assert run("--go", "mount", "auth/glass-people").status == OK
        assert (people.is_authenticated(), root.is_authenticated()) == (False, True)

    @pytest.fixture
    def people(self, root: hvac.Client) -> Iterator[hvac.Client]:
        """Somebody who came in by an auth method of this test's own."""
        root.sys.enable_auth_method("userpass", path="glass-people")
        root.write_data("auth/glass-people/users/eve", data={"password": "a-password", "token_policies": "default"})
        eve = hvac.Client(url=root.url)
        eve.auth.userpass.login("eve", "a-password", mount_point="glass-people")
        yield eve
        root.sys.disable_auth_method("glass-people")


class TestDatabaseAway:
    def test_what_is_left_is_listed(
        self, run: Script, glass: Glass, intruder: Intruder, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It goes away after the first of three leases: the rest stands in the report, and goes in the next run."""
        role = f"{DATABASE}/creds/db-demo-dynamic"
        for _ in range(2):
            glass.root.read(role)
        first = AfterFirstLease(glass.cut, monkeypatch)
        with glass.without_database():
            done = run("--go", "mount", DATABASE)
        left = [f"lease {role}/{lease}" for lease in glass.leases()]
        assert (done.status, first.called, len(left)) == (REFUSED, True, 2)
        assert all(f"✗ {lease}: revoked: " in done.out for lease in left)  # Vault said so, and why
        report = done.out.partition("\nreport\n")[2]
        assert all(f"{lease}: still there" in report for lease in left)
        assert f"{STATIC.replace('/', '/static-roles/')}: password rotated: " in report
        assert "sessions of users that are gone" in report
        assert run("--go", "mount", DATABASE).status == OK
        assert (glass.leases(), intruder.open_sessions()) == ([], 0)

    def test_other_database_is_listed(self, mysql: str, run: Script) -> None:
        """Its sessions are not ended from here, which is no success."""
        done = run("--go", "mount", mysql)
        assert (done.status, "it is served by mysql-database-plugin" in done.out) == (REFUSED, True)

    @pytest.fixture
    def mysql(self, break_glass_at: Script, root: hvac.Client) -> Iterator[str]:
        """An engine for a MySQL, of which nobody knows whether it is there."""
        root.sys.enable_secrets_engine("database", path="glass-mysql")
        connection = {"connection_url": "{{username}}:{{password}}@tcp(127.0.0.1:1)/", "username": "u", "password": "p"}
        config = {"plugin_name": "mysql-database-plugin", "verify_connection": False, **connection}
        root.write_data("glass-mysql/config/mysql", data=config)
        yield "glass-mysql"
        root.sys.disable_secrets_engine("glass-mysql")

    def test_vault_away_changes_nothing(self, start: Run) -> None:
        """Status 3; as the script is called."""
        program = start("bash", SCRIPT, "--go", "all", VAULT_URL="http://127.0.0.1:1", VAULT_TOKEN="a-token")
        assert (program.wait(), "cannot reach Vault" in program.err) == (AWAY, True)


class AfterFirstLease:  # reads as what it does
    """Calls a function once, when the script has told that the first lease is revoked."""

    def __init__(self, then: Callable[[], None], monkeypatch: pytest.MonkeyPatch) -> None:
        self._then, self._tell, self.called = then, tell, False
        monkeypatch.setattr(break_glass, "tell", self)

    def __call__(self, line: str) -> None:
        self._tell(line)
        if "✓ lease" in line and not self.called:
            self.called = True
            self._then()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["entity", ENTITY], "one of the arguments --dry-run --go --lift is required"),
        (["--go", "entity"], "the name is missing"),
        (["--go", "all", "x"], "all takes no name"),
        (["--go", "entity", "nobody"], "there is nothing at identity/entity/name/nobody"),
        (["--go", "mount", "nowhere"], "nothing is mounted there"),
        (["--go", "mount", DYNAMIC], "expected the path of a mount"),
        (["--go", "role", DATABASE], "expected the path of a mount"),
        (["--go", "role", f"{DATABASE}/none"], "there is no such role; expected one of: db-demo-dynamic"),
        (["--go", "role", "auth/approle/none"], "there is no such role"),
        (["--go", "role", "my-vault-app-kv/x"], "expected database, or auth/"),
    ],
)
def test_wrong_call_is_told(break_glass_at: Script, glass: Glass, arguments: list[str], said: str) -> None:
    """Also a name that is mistyped: of that there is nothing to revoke, which would look like success."""
    done = break_glass_at(*arguments)
    assert done.status == USAGE
    assert said in done.err


class TestWhoAsks:
    def test_token_is_required(self, break_glass_at: Script) -> None:
        """That of the application will not do."""
        done = break_glass_at("--go", "all", VAULT_TOKEN="", VAULT_SECRET_ID="x")
        assert (done.status, "VAULT_TOKEN is not set" in done.err) == (USAGE, True)

    def test_own_entity_is_not_locked_out(self, break_glass_at: Script, root: hvac.Client) -> None:
        """Half-way there would be nobody left to do the rest."""
        root.sys.create_or_update_policy("glass-admins", 'path "*" { capabilities = ["read", "list", "sudo"] }')
        role = "auth/approle/role/glass-admins"
        root.write_data(role, data={"token_policies": "glass-admins"})
        admin = hvac.Client(url=root.url)
        secret_id = root.write_data(f"{role}/secret-id")["data"]["secret_id"]
        admin.auth.approle.login(root.read(f"{role}/role-id")["data"]["role_id"], secret_id)
        about = root.read(f"identity/entity/id/{admin.auth.token.lookup_self()['data']['entity_id']}")["data"]
        done = break_glass_at("--go", "entity", about["name"], VAULT_TOKEN=admin.token)
        assert (done.status, "belongs to an entity that is to be locked out" in done.err) == (USAGE, True)
        assert admin.is_authenticated()
        root.delete(role)

    def test_token_with_a_parent_is_refused(self, break_glass_at: Script, root: hvac.Client) -> None:
        """Its parent may be among those that are revoked."""
        child = root.auth.token.create(policies=["root"])["auth"]["client_token"]
        done = break_glass_at("--go", "mount", "my-vault-app-kv", VAULT_TOKEN=child)
        assert (done.status, "ends when its parent does" in done.err) == (USAGE, True)
        root.auth.token.revoke(child)

    def test_missing_permission_is_no_success(self, break_glass_at: Script, glass: Glass) -> None:
        """What cannot be looked for is not taken for nothing."""
        token = glass.root.auth.token.create(policies=["default"], no_parent=True)["auth"]["client_token"]
        done = break_glass_at("--go", "entity", ENTITY, VAULT_TOKEN=token)
        assert (done.status, "permission denied" in done.err) == (REFUSED, True)


def test_root_password_is_rotated(run: Script, glass: Glass) -> None:
    """Where it is asked for: the old one is refused, and Vault goes on with one that it alone knows."""
    assert run("--go", "mount", DATABASE, "--rotate-root").status == OK
    with pytest.raises(psycopg.OperationalError):
        glass.connect(ADMIN, glass.password)
    assert run("--dry-run", "mount", DATABASE).status == OK
    glass.root.read(f"{DATABASE}/static-roles/db-demo-static")


def test_everybody_else_is_locked_out(break_glass_at: Script, tmp_path: Path) -> None:
    """On a server of its own: every token but that of who asks, another root token, too."""
    with ExitStack() as stack:
        server = OpenBao(tmp_path, lambda: None, port=0)
        stack.callback(server.stop)
        server.start()
        server.wait()
        root = hvac.Client(url=server.url, token=server.root_token)
        other = hvac.Client(url=server.url, token=root.auth.token.create(no_parent=True)["auth"]["client_token"])
        root.sys.enable_auth_method("approle")
        root.write_data("auth/approle/role/web", data={"token_policies": "default"})
        role_id = root.read("auth/approle/role/web/role-id")["data"]["role_id"]
        secret_id = root.write_data("auth/approle/role/web/secret-id")["data"]["secret_id"]
        web = hvac.Client(url=server.url)
        web.auth.approle.login(role_id, secret_id)
        done = break_glass_at("--go", "all", VAULT_URL=server.url, VAULT_TOKEN=server.root_token)
        assert done.status == OK, done.out
        assert [api.is_authenticated() for api in (root, other, web)] == [True, False, False]
        with pytest.raises(hvac.exceptions.VaultError):
            web.auth.approle.login(role_id, secret_id)


def test_drill_goes_as_it_must(start: Run) -> None:
    """`make break-glass-drill`: the scripts as they are called, on servers of their own."""
    program = start("make", "break-glass-drill", "-o", ".venv/installed-demo", f"BIN={Path(sys.executable).parent}")
    for words in ("an intruder is in", "the intruder can do nothing more", "all is well: my-vault-app reads"):
        program.wait_for(words)
    assert program.wait() == 0, program.out
