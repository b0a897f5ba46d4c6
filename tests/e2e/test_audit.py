"""The audit trail: it is shipped without a loss, its hashes are found, and no request goes without its line."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import hvac
import pytest

from devserver.openbao import OpenBao
from devserver.setup import SCRIPT, without_vault
from tests.audit_trail import PAGE, SHIPPER, Relp, Tcp, Trial, Way, killed_in_turn, rotated_meanwhile, run
from tests.backends import Backend
from tests.e2e.conftest import Program, Run
from tests.integration.conftest import eventually

AUTHORIZATION = "Bearer of-the-test"
ONE, TWO, THREE, FOUR = (b'{"line": %d}\n' % number for number in range(1, 5))


class Receiver:
    """A fake, for failures made to order: stores what it gets, and answers with the next status; 0 hangs up."""

    def __init__(self, *statuses: int) -> None:
        self.lines: list[bytes] = []
        self.headers: list[Mapping[str, str]] = []
        script = list(statuses)

        class Handler(BaseHTTPRequestHandler):
            def do_POST(handler) -> None:
                self.headers.append(dict(handler.headers))
                self.lines += handler.rfile.read(int(handler.headers["Content-Length"])).splitlines(keepends=True)
                if status := script.pop(0) if script else 204:
                    handler.send_response(status)
                    handler.send_header("Location", "/elsewhere")
                    handler.end_headers()

            def do_GET(handler) -> None:
                handler.send_response(200)
                handler.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/ingest"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})

    def __enter__(self) -> Receiver:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as receiver:
        yield receiver


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """An audit file with two lines."""
    path = tmp_path / "audit.log"
    path.write_bytes(ONE + TWO)
    return path


Ship = Callable[[Receiver], Program]


@pytest.fixture
def ship(start: Run, log: Path) -> Ship:
    """Starts the shipper; one that is started later goes on from the same place."""
    place = log.with_name("place.json")
    return lambda to: start(sys.executable, SHIPPER, log, to.url, place, SHIP_AUDIT_AUTHORIZATION=AUTHORIZATION)


def append(log: Path, line: bytes) -> None:
    with log.open("ab") as file:
        file.write(line)


def has_saved(log: Path) -> bool:
    """Whether the place is the end of the file."""
    place = log.with_name("place.json")
    return place.exists() and bool(json.loads(place.read_text())["offset"] == log.stat().st_size)


class TestAtLeastOnce:
    @pytest.mark.parametrize("story", [killed_in_turn, rotated_meanwhile])
    def test_no_line_is_lost(self, story: Callable[[Trial], None]) -> None:
        """Of a real trail, whoever is killed, and whenever the file is rotated."""
        (found,) = run(story, [Way])
        assert found.written > 100
        assert found.lost == 0

    @pytest.mark.parametrize("status", [0, 302, 400, 503])
    def test_batch_is_sent_until_taken(self, ship: Ship, status: int) -> None:
        """Only a 2xx counts: after a receiver that stored the lines and died, they come twice."""
        with Receiver(status) as receiver:
            program = ship(receiver)
            eventually(lambda: len(receiver.lines) == 4)
            program.wait_for("24 bytes wait for it")
        assert receiver.lines == [ONE, TWO, ONE, TWO]
        assert str(status or "no answer") in program.err

    def test_second_run_goes_on(self, ship: Ship, log: Path, receiver: Receiver) -> None:
        """Behind what has arrived."""
        program = ship(receiver)
        eventually(lambda: has_saved(log))
        program.kill()
        append(log, THREE)
        ship(receiver)
        eventually(lambda: receiver.lines == [ONE, TWO, THREE])

    def test_half_a_line_waits(self, ship: Ship, log: Path, receiver: Receiver) -> None:
        """For its end; and if the server has gone on to another file without one, it is shipped as it stands."""
        append(log, THREE[:5])
        ship(receiver)
        eventually(lambda: receiver.lines)
        assert receiver.lines == [ONE, TWO]
        append(log, THREE[5:] + FOUR[:5])
        eventually(lambda: receiver.lines == [ONE, TWO, THREE])
        log.rename(log.with_name("audit.log.1"))
        log.write_bytes(FOUR)
        eventually(lambda: receiver.lines == [ONE, TWO, THREE, FOUR[:5], FOUR])

    def test_first_run_begins_with_the_oldest(self, ship: Ship, log: Path, receiver: Receiver) -> None:
        """What was rotated before it came is shipped as well; what was compressed is past reading."""
        log.with_name("audit.log.2.gz").write_bytes(FOUR)
        log.rename(log.with_name("audit.log.1"))
        log.write_bytes(THREE)
        ship(receiver)
        eventually(lambda: receiver.lines == [ONE, TWO, THREE])

    def test_file_made_before_the_signal(self, ship: Ship, log: Path, receiver: Receiver) -> None:
        """logrotate's `create`: the new file is there, and the server still writes into the old one."""
        ship(receiver)
        eventually(lambda: has_saved(log))
        old = log.rename(log.with_name("audit.log-20261125"))
        log.touch()
        append(old, TWO)
        eventually(lambda: len(receiver.lines) == 3)
        append(old, THREE)
        append(log, FOUR)
        eventually(lambda: len(receiver.lines) == 5)
        assert receiver.lines[2:] == [TWO, THREE, FOUR]


class TestWhatItSays:
    def test_missing_file_is_told(self, ship: Ship, log: Path, receiver: Receiver) -> None:
        """And all that is there is shipped: another file with the name and the inode of the one that is gone, too."""
        program = ship(receiver)
        eventually(lambda: has_saved(log))
        program.kill()
        log.write_bytes(THREE)
        program = ship(receiver)
        program.wait_for("the file that was shipped up to byte 24 is gone: what stood behind that may be lost")
        eventually(lambda: receiver.lines == [ONE, TWO, THREE])

    def test_cut_file_is_told(self, ship: Ship, log: Path, receiver: Receiver) -> None:
        """copytruncate: what it lost nobody knows, and what comes is shipped."""
        program = ship(receiver)
        eventually(lambda: has_saved(log))
        os.truncate(log, 0)
        program.wait_for("never by copytruncate")
        append(log, THREE)
        eventually(lambda: receiver.lines == [ONE, TWO, THREE])

    def test_place_that_is_none(self, ship: Ship, log: Path, receiver: Receiver) -> None:
        """It says what to do, and ends."""
        log.with_name("place.json").write_text("{}")
        program = ship(receiver)
        assert program.wait() == 1
        assert "place.json: found no place in it" in program.err

    def test_p1_authorization_stays_a_header(self, ship: Ship, log: Path) -> None:
        """It is sent, and stands in no message and on no command line; the place is ours alone."""
        with Receiver(503) as receiver:
            program = ship(receiver)
            eventually(lambda: has_saved(log))
        assert [headers["Authorization"] for headers in receiver.headers] == [AUTHORIZATION] * 2
        assert "of-the-test" not in program.err + str(program.process.args)
        assert log.with_name("place.json").stat().st_mode & 0o777 == 0o600

    def test_address_without_credentials(self, start: Run, log: Path) -> None:
        """Those would stand on the command line."""
        program = start(sys.executable, SHIPPER, log, "https://me:hush@siem/", log.with_name("place.json"))
        assert program.wait() == 2
        assert "SHIP_AUDIT_AUTHORIZATION" in program.err


@pytest.mark.tools("rsyslogd")
@pytest.mark.parametrize("way", [Tcp, Relp])
def test_setting_of_rsyslog_ships(way: type[Way]) -> None:
    """The page's, as long as nobody is killed; what is lost when somebody is, `python -m tests.audit_trail` prints."""
    (found,) = run(lambda trial: eventually(lambda: trial.written().total() > 10), [way])
    assert found.lost == 0


class TestTheServer:
    def setup(self, backend: Backend, **variables: str) -> subprocess.CompletedProcess[str]:
        environment = {**without_vault(os.environ), **backend.administration, **variables}
        return subprocess.run(
            ["bash", str(SCRIPT), "audit"], env=environment, capture_output=True, text=True, check=False
        )

    def test_accessor_is_found(self, backend: Backend, tmp_path: Path) -> None:
        """By its hash, as the page types it, with the policy that setup/audit writes; itself it is not in the file."""
        done = self.setup(backend)
        assert done.returncode == 0, done.stderr
        token = backend.root.auth.token.create(policies=["my-vault-app-audit"])["auth"]
        hvac.Client(url=backend.url, token=token["client_token"]).auth.token.lookup_self()
        log = backend.administration["PATH"], str(backend.audit._path)
        environment = {"PATH": log[0], "VAULT_ADDR": backend.url, "VAULT_TOKEN": token["client_token"]}
        typed = snippet("hash=").replace("/var/log/openbao/audit.log", log[1]).replace("vault ", "bao ")
        found = subprocess.run(
            ["bash", "-eu"], input=f"accessor={token['accessor']}\n{typed}", env=environment, capture_output=True,
            text=True, check=True,
        )  # fmt: skip
        assert "auth/token/lookup-self" in found.stdout
        assert token["accessor"] not in backend.audit._path.read_text()

    def test_missing_device_is_told(self, backend: Backend) -> None:
        """A server that takes none from its API is told how to get one, in the server's words and in ours."""
        done = self.setup(backend, AUDIT_DEVICE="other", AUDIT_FILE="/srv/audit.log")
        assert done.returncode == 1
        assert "cannot enable audit device via API" in done.stderr
        assert 'audit "file" "other" {\n        options { file_path = "/srv/audit.log" }' in done.stderr

    def test_no_request_without_its_line(self, tmp_path: Path) -> None:
        """Where the only device cannot write, the server answers nobody."""
        server = OpenBao(tmp_path, lambda: None, port=0)
        folder = tmp_path / "log"
        folder.mkdir()
        server.audit_log = folder / "audit.log"
        server.start()
        try:
            server.wait()
            api = hvac.Client(url=server.url, token=server.root_token)
            api.sys.list_mounted_secrets_engines()
            server.audit_log = folder.rename(tmp_path / "away") / "audit.log"
            folder.touch()  # a folder that is missing would be made
            server.rotate_audit_log(tmp_path / "audit.log.1")
            assert eventually(lambda: is_refused(api))
        finally:
            server.stop()


def is_refused(api: hvac.Client) -> bool:
    try:
        api.sys.list_mounted_secrets_engines()
    except hvac.exceptions.InternalServerError:
        return True
    return False


def snippet(holding: str) -> str:
    """The block of the page that holds this."""
    blocks = re.findall(r"^```bash\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    return next(str(block) for block in blocks if holding in block)
