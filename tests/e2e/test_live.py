"""The live page as a process: what it prints first, what it survives, and how it ends."""

from __future__ import annotations

import os
import re
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.backends import Backend
from tests.e2e.conftest import Program, Run
from tests.e2e.test_devserver import servers_of
from tests.integration.conftest import eventually
from tests.live_page import Reader

END_SECONDS = 5.0
SLACK_SECONDS = 3.0
"""What a busy machine may add."""
ADDRESS = re.compile(r"live page: http://127\.0\.0\.1:(\d+)/")


def reader_of(program: Program) -> Reader:
    program.wait_for("live page: http")
    found = eventually(lambda: ADDRESS.search(program.out))
    return Reader(int(found[1]))


def is_alive(pid: int) -> bool:
    with suppress(ProcessLookupError):
        os.kill(pid, 0)
        return True
    return False


@pytest.fixture
def own(start: Run, backend: Backend) -> Iterator[Callable[..., Program]]:
    """`python -m live` on the server of the tests; what it started is ended, whatever became of it."""
    pids: list[int] = []

    def run(*options: str, **environment: str) -> Program:
        program = start(sys.executable, "-m", "live", "--port", "0", *options, **{**backend.application, **environment})
        program.pids = pids  # type: ignore[attr-defined]
        return program

    yield run
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def application_of(program: Program, reader: Reader) -> int:
    """The process of the application, once it has reported."""
    reader.wait_for(lambda seen: not seen.state["application"]["past"] and len(seen.state["secrets"]) == 3)
    pid = int(reader.state["application"]["pid"])
    program.pids.append(pid)  # type: ignore[attr-defined]
    return pid


class TestOwnServer:
    """`python -m live`: no devserver, and so no buttons."""

    def test_shows_the_application(self, own: Callable[..., Program], values: Callable[[], list[str]]) -> None:
        """Its address comes first; then the console, as ever; nothing can be broken, and no secret is shown."""
        program = own()
        page = reader_of(program)
        with page.watching() as reader:
            pid = application_of(program, reader)
            state = reader.state
        assert (state["faults"], state["pool"], state["requests"]) == ([], None, None)
        assert page.press("kv-write").status == 404
        assert program.out.startswith("live page: ")
        program.wait_for("Vault login successful")
        status, took = program.stop(signal.SIGINT)
        assert (status, is_alive(pid)) == (0, False)
        assert took < END_SECONDS + SLACK_SECONDS
        assert "Token revoked" in program.out
        assert program.err == ""
        said = program.out + "".join(reader.raw)
        assert [secret for secret in values() if secret in said] == []

    def test_shows_values_where_that_is_wanted(self, own: Callable[..., Program]) -> None:
        program = own("--show-secrets")
        with reader_of(program).watching() as reader:
            application_of(program, reader)
            assert reader.state["show_secrets"] is True
            assert "mysql://localhost" in "".join(reader.raw)

    def test_application_outlives_a_page_that_hangs(
        self, own: Callable[..., Program], backend: Backend, approle: Callable[..., None]
    ) -> None:
        """The page's process is stopped, and the token is renewed all the same."""
        approle(token_period="4s")
        program = own()
        with reader_of(program).watching() as reader:
            application_of(program, reader)
            program.send(signal.SIGSTOP)
            since = backend.audit.position()
            eventually(lambda: backend.audit.count(since)["auth/token/renew-self"] >= 3)
            program.send(signal.SIGCONT)
            reader.wait_for(lambda seen: seen.state["token"]["renewed"] >= 3)

    def test_application_outlives_the_page(self, own: Callable[..., Program], backend: Backend) -> None:
        """Killed, the page takes nothing with it."""
        program = own()
        with reader_of(program).watching() as reader:
            pid = application_of(program, reader)
            program.process.kill()
        since = backend.audit.position()
        eventually(lambda: backend.audit.count(since)["my-vault-app-kv/metadata/database"] >= 2)
        os.kill(pid, signal.SIGINT)
        eventually(lambda: backend.audit.count(since)["auth/token/revoke-self"] == 1)

    def test_browser_that_stops_stops_no_renewal(
        self, own: Callable[..., Program], start: Run, backend: Backend, approle: Callable[..., None]
    ) -> None:
        """A reader that is stopped with its connection open."""
        approle(token_period="4s")
        program = own()
        page = reader_of(program)
        script = (
            "import http.client, sys\n"
            f"connection = http.client.HTTPConnection('127.0.0.1', {page.port})\n"
            "connection.request('GET', '/events')\n"
            "for line in connection.getresponse(): print('reading', flush=True)\n"
        )
        browser = start(sys.executable, "-c", script)
        browser.wait_for("reading")
        browser.send(signal.SIGSTOP)
        with page.watching() as reader:
            application_of(program, reader)
            reader.wait_for(lambda seen: seen.state["token"]["renewed"] >= 3)

    def test_refused_login_is_the_end(self, own: Callable[..., Program]) -> None:
        """T7: nobody starts it again, and its status is passed on."""
        program = own(VAULT_SECRET_ID="475a6500-f9f8-fdd4-ec30-54fadcad926e")
        assert program.wait() == 1
        assert "refused the login" in program.out

    def test_wrong_setting_is_told_before_anything_starts(self, own: Callable[..., Program]) -> None:
        program = own(KV_SECRET_REFRESH_INTERVAL="soon")
        assert program.wait() == 2
        assert "refresh_interval" in program.err


@pytest.mark.parametrize("module", ["live", "devserver.live", "live.cost"])
def test_help_has_an_example(start: Run, module: str) -> None:
    program = start(sys.executable, "-m", module, "--help")
    assert program.wait() == 0
    assert "example: " in program.out


@pytest.mark.parametrize("module", ["live", "devserver.live", "devserver"])
@pytest.mark.parametrize("port", ["-1", "65536", "http"])
def test_what_is_no_port_is_told_in_a_line(start: Run, module: str, port: str) -> None:
    program = start(sys.executable, "-m", module, f"--port={port}")
    assert program.wait() == 2
    assert f"--port: '{port}' is no port: expected a number from 0 to 65535" in program.err
    assert "Traceback" not in program.err


# ── With the devserver ───────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def live(start: Run, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    """`make live`, with a temporary folder of its own; afterwards that must be empty, and no process left in it."""
    own = Path("/tmp") / f"vault-test-{os.getpid()}-{tmp_path_factory.mktemp('live').name}"
    own.mkdir()
    program = start(sys.executable, "-m", "devserver.live", "--port", "0", "--vault-port", "0", TMPDIR=str(own))
    yield program
    if program.process.poll() is None:
        program.stop(signal.SIGINT)
    assert servers_of(own) == []
    own.rmdir()


@pytest.mark.parametrize("fault", ["", "cut", "kill", "stop-database"])
def test_end_leaves_nothing(live: Program, fault: str) -> None:
    """Within 5 s of Ctrl+C, also in the midst of a fault, with somebody reading."""
    page = reader_of(live)
    assert live.out.startswith("live page: ")
    with page.watching() as reader:
        reader.wait_for(lambda seen: not seen.state["application"]["past"] and len(seen.state["secrets"]) == 3)
        pid = reader.state["application"]["pid"]
        live.wait_for("live page: ", times=2)  # again, where the first screen has pushed it off the terminal
        if fault:
            assert page.press(fault).status == 202
            reader.wait_for(lambda seen: "FaultBegan" in seen.kinds())
        status, took = live.stop(signal.SIGINT)
    assert (status, is_alive(pid)) == (0, False)
    assert took < END_SECONDS + SLACK_SECONDS
    assert live.err.replace("live: ", "").splitlines() == [
        "starting OpenBao and PostgreSQL; this takes some seconds …",
        *[line for line in live.err.splitlines() if "pool-keeper" in line],
        "everything is stopped and removed",
    ]


def test_end_during_the_start(live: Program) -> None:
    """Before there is a page."""
    live.wait_for("starting")
    assert live.stop(signal.SIGINT)[0] == 128 + signal.SIGINT


def test_token_of_a_killed_application_ends(live: Program) -> None:
    """Nothing is broken for good: after kill -9 from outside it is started again, and the page tells."""
    with reader_of(live).watching() as reader:
        reader.wait_for(lambda seen: not seen.state["application"]["past"])
        os.kill(reader.state["application"]["pid"], signal.SIGKILL)
        reader.wait_for(lambda seen: seen.state["application"]["past"])
        reader.wait_for(lambda seen: seen.state["application"]["starts"] == 2 and not seen.state["application"]["past"])
