"""setup-vault.sh on the real server: what it makes, that it converges, and what it says when it cannot."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import hvac
import psycopg
import pytest

from config_loader import VaultConfig
from devserver.setup import without_vault
from tests.backends import Backend
from tests.e2e.conftest import PROJECT
from vault_client import VaultClient

SCRIPT = PROJECT / "setup-vault.sh"
ONE, OTHER = "11111111-0000-0000-0000-000000000000", "22222222-0000-0000-0000-000000000000"
Done = subprocess.CompletedProcess[str]

# A fake, for an end at a chosen moment: `bao`, but for one command, which kills the script and all that it started.
BAO_THAT_FAILS = """#!/usr/bin/env bash
case "$*" in *{command}*) {failure} ;; esac
exec {bao} "$@"
"""
KILLED = "kill -9 0"
FAILED_ONCE = "if mkdir {folder}/failed; then echo transaction commit failed >&2; exit 2; fi"


def setup(backend: Backend, **variables: str) -> Done:
    return run(SCRIPT, backend, **variables)


def run(script: Path, backend: Backend, **variables: str) -> Done:
    """Run the script in a session of its own."""
    environment = {**without_vault(os.environ), **backend.administration, **variables}
    return subprocess.run(
        ["bash", str(script)], env=environment, capture_output=True, text=True, start_new_session=True, check=False
    )


class Application:
    """An application of a test's own on the shared server."""

    def __init__(self, backend: Backend, entity: str, folder: Path) -> None:
        self._backend = backend
        self._folder = folder
        self.entity = entity

    def setup(self, role_id: str, **variables: str) -> Done:
        return setup(self._backend, VAULT_ENTITY=self.entity, VAULT_ROLE_ID=role_id, **variables)

    def setup_failing_at(self, command: str, role_id: str, failure: str = KILLED) -> Done:
        """As if the script was killed, or the server failed, at the first command that contains this."""
        path = self._backend.administration["PATH"]
        fake = self._folder / "bao"
        bao = shlex.quote(str(shutil.which("bao", path=path)))
        fake.write_text(BAO_THAT_FAILS.format(command=shlex.quote(command), bao=bao, failure=failure))
        fake.chmod(0o755)
        return self.setup(role_id, PATH=f"{self._folder}:{path}")

    @property
    def role_id(self) -> str:
        """That with which it can log in now."""
        answer = self._backend.root.auth.approle.read_role_id(self.entity)
        return str(answer["data"]["role_id"])

    @property
    def aliases(self) -> list[str]:
        data = self._backend.root.secrets.identity.read_entity_by_name(self.entity)["data"]
        return [alias["name"] for alias in data["aliases"]]

    def reads_everything(self) -> bool:
        """Logs in with a fresh secret_id, and reads a secret of each kind; raises if it cannot."""
        secret_id = self._backend.root.auth.approle.generate_secret_id(self.entity)["data"]["secret_id"]
        environ = {
            **self._backend.application,
            "VAULT_ENTITY": self.entity,
            "VAULT_ROLE_ID": self.role_id,
            "VAULT_SECRET_ID": secret_id,
        }
        with VaultClient(VaultConfig.load(environ=environ)) as client:
            client.get_kv_secret("database")
            client.get_database_dynamic_secret("db-demo-dynamic")
            client.get_database_static_secret("db-demo-static")
        return True


@pytest.fixture
def application(backend: Backend, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Application]:
    entity = "own-" + re.sub(r"\W", "-", request.node.name.removeprefix("test_"))[:30]
    yield Application(backend, entity, tmp_path)
    root = backend.root
    root.secrets.identity.delete_entity_by_name(entity)
    root.auth.approle.delete_role(entity)
    for mount in (f"{entity}-kv", f"{entity}-database"):
        root.sys.disable_secrets_engine(mount)


def state(backend: Backend, entity: str = "my-vault-app") -> str:
    """What the script prepared, as the server tells it, short of ids and times."""
    root, mount = backend.root, f"{entity}-database"
    role = root.adapter.get(f"/v1/auth/approle/role/{entity}")["data"]
    told = [
        root.sys.read_policy(entity)["data"]["rules"],
        {key: value for key, value in role.items() if key != "local_secret_ids"},
        len(root.secrets.identity.read_entity_by_name(entity)["data"]["aliases"]),
        root.secrets.kv.v2.read_secret_metadata("database", mount_point=f"{entity}-kv")["data"]["current_version"],
        of_the_script(root.secrets.database.list_roles(mount_point=mount)["data"]["keys"]),
        root.secrets.database.read_role("db-demo-dynamic", mount_point=mount)["data"],
        of_the_script(root.secrets.database.list_static_roles(mount_point=mount)["data"]["keys"]),
        root.secrets.database.read_connection("postgres", mount_point=mount)["data"],
    ]
    return json.dumps(told, sort_keys=True).replace(entity, "ENTITY")


def of_the_script(roles: list[str]) -> list[str]:
    """Those that it makes, and the one that it takes away again; other tests leave others on the same server."""
    return [role for role in roles if role.startswith(("db-demo-", "bootstrap"))]


class TestConvergence:
    def test_setup_may_run_again(self, backend: Backend) -> None:
        """The same state, also after a change by hand; a new secret_id, and no new version of the sample secret."""
        before = state(backend)
        backend.root.auth.approle.create_or_update_approle("my-vault-app", token_num_uses=2, secret_id_num_uses=1)
        secret_id = backend.setup()
        assert state(backend) == before
        assert secret_id != backend.secret_id

    def test_run_that_was_killed_is_completed(self, backend: Backend, application: Application) -> None:
        """Wherever it ended: the next run has the result of one clean run."""
        for command in ("policy write", "creds/setup-static-user"):
            assert application.setup_failing_at(command, ONE).returncode == -9
        assert application.setup(ONE).returncode == 0
        assert state(backend, application.entity) == state(backend)
        assert application.reads_everything()

    def test_rotation_meanwhile_is_no_failure(self, application: Application, tmp_path: Path) -> None:
        """The server may be rotating the very role that is written."""
        done = application.setup_failing_at("static-roles/", ONE, FAILED_ONCE.format(folder=shlex.quote(str(tmp_path))))
        assert (done.returncode, (tmp_path / "failed").exists()) == (0, True)

    def test_changed_role_id_locks_nobody_out(self, backend: Backend, application: Application) -> None:
        """With the role_id that the role has, everything can be read at every moment of a change, and after it."""
        application.setup(ONE)
        for command in (f"role-id role_id={OTHER}", "policy write"):
            assert application.setup_failing_at(command, OTHER).returncode == -9
            assert application.reads_everything()
        assert application.setup(OTHER).returncode == 0
        assert (application.role_id, application.aliases) == (OTHER, [OTHER])
        assert holders(backend, ONE) == []
        assert state(backend, application.entity) == state(backend)

    def test_role_id_of_another_is_refused(self, backend: Backend, application: Application) -> None:
        """It says whose it is, and changes nothing."""
        theirs = Application(backend, "my-vault-app", Path()).role_id
        before = state(backend), policies(backend)
        done = application.setup(theirs)
        assert done.returncode == 1
        assert f"the role_id {theirs} is an alias of the entity my-vault-app" in done.stderr
        assert (state(backend), policies(backend)) == before

    @pytest.mark.parametrize(
        ("suffix", "kind", "options", "found"),
        [
            ("kv", "kv", {"version": "1"}, "found kv version 1 at the path {}, expected kv version 2"),
            ("kv", "transit", None, "found transit at the path {}, expected kv"),
            ("database", "transit", None, "found transit at the path {}, expected database"),
        ],
    )
    def test_mount_of_another_kind_stays(
        self, backend: Backend, application: Application, suffix: str, kind: str, options: dict[str, str], found: str
    ) -> None:
        """It says what it found there, and nothing is overwritten."""
        mount = f"{application.entity}-{suffix}"
        backend.root.sys.enable_secrets_engine(kind, path=mount, options=options)
        done = application.setup(ONE)
        assert done.returncode == 1
        assert found.format(f"{mount}/") in done.stderr
        assert application.entity not in policies(backend)


def policies(backend: Backend) -> list[str]:
    return list(backend.root.sys.list_policies()["data"]["policies"])


def holders(backend: Backend, role_id: str) -> list[str]:
    """The entities that have this alias."""
    accessor = backend.root.sys.list_auth_methods()["data"]["approle/"]["accessor"]
    answer = backend.root.secrets.identity.lookup_entity(alias_name=role_id, alias_mount_accessor=accessor)
    return [answer["data"]["name"]] if isinstance(answer, dict) else []


class TestWhatItIsTold:
    def test_setup_ends_with_the_export(self, backend: Backend) -> None:
        """Which is all of stdout, for `eval`; what it did, and what to type next, is told on stderr."""
        done = setup(backend)
        assert re.fullmatch(r"export VAULT_SECRET_ID=\S+\n", done.stdout)
        assert "✓ static role db-demo-static" in done.stderr
        assert done.stderr.endswith(f"\n{PROJECT}:\n      .venv/bin/python vault_app.py\n\n")

    def test_formats_in_the_environment_do_not_matter(self, backend: Backend) -> None:
        """Nor what would wrap the answers, or send the requests to an agent."""
        assert setup(
            backend, VAULT_FORMAT="yaml", BAO_FORMAT="json", VAULT_DETAILED="true", VAULT_CLI_NO_COLOR="1",
            VAULT_WRAP_TTL="60", BAO_AGENT_ADDR="http://127.0.0.1:1",
        ).returncode == 0  # fmt: skip

    def test_setup_speaks_bao_variables(self, backend: Backend) -> None:
        """BAO_ADDR and BAO_TOKEN do as well; the application's own VAULT_URL wins over both addresses."""
        names = {"VAULT_ADDR": "BAO_ADDR", "VAULT_TOKEN": "BAO_TOKEN"}
        variables = {names.get(name, name): value for name, value in backend.administration.items()}
        assert setup(backend, **variables, VAULT_ADDR="", VAULT_TOKEN="").returncode == 0
        nowhere = dict.fromkeys(("VAULT_ADDR", "BAO_ADDR"), "http://127.0.0.1:1")
        done = setup(backend, **nowhere, VAULT_URL=backend.url, VAULT_TOKEN="wrong")
        assert f"Preparing {backend.url} for" in done.stderr

    def test_odd_database_names_are_quoted(self, backend: Backend, application: Application) -> None:
        """What a URL gives a meaning to in the database's name, and what the command line does in a password."""
        database, user, password = "50%off a?b#ü&c", "o'dd @ user", "@/etc/hostname"
        name, superuser_password = backend.superuser
        with psycopg.connect(**backend.database, user=name, password=superuser_password, autocommit=True) as superuser:
            superuser.execute(f'CREATE DATABASE "{database}"')
            superuser.execute(f"CREATE ROLE \"{user}\" SUPERUSER LOGIN PASSWORD '{password}'")
        done = application.setup(ONE, DB_NAME=database, DB_USER=user, DB_PASSWORD=password)
        assert done.returncode == 0, done.stderr
        assert application.reads_everything()

    def test_batch_tokens_need_no_more(self, backend: Backend, application: Application) -> None:
        """TOKEN_TYPE=batch alone does: they end after a minute, and have no period."""
        assert application.setup(ONE, TOKEN_TYPE="batch").returncode == 0
        role = backend.root.auth.approle.read_role(application.entity)["data"]
        assert (role["token_type"], role["token_period"], role["token_ttl"]) == ("batch", 0, 60)
        assert application.reads_everything()

    @pytest.mark.parametrize(
        ("variables", "said"),
        [
            ({"VAULT_TOKEN": ""}, "VAULT_TOKEN is not set; it takes a token that may administer http"),
            ({"DB_PASSWORD": ""}, "DB_PASSWORD is not set"),
            ({"DB_NAME": ""}, "DB_NAME is empty"),
            ({"VAULT_ENTITY": ""}, "[vault] entity: a value is required"),
            ({"VAULT_URL": "nonsense"}, "[vault] url: found 'nonsense' in VAULT_URL"),
            ({"TOKEN_TYPE": "batch", "TOKEN_PERIOD": "1m"}, "TOKEN_TYPE=batch and TOKEN_PERIOD=1m exclude each other"),
        ],
    )
    def test_wrong_setting_is_named(self, backend: Backend, variables: dict[str, str], said: str) -> None:
        """Before anything is asked of the server."""
        done = setup(backend, **variables)
        assert done.returncode in (1, 2)
        assert said in done.stderr
        assert "Preparing" not in done.stderr

    def test_setup_fails_at_the_first_error(self, backend: Backend) -> None:
        """It names the command, and quotes no password."""
        done = setup(backend, DB_PASSWORD="wrong-password-1234")
        assert done.returncode != 0
        assert "config/postgres" in done.stderr
        assert "failed, for the reason above" in done.stderr
        assert "wrong-password-1234" not in done.stdout + done.stderr

    @pytest.mark.parametrize(
        "pasted",
        [
            'set -e\neval "$(bash {})"\necho went on',
            'eval "$(bash {})" &&\necho went on',
        ],
    )
    def test_failed_setup_fails_the_eval(self, backend: Backend, pasted: str) -> None:
        """Nothing that is pasted behind it goes on with an old secret_id."""
        environment = {**without_vault(os.environ), **backend.administration, "VAULT_TOKEN": ""}
        done = subprocess.run(
            ["bash"], input=pasted.format(shlex.quote(str(SCRIPT))), env=environment, capture_output=True, text=True,
            check=False,
        )  # fmt: skip
        assert (done.returncode, done.stdout) == (1, "")


@pytest.mark.parametrize("line_ends", ["\n", "\r\n"])
def test_settings_are_those_of_the_application(backend: Backend, tmp_path: Path, line_ends: str) -> None:
    """However they are written in config.ini, and wherever the folder is."""
    folder = tmp_path / "own dir" / "ünï clone"
    folder.mkdir(parents=True)
    for path in [SCRIPT, *PROJECT.glob("*.py")]:
        shutil.copy(path, folder)
    shutil.copytree(PROJECT / "vaultkit", folder / "vaultkit")
    lines = ["[vault]", "Entity: colon-app", f"url: {backend.url}/", "role_id: x", ""]
    (folder / "config.ini").write_bytes(line_ends.join(lines).encode())
    done = run(folder / SCRIPT.name, backend, VAULT_ADDR="", VAULT_TOKEN="wrong")
    assert f"Preparing {backend.url} for colon-app\n" in done.stderr


def test_leases_may_be_renewed_and_given_back(backend: Backend) -> None:
    """What the policy grants beside the reading of secrets."""
    role_id = Application(backend, "my-vault-app", Path()).role_id
    api = hvac.Client(url=backend.url)
    api.auth.approle.login(role_id, backend.secret_id)
    lease = api.secrets.database.generate_credentials("db-demo-dynamic", mount_point="my-vault-app-database")[
        "lease_id"
    ]
    assert api.sys.renew_lease(lease)["lease_id"] == lease
    assert api.sys.revoke_lease(lease).status_code == 204
    api.auth.token.revoke_self()


class TestValuesForScripts:
    def ask(self, *names: str, **environment: str) -> Done:
        """As on a machine where nothing is installed (-S)."""
        command = [sys.executable, "-S", str(PROJECT / "config_loader.py"), *names]
        environment = {**without_vault(os.environ), **environment}
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    def test_values_come_a_line_each(self) -> None:
        """Those of the file, under those of the environment; no secret_id is needed."""
        done = self.ask("vault.entity", "vault.namespace", "vault.tls_verify", "kv_secret.path", KV_SECRET_PATH="a,b")
        assert (done.returncode, done.stdout) == (0, "my-vault-app\n\ntrue\na,b\n")

    @pytest.mark.parametrize(
        ("name", "environment", "said"),
        [
            ("vault.entity", {"VAULT_ENTITY": ""}, "[vault] entity: a value is required"),
            ("vault.url", {"VAULT_ADDR": "127.0.0.1"}, "[vault] url: found '127.0.0.1' in VAULT_ADDR"),
            ("vault.entiti", {}, "vault.entiti: there is no such setting"),
            ("vault.secret_id", {"VAULT_SECRET_ID": "hush"}, "[vault] secret_id: it is a secret"),
        ],
    )
    def test_wrong_value_is_named(self, name: str, environment: dict[str, str], said: str) -> None:
        """On stderr, with status 2; and what is secret is not printed."""
        done = self.ask(name, **environment)
        assert (done.returncode, done.stdout) == (2, "")
        assert said in done.stderr
        assert "hush" not in done.stderr
