"""The development infrastructure as a process: what it starts, passes on, and leaves behind (nothing)."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from devserver import DevServer, DevServerError
from devserver.process import Process
from tests.backends import Backend
from tests.e2e.conftest import PROJECT, Program, Run

DEVSERVER = (sys.executable, "-m", "devserver", "--port", "0")


def servers_of(folder: Path) -> list[str]:
    """The command lines of the processes that work in this temporary folder."""
    lines = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout.splitlines()
    return [line for line in lines if str(folder) in line]


@pytest.fixture
def devserver(start: Run, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Starts the devserver with a temporary folder and a home of its own; afterwards both must be empty."""

    def run(*command: str, **environment: str) -> Program:
        # Not below pytest's own folder, which only its owner may enter.
        own = Path("/tmp") / f"vault-test-{os.getpid()}-{tmp_path_factory.mktemp('x').name}"
        temporary, home = own / "tmp", own / "home"
        for folder in (own, temporary, home):
            folder.mkdir(exist_ok=True)
        program = start(*DEVSERVER, *command, TMPDIR=str(temporary), HOME=str(home), **environment)
        program.folder = own  # type: ignore[attr-defined]
        return program

    return run


def assert_nothing_is_left(program: Program) -> None:
    folder: Path = program.folder  # type: ignore[attr-defined]
    assert [str(path) for path in folder.rglob("*") if path.parent != folder] == []
    assert servers_of(folder) == []
    for path in (folder / "tmp", folder / "home", folder):
        path.rmdir()


def test_status_of_the_command_is_passed_on(devserver: Run) -> None:
    """And the command finds what it needs in its environment, but no root token."""
    script = 'test -n "$VAULT_URL" && test -n "$VAULT_SECRET_ID" && test -z "$VAULT_TOKEN" && exit 7'
    program = devserver("--", "bash", "-c", script)
    assert program.wait() == 7
    assert_nothing_is_left(program)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signal_is_passed_on_once(devserver: Run, number: signal.Signals) -> None:
    """The command decides what it means; afterwards everything is gone."""
    script = f"trap 'echo got it; exit 3' {number.name}; echo ready; while :; do sleep 0.05; done"
    program = devserver("--", "bash", "-c", script)
    program.wait_for("ready")
    status, _ = program.stop(number)
    assert (status, program.out.count("got it")) == (3, 1)
    assert_nothing_is_left(program)


def test_signal_during_the_start(devserver: Run) -> None:
    """At the worst moment: nothing is left of what was being started."""
    program = devserver("--", "true")
    program.wait_for("starting")
    assert program.stop(signal.SIGINT)[0] == 128 + signal.SIGINT  # the command did not run, and nobody shall think so
    assert_nothing_is_left(program)


def test_server_shows_the_way_in(devserver: Run) -> None:
    """Without a command it prints what a second terminal needs, and waits for Ctrl+C."""
    program = devserver()
    program.wait_for("Ctrl+C stops both servers")
    exports = dict(line[7:].split("=", 1) for line in program.out.splitlines() if line.startswith("export "))
    assert {"VAULT_ADDR", "VAULT_TOKEN", "VAULT_URL", "VAULT_SECRET_ID", "DB_HOST", "DB_PASSWORD"} <= set(exports)
    assert f"Root token: {exports['VAULT_TOKEN']}" in program.out
    assert f"{exports['VAULT_ADDR']}/ui/" in program.out
    assert program.stop(signal.SIGINT)[0] == 0
    assert_nothing_is_left(program)


def test_proxy_is_for_the_world_outside(devserver: Run) -> None:
    """Behind a proxy, the application still reaches the server on loopback."""
    command = (sys.executable, PROJECT / "vault_app.py", "--once")
    program = devserver("--", *command, HTTP_PROXY="http://127.0.0.1:1", http_proxy="http://127.0.0.1:1")
    assert program.wait() == 0
    assert_nothing_is_left(program)


def test_command_that_does_not_exist(devserver: Run) -> None:
    """Said in one line."""
    program = devserver("--", "no-such-command")
    assert program.wait() == 1
    assert "no-such-command" in program.err
    assert "Traceback" not in program.err
    assert_nothing_is_left(program)


def test_port_in_use_is_no_failure(start: Run) -> None:
    """Another one is taken, and said."""
    with socket.socket() as occupied:
        occupied.bind(("127.0.0.1", 0))
        occupied.listen()
        port = str(occupied.getsockname()[1])
        program = start(sys.executable, "-m", "devserver", "--port", port, "--", "true")
        assert program.wait() == 0
    assert f"port {port} is in use" in program.err


def test_server_that_dies_says_why(tmp_path: Path) -> None:
    """With the end of its log."""
    process = Process(
        "a server", ["bash", "-c", "echo disk is full; exit 4"], log=tmp_path / "log", env={"PATH": os.environ["PATH"]}
    )
    with pytest.raises(DevServerError, match=r"(?s)a server ended with status 4.*disk is full"):
        process.wait_until(lambda: False, 30, lambda: None)


def test_failed_setup_leaves_nothing(tmp_path: Path) -> None:
    """A bad lifetime: the error names the command, and both servers are gone."""
    server = DevServer(lifetimes={"TOKEN_PERIOD": "soon"})
    with pytest.raises(DevServerError, match=r"(?s)soon.*failed, for the reason above"), server:
        pass
    assert not server.folder.exists()
    assert servers_of(server.folder) == []


class TestSetupScript:
    def test_setup_may_run_again(self, backend: Backend) -> None:
        """The same state, a new secret_id, and no new version of the sample secret."""
        before = state(backend)
        secret_id = backend.setup()
        assert state(backend) == before
        assert secret_id != backend.secret_id

    def test_setup_needs_a_server(self, start: Run, backend: Backend) -> None:
        """What is missing is named, with an example."""
        program = start("bash", PROJECT / "setup-vault.sh", PATH=backend.administration["PATH"])
        assert program.wait() == 1
        assert "VAULT_ADDR is not set; for example: export VAULT_ADDR=" in program.err

    def test_setup_fails_at_the_first_error(self, start: Run, backend: Backend) -> None:
        """It names the command, and quotes no password."""
        wrong = {**backend.administration, "DB_PASSWORD": "wrong-password-1234"}
        program = start("bash", PROJECT / "setup-vault.sh", **wrong)
        assert program.wait() != 0
        assert "config/postgres" in program.err
        assert "failed, for the reason above" in program.err
        assert "wrong-password-1234" not in program.out + program.err
        backend.setup()

    def test_setup_ends_with_the_export(self, start: Run, backend: Backend) -> None:
        """Which is all of stdout, for `eval`; what it did is told on stderr."""
        program = start("bash", PROJECT / "setup-vault.sh", **backend.administration)
        program.wait()
        assert re.fullmatch(r"export VAULT_SECRET_ID=\S+\n", program.out)
        assert "✓ static role db-demo-static" in program.err

    def test_setup_speaks_bao_variables(self, start: Run, backend: Backend) -> None:
        """BAO_ADDR and BAO_TOKEN do as well."""
        names = {"VAULT_ADDR": "BAO_ADDR", "VAULT_TOKEN": "BAO_TOKEN"}
        variables = {names.get(name, name): value for name, value in backend.administration.items()}
        assert start("bash", PROJECT / "setup-vault.sh", **variables).wait() == 0


def state(backend: Backend) -> object:
    """What the script prepared, as the server tells it."""
    root = backend.root
    mount = "my-vault-app-database"
    return [
        root.sys.read_policy("my-vault-app")["data"]["rules"],
        root.adapter.get("/v1/auth/approle/role/my-vault-app")["data"],
        root.adapter.get("/v1/identity/entity/name/my-vault-app")["data"]["id"],
        root.secrets.kv.v2.read_secret_metadata("database", mount_point="my-vault-app-kv")["data"],
        root.secrets.database.list_roles(mount_point=mount)["data"],
        root.secrets.database.read_role("db-demo-dynamic", mount_point=mount)["data"],
    ]
