"""scripts/verify-vault-credentials.sh: what it proves on the real server, and that no failure passes for a proof."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler
from typing import Any

import hvac
import pytest

from scripts.operating import AWAY, OK, REFUSED, USAGE
from scripts.verify_credentials import PROGRAM, main
from tests.backends import Backend
from tests.e2e.conftest import PROJECT, Run
from tests.e2e.in_process import Script, in_process
from tests.login_methods import (
    Prepared,
    PreparedJwt,
    PreparedKubernetes,
    PreparedTokenRole,
    prepared_server,
)
from tests.servers import Answer, ScriptedServer, respond

SCRIPT = PROJECT / "scripts/verify-vault-credentials.sh"
ROLE, KV = "my-vault-app", "my-vault-app-kv/data"
NOTHING: Any = {"data": None, "warnings": ["Invalid path"]}
READ = respond(200, {"data": {"data": {"api_key": "a-value"}, "metadata": {"version": 7}}})
LOOKED_UP = respond(200, {"data": {"meta": {"role_name": ROLE}}})
REVOKED, FORBIDDEN = respond(200, {}), respond(403, {"errors": ["permission denied"]})
SEALED = respond(503, {"errors": ["Vault is sealed"]})


def logged_in(token: str) -> Answer:
    return respond(200, {"auth": {"client_token": token, "lease_duration": 60, "renewable": True, "policies": []}})


LOGINS = [logged_in("token-1"), LOOKED_UP, READ, logged_in("token-2"), LOOKED_UP, READ]
"""What a fake answers until both tokens have read: what comes then is made to order."""


@pytest.fixture
def verify(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Script]:
    """Runs the script in this process; TestProcess runs it as it is called."""
    with in_process(main, PROGRAM, monkeypatch, capsys) as run:
        yield run


@pytest.fixture
def administration(backend: Backend) -> dict[str, str]:
    return {"VAULT_URL": backend.url, "VAULT_TOKEN": backend.root_token}


@pytest.fixture
def at_the_end(backend: Backend, root: hvac.Client) -> Iterator[None]:
    """Sees that a test leaves neither a token nor a secret_id behind."""
    before = issued(root)
    yield
    assert issued(root) <= before


def issued(root: hvac.Client) -> set[str]:
    secret_ids = root.list(f"auth/approle/role/{ROLE}/secret-id")["data"]["keys"]
    return {*root.list("auth/token/accessors")["data"]["keys"], *secret_ids}


class TestProof:
    @pytest.mark.parametrize(
        ("path", "found"),
        [(f"{KV}/database", "version 1, fields"), ("my-vault-app-database/creds/db-demo-dynamic", "a lease of")],
    )
    def test_role_is_proven_by_its_own_secret_id(
        self, verify: Script, administration: dict[str, str], values: Any, at_the_end: None, path: str, found: str
    ) -> None:
        """With an administrator's token it issues one, and destroys it; no value is shown."""
        done = verify(ROLE, path, **administration)
        assert (done.status, done.err) == (OK, "")
        assert f"the second token reads {path}: {found}" in done.out
        assert "the first token is refused" in done.out
        assert not any(value in done.out for value in values())

    def test_settings_are_proven(self, verify: Script, backend: Backend, at_the_end: None) -> None:
        """Without an administrator, those of the application; what `ps` shows of it holds none of them."""
        done = verify(ROLE, f"{KV}/database", **backend.application)
        assert (done.status, done.err) == (OK, "")

    @pytest.mark.parametrize("way", [PreparedKubernetes, PreparedJwt, PreparedTokenRole])
    def test_other_logins_are_proven(self, verify: Script, backend: Backend, logins: Any, way: type[Prepared]) -> None:
        """By the application's own login methods; ROLE is the role of each."""
        prepared = logins(way)
        done = verify(prepared.name, f"{KV}/database", VAULT_URL=backend.url, **without_role(prepared))
        assert (done.status, done.err) == (OK, "")
        assert not any(given.strip() in done.out for given in prepared.given)


def without_role(prepared: Prepared) -> dict[str, str]:
    return {name: value for name, value in prepared.environ.items() if not name.endswith("AUTH_ROLE")}


@pytest.fixture(scope="module")
def logins(backend: Backend, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Prepares a login method; a stand-in reviews the tokens of service accounts."""
    folder = tmp_path_factory.mktemp("verify")
    with ExitStack() as stack:
        reviews, signer = stack.enter_context(prepared_server(backend.root, of="-verify"))
        needed: dict[type[Prepared], dict[str, Any]] = {
            PreparedKubernetes: {"reviews": reviews, "signer": signer, "mount": "kubernetes-verify"},
            PreparedJwt: {"signer": signer, "mount": "jwt-verify"},
        }
        yield lambda way: way(f"verify-{way.__name__.lower()}", backend.root, folder, **needed.get(way, {}))


class TestRefusal:
    @pytest.mark.parametrize(
        ("role", "path", "said"),
        [
            (ROLE, "sys/policies/acl/root", "permission denied"),
            (ROLE, f"{KV}/nothing", "there is nothing at"),
            (ROLE, f"{KV}/gone", "was deleted"),
            (ROLE, "my-vault-app-kv/database", "permission denied"),
            ("no-role", f"{KV}/database", "there is nothing at auth/approle/role/no-role"),
        ],
    )
    def test_path_or_role_is_refused(
        self,
        verify: Script,
        administration: dict[str, str],
        gone: None,
        at_the_end: None,
        role: str,
        path: str,
        said: str,
    ) -> None:
        """A path that is forbidden, missing or deleted is no success, and nothing is left of the try."""
        done = verify(role, path, **administration)
        assert done.status == REFUSED
        assert said in done.err
        assert "all is well" not in done.out

    @pytest.mark.parametrize(
        ("role", "environment", "said"),
        [
            (ROLE, {"VAULT_SECRET_ID": "wrong"}, "refused the login"),
            ("other", {}, "log in as the AppRole my-vault-app"),
        ],
    )
    def test_login_is_refused(
        self, verify: Script, backend: Backend, at_the_end: None, role: str, environment: dict[str, str], said: str
    ) -> None:
        """Credentials that are wrong, and those of another role than the one that was named."""
        done = verify(role, f"{KV}/database", **{**backend.application, **environment})
        assert (done.status, said in done.err) == (REFUSED, True)

    def test_unknown_account_is_refused(self, verify: Script, backend: Backend, logins: Any) -> None:
        """Though the application would go on trying: Vault has answered."""
        prepared = logins(PreparedKubernetes)
        prepared.refuse()
        done = verify(prepared.name, f"{KV}/database", VAULT_URL=backend.url, **without_role(prepared))
        assert (done.status, "refused the login" in done.err) == (REFUSED, True)

    def test_batch_token_is_not_proven(
        self, verify: Script, administration: dict[str, str], approle: Any, at_the_end: None
    ) -> None:
        """It cannot be revoked, and so is not rotated away: that is said, and what lives on."""
        approle(token_type="batch", token_period="0", token_ttl="5s")
        done = verify(ROLE, f"{KV}/database", **administration)
        assert done.status == REFUSED
        assert "batch tokens cannot be revoked" in done.err
        assert "lives until its TTL ends" in done.err

    @pytest.fixture
    def gone(self, root: hvac.Client) -> Iterator[None]:
        kv = root.secrets.kv.v2
        kv.create_or_update_secret("gone", {"a": "value"}, mount_point="my-vault-app-kv")
        kv.delete_latest_version_of_secret("gone", mount_point="my-vault-app-kv")
        yield
        kv.delete_metadata_and_all_versions("gone", mount_point="my-vault-app-kv")


@pytest.mark.parametrize(
    ("arguments", "environment", "said"),
    [
        ([], {}, "usage:"),
        ([ROLE], {}, "usage:"),
        (["", "x"], {}, "ROLE is empty"),
        ([ROLE, "/"], {}, "PATH is empty"),
        ([ROLE, "x"], {"VAULT_URL": "ftp://x"}, "[vault] url"),
        ([ROLE, "x"], {}, "[vault] secret_id: a value is required"),
        ([ROLE, "x"], {"VAULT_WRAPPED_SECRET_ID": "hvs.x"}, "it can be unwrapped once"),
    ],
)
def test_wrong_call_is_told(verify: Script, arguments: list[str], environment: dict[str, str], said: str) -> None:
    """Status 2; nobody was asked. A wrapped secret_id is left to the application, which it was made for."""
    done = verify(*arguments, **environment)
    assert done.status == USAGE
    assert said in done.err


class TestFakeServer:
    """Answers made to order, which a real server does not give at a chosen moment."""

    @pytest.mark.parametrize(
        ("answers", "status", "said"),
        [
            ([*LOGINS, REVOKED, READ, REVOKED], REFUSED, "the first token still reads"),
            (
                [*LOGINS, REVOKED, respond(400, {"errors": ["no"]}), READ, REVOKED],
                REFUSED,
                "turned down with status 400",
            ),
            ([*LOGINS, REVOKED, SEALED], AWAY, "Vault is sealed"),
            ([*LOGINS, REVOKED, FORBIDDEN, FORBIDDEN, REVOKED], REFUSED, "permission denied"),
            ([logged_in("token-1"), LOOKED_UP, respond(200, NOTHING), REVOKED], REFUSED, "without data (Vault adds"),
            ([*LOGINS, REVOKED, FORBIDDEN, READ, SEALED], REFUSED, "could not be given back"),
            ([SEALED], AWAY, "Vault is sealed"),
        ],
        ids=[
            "old-one-reads",
            "only-403-is-proof",
            "outage-is-none",
            "new-one-does-not",
            "no-data",
            "left-behind",
            "sealed",
        ],
    )
    def test_failure_is_no_proof(self, verify: Script, answers: list[Answer], status: int, said: str) -> None:
        """Neither that the old token is dead, nor that the new one lives, nor that all was given back."""
        with ScriptedServer(*answers).running() as server:
            done = verify(ROLE, "a/path", VAULT_URL=server.url, VAULT_SECRET_ID="a-secret-id")
        assert (done.status, said in done.err) == (status, True), done.err
        assert "all is well" not in done.out


class TestProcess:
    """As it is called."""

    def test_script_proves_a_role(self, start: Run, backend: Backend, values: Any, at_the_end: None) -> None:
        """From any folder; neither its output nor what `ps` shows of it holds a secret."""
        program = start("bash", SCRIPT, ROLE, f"{KV}/database", **backend.application)
        assert program.wait() == OK
        assert "all is well" in program.out
        assert not any(value in f"{program.out} {program.err} {program.process.args!r}" for value in values())

    def test_no_server_is_told(self, start: Run) -> None:
        """Status 3, as for one that is sealed."""
        program = start("bash", SCRIPT, ROLE, "a/path", VAULT_URL="http://127.0.0.1:1", VAULT_SECRET_ID="a-secret-id")
        assert (program.wait(), "cannot reach Vault" in program.err) == (AWAY, True)

    def test_signal_leaves_nothing(self, start: Run) -> None:
        """It waits for the step that is under way, and gives back what that was issued."""
        asked, answer = threading.Event(), threading.Event()

        def slow_login(handler: BaseHTTPRequestHandler) -> None:
            asked.set()
            answer.wait(30)
            logged_in("token-1")(handler)

        with ScriptedServer(slow_login, LOOKED_UP, REVOKED).running() as server:
            program = start("bash", SCRIPT, ROLE, "a/path", VAULT_URL=server.url, VAULT_SECRET_ID="a-secret-id")
            assert asked.wait(30)
            program.send(signal.SIGTERM)
            answer.set()
            assert program.wait() == 128 + signal.SIGTERM
        assert server.requests[-1] == "POST auth/token/revoke-self"
