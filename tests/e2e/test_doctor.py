"""The doctor as one calls it: what its page shows, its two outputs, its exit status."""

from __future__ import annotations

import json
import re
import signal
import sys
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler

import pytest

from tests.backends import Backend
from tests.e2e.conftest import PROJECT, Run
from tests.e2e.test_readme import blocks
from tests.integration.conftest import eventually
from tests.servers import ScriptedServer, hang_up

PAGE = (PROJECT / "doctor/README.md").read_text(encoding="utf-8")
TRIES = 10


def shape(line: str) -> str:
    """A line without what differs from run to run."""
    return re.sub(r"127\.0\.0\.1:\d+", "ADDRESS", re.sub(r"[\d.]+ (m?s)\b", r"… \1", line))


def test_screen_is_what_it_shows(app: Run, backend: Backend) -> None:
    """Every line of its page, in this order, and no other."""
    where = {f"PG{key.upper()}".replace("DBNAME", "DATABASE"): str(value) for key, value in backend.database.items()}
    program = app("--doctor", KV_SECRET_PATH="databse", DATABASE_DYNAMIC_CHECK_LOGIN="true", **where)
    assert (program.wait(), program.err) == (1, "")
    assert [shape(line) for line in program.out.splitlines()] == [
        shape(line) for line in blocks("text", PAGE)[0].splitlines()
    ]


def test_healthy_system_takes_under_a_second(app: Run, values: Callable[[], list[str]]) -> None:
    """As one object, with status 0, and no secret in it; the quickest of a few, for the machine may be busy."""

    def seconds() -> float:
        program = app("--doctor", "--json")
        assert (program.wait(), program.err) == (0, "")
        found = json.loads(program.out)
        assert found["healthy"]
        assert not [value for value in values() if value in program.out]
        return float(found["seconds"])

    assert any(seconds() < 1 for _ in range(TRIES))


def test_signal_ends_it_in_order(start: Run) -> None:
    """At the next thing that is found; what waits for the server is not told any more."""
    signalled = threading.Event()

    def answer(handler: BaseHTTPRequestHandler) -> None:
        signalled.wait(60)
        hang_up(handler)

    server = ScriptedServer(answer)
    with server.running():
        program = start(sys.executable, "vault_app.py", "--doctor", VAULT_URL=server.url, VAULT_SECRET_ID="x")
        eventually(lambda: server.requests)
        program.send(signal.SIGTERM)
        signalled.set()
        status = program.wait()
    assert (status, "health" in program.out) == (1, False)


def test_full_disk_is_no_health(app: Run) -> None:
    """Status 1, and a word on stderr, though nothing is wrong with the server."""
    program = app("--doctor", before=["sh", "-c", '"$@" > /dev/full', "sh"])
    assert program.wait() == 1
    assert program.err == "vault_app.py: cannot write to stdout: No space left on device\n"


def test_reader_that_leaves_costs_no_traceback(app: Run, backend: Backend) -> None:
    """As with `| head -1`; the token is revoked all the same."""
    since = backend.audit.position()
    program = app("--doctor", before=["sh", "-c", '"$@" | head -1', "sh"])
    program.wait()
    eventually(lambda: backend.audit.count(since)["auth/token/revoke-self"] == 1)
    assert program.err == ""


@pytest.mark.parametrize(
    ("options", "environ", "status", "expected"),
    [
        (("--doctor",), {"VAULT_URL": "nonsense"}, 1, "✗ settings"),
        (("--doctor",), {"VAULT_URL": "http://127.0.0.1:1", "PYTHONIOENCODING": "ascii"}, 1, "? connection"),
        (("--json",), {}, 2, "--json goes with --doctor"),
    ],
)
def test_exit_status(app: Run, options: tuple[str, ...], environ: dict[str, str], status: int, expected: str) -> None:
    """Wrong settings are a finding; and a terminal that knows no ✗ has one all the same."""
    program = app(*options, **environ)
    assert program.wait() == status
    assert expected in program.out + program.err
