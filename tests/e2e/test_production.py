"""docs/PRODUCTION.md: each command runs, and `./setup-vault.sh production --check` says what is missing."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from devserver.setup import SCRIPT, without_vault
from tests.backends import Backend
from tests.e2e.conftest import PROJECT
from tests.faults.nodes import single_node
from tests.login_methods import tls_server

PAGE = (PROJECT / "docs/PRODUCTION.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| (.*) \| `([^`]+)`( †)? \|$", PAGE, re.MULTILINE)
COMMANDS = [command for what, command, untried in ROWS if "†" not in what + untried]
OF_RAFT = [command for command in COMMANDS if "raft" in command]
Done = subprocess.CompletedProcess[str]


def check(environment: dict[str, str], *arguments: str) -> Done:
    command = ["bash", str(SCRIPT), *(arguments or ("production", "--check"))]
    environment = {**without_vault(os.environ), **environment}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def typed(command: str, folder: Path, environment: dict[str, str]) -> Done:
    """As on the page, but with the command and the Python that are here."""
    command = re.sub(r"^vault ", "bao ", command).replace("python3 ", f"'{sys.executable}' ")
    command = command.replace("backup.snap", f"'{folder}/backup.snap'")
    environment = {**without_vault(os.environ), **environment}
    return subprocess.run(
        ["bash", "-c", command], env=environment, cwd=PROJECT, capture_output=True, text=True, check=False
    )


@pytest.fixture
def prepared(backend: Backend) -> Backend:
    """With a lease and a policy of each kind that the page asks about."""
    backend.root.sys.create_or_update_policy("my-vault-app-audit", 'path "sys/audit-hash/audit" {}')
    backend.root.secrets.database.generate_credentials("db-demo-dynamic", mount_point="my-vault-app-database")
    return backend


@pytest.mark.parametrize("command", [command for command in COMMANDS if command not in OF_RAFT])
def test_command_of_the_page_runs(prepared: Backend, tmp_path: Path, command: str) -> None:
    """On the server that setup-vault.sh has prepared."""
    done = typed(command, tmp_path, {**prepared.administration, **prepared.application})
    assert done.returncode == 0, done.stdout + done.stderr


def test_commands_of_raft_run(tmp_path: Path) -> None:
    """On a server with storage, whose one voter the check then finds to be too few."""
    with single_node(tmp_path) as node:
        environment = {"VAULT_ADDR": node.url, "VAULT_TOKEN": node.root_token}
        path = str(Path(sys.executable).parent) + os.pathsep + os.environ["PATH"]
        failed = [command for command in OF_RAFT if typed(command, tmp_path, {**environment, "PATH": path}).returncode]
        done = check(environment)
    assert failed == []
    assert (tmp_path / "backup.snap").stat().st_size > 0
    assert "✗ raft has 1 voters" in done.stdout
    assert "✗ no audit device writes a file" in done.stdout


class TestCheck:
    def test_what_is_missing_is_told(self, backend: Backend) -> None:
        """Against the outage that is wanted, with what to do; nothing is changed, nor a database password asked for."""
        since = backend.audit.position()
        environment = {key: value for key, value in backend.administration.items() if not key.startswith("DB_")}
        done = check({**environment, "OUTAGE_SECONDS": "11"})
        assert done.returncode == 1, done.stderr
        assert "✓ a token of 60 s survives an outage of 12 s" in done.stdout
        assert "ttl_threshold 10) survives an outage of 10 s, and 11 s are wanted; DB_DYNAMIC_TTL" in done.stdout
        assert "✓ 1 audit device(s) write a file" in done.stdout
        assert f"{done.stdout.count('✗')} of these are missing" in done.stdout
        assert writes_since(backend, since) == []

    def test_answer_that_is_refused_is_missing(self, backend: Backend) -> None:
        """In the server's words: what could not be looked at is not called good."""
        token = backend.root.auth.token.create(policies=["default"])["auth"]["client_token"]
        done = check({**backend.administration, "VAULT_TOKEN": token})
        assert done.returncode == 1
        assert "✗ sys/audit was not answered: permission denied" in done.stdout
        assert "✓ this token is no root token" in done.stdout

    def test_server_with_tls_is_private(self, tmp_path: Path) -> None:
        """Where its certificate is checked."""
        with tls_server(tmp_path) as (root, ca_file):
            done = check({"VAULT_ADDR": root.url, "VAULT_TOKEN": root.token, "VAULT_CACERT": ca_file})
        assert f"✓ {root.url} speaks TLS, and its certificate is checked" in done.stdout

    @pytest.mark.parametrize("arguments", [("production",), ("audit", "production"), ("--check",)])
    def test_other_arguments_are_refused(self, backend: Backend, arguments: tuple[str, ...]) -> None:
        """Nothing is prepared by somebody who wanted a check."""
        assert check(backend.administration, *arguments).returncode == 2

    def test_silent_server_is_told_once(self, backend: Backend) -> None:
        """With a status that is no all's well."""
        done = check({**backend.administration, "VAULT_ADDR": "http://127.0.0.1:1", "VAULT_MAX_RETRIES": "0"})
        assert done.returncode == 1
        assert done.stdout.count("was not answered") == 1


def writes_since(backend: Backend, position: int) -> list[str]:
    """What was asked of the server since then that changes anything."""
    log = backend.audit._path.read_bytes()[position:].decode().splitlines()
    return re.findall(r'"operation":"(?:update|create|delete|patch)".*?"path":"([^"]+)"', "\n".join(log))
