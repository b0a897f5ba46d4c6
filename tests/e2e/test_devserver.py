"""The development infrastructure as a process: what it starts, passes on, and leaves behind (nothing)."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from devserver import DevServer, DevServerError
from devserver.openbao import HOST, free_port
from devserver.process import Process
from tests.e2e.conftest import PROJECT, Program, Run
from tests.integration.conftest import eventually

DEVSERVER = (sys.executable, "-m", "devserver", "--port", "0")


def servers_of(folder: Path) -> list[str]:
    """The command lines of the processes that work in this temporary folder; without -ww, `ps` may cut them short."""
    command = ["ps", "-ww", "-eo", "args"]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
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
    script = 'test -n "$VAULT_ADDR" && test -n "$VAULT_SECRET_ID" && test -z "$VAULT_TOKEN" && exit 7'
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


NOBODY = "http://127.0.0.1:1"
ELSEWHERE = {
    "VAULT_URL": NOBODY,
    "BAO_ADDR": NOBODY,
    "VAULT_NAMESPACE": "elsewhere",
    "VAULT_ROLE_ID": "elsewhere",
    "HTTP_PROXY": NOBODY,
    "http_proxy": NOBODY,
}


class Terminal:
    """A shell behind a proxy that knew another server, and into which the lines of `make server` have been pasted."""

    def __init__(self, start: Run, printed: str) -> None:
        lines = printed.splitlines()
        self.exports = [line for line in lines if line.startswith(("export ", "unset "))]
        self.to_type = [line for line in lines if line.startswith("  ")]
        self._start = start

    def type(self, *lines: str, **environment: str) -> Program:
        return self._start("bash", "-c", "\n".join([*self.exports, *lines]), **ELSEWHERE, **environment)

    def answer(self, *lines: str) -> str:
        program = self.type(*lines)
        assert program.wait() == 0, program.out + program.err
        return program.out


def test_server_shows_the_way_in(devserver: Run, start: Run) -> None:
    """Every line that it prints is typed, in order, and does what stands behind it; then it says that all is gone."""
    program = devserver()
    program.wait_for("Ctrl+C stops both servers")
    terminal = Terminal(start, program.out)
    application, patch, delete, undelete, rotate, list_leases, revoke_leases, revoke_token = terminal.to_type
    app = terminal.type(application, KV_SECRET_REFRESH_INTERVAL="0.2", DATABASE_STATIC_CACHE_TIME="1",
                        DATABASE_STATIC_REFRESH_INTERVAL="0.2", PYTHONUNBUFFERED="1")  # fmt: skip
    app.wait_for("Database Static secret fetch successful")
    terminal.answer(patch)
    app.wait_for('"api_key": "changed"')
    terminal.answer(delete)
    app.wait_for("deleted")
    terminal.answer(undelete)
    app.wait_for('"api_key": "changed"', times=2)
    terminal.answer(rotate)
    app.wait_for("Database Static password rotated")
    assert "Keys" in terminal.answer(list_leases)
    terminal.answer(revoke_leases)
    eventually(lambda: terminal.type(list_leases).wait() == 2)  # there is none, a moment later
    terminal.answer(revoke_token)
    app.wait_for("token generation 2")
    app.wait_for("Database Dynamic credentials replaced")
    assert app.stop(signal.SIGINT)[0] == 0
    assert_one_address(terminal)
    assert {"PGHOST", "PGPORT", "PGDATABASE"} <= {re.split("[ =]", line)[1] for line in terminal.exports}  # for pools
    assert program.stop(signal.SIGINT)[0] == 0
    assert "both servers are stopped, and everything is removed" in program.err
    assert_nothing_is_left(program)


def assert_one_address(terminal: Terminal) -> None:
    """Whoever exports another VAULT_ADDR moves the script and the application alike."""
    terminal.answer('eval "$(./setup-vault.sh)"')
    for command in ("./setup-vault.sh", ".venv/bin/python vault_app.py --once"):
        elsewhere = terminal.type("export VAULT_ADDR=http://127.0.0.1:2", command)
        assert elsewhere.wait() != 0
        assert "127.0.0.1:2" in elsewhere.out + elsewhere.err


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


def test_free_port_goes_to_who_asked_for_it() -> None:
    """No other program is given it before its server listens there, and then answers in its place."""
    kept = {free_port(0) for _ in range(500)}
    with ExitStack() as stack:
        others = [stack.enter_context(socket.create_server((HOST, 0))) for _ in range(500)]
        assert kept.isdisjoint(other.getsockname()[1] for other in others)
    with socket.create_server((HOST, next(iter(kept)))):
        pass


def test_port_that_another_has_chosen_is_taken() -> None:
    """Though nothing listens there yet: two that are started at the same moment take two."""
    chosen = free_port(free_port(0))
    choose = f"from devserver.openbao import free_port; print(free_port({chosen}))"
    other = subprocess.run([sys.executable, "-c", choose], cwd=PROJECT, check=True, capture_output=True, text=True)
    assert int(other.stdout) != chosen
    assert free_port(chosen) == chosen


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
