"""The application as its user meets it: what is on the screen, how it ends, and what it asks of the server."""

from __future__ import annotations

import fcntl
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import hvac
import psutil
import pytest

from listeners.console import MOST_BLOCKS
from listeners.signals import SAME_SIGNAL_SECONDS
from tests.backends import Backend
from tests.e2e.conftest import PROJECT, Program, Run, halted_at
from tests.integration.conftest import eventually, put
from tests.servers import ScriptedServer, respond
from vault_app import MOST_FAILURES_TOLD

EXAMPLE = r"""
🚀 Starting Vault Python Client Application
✅ Vault login successful
⚙️ Current Configuration:
- Entity: my-vault-app
- Vault URL: http://\S+
- KV Enabled: true
- Database Dynamic Enabled: true
- Database Static Enabled: true
📖 Example Purpose and Usage Scenarios
🔧 Supported Features:
- KV v2 Secret Engine \(version-based caching\)
- Database Dynamic Secret Engine \(TTL-based renewal\)
- Database Static Secret Engine \(time-based caching\)
- Automatic Token Renewal
- Entity-based Permission Management
🔄 Starting secret renewal... \(Press Ctrl\+C to exit\)
=== KV Secret Refresh ===
✅ KV secret fetch successful.*
📦 KV Secret Data:
\{
  "api_key": "myapp-api-key-123456",
  "database_url": "mysql://localhost:3306/mydb"
\}
=== Database Dynamic Secret Refresh ===
✅ Database Dynamic secret fetch successful \(TTL: 60s\)
🗄️ Database Dynamic Secret \(TTL: 60s\):
  username: v-approle-db-demo-\S+
  password: \S{20}
=== Database Static Secret Refresh ===
✅ Database Static secret fetch successful \(TTL: \d+s\)
🔒 Database Static Secret \(TTL: \d+s\):
  username: my-vault-app-static
  password: \S{20}
"""
"""The example output of the source document, line by line, with patterns where a value changes."""
TIME = r"\d\d:\d\d:\d\d "

DYNAMIC_ROLES = "db-demo-dynamic, nobody"
FAST = {"KV_SECRET_REFRESH_INTERVAL": "0.5", "DATABASE_DYNAMIC_REFRESH_INTERVAL": "0.5"}
SLACK_SECONDS = 5
"""What a busy machine may add; a request that nothing bounds takes 30 s."""


def once(app: Run, *options: str, **environment: str) -> tuple[int, Program]:
    program = app("--once", *options, **environment)
    return program.wait(), program


class TestOutput:
    def test_screen_follows_the_example(self, app: Run) -> None:
        """Every line of the example is there, in its order."""
        status, program = once(app, "--show-secrets")
        lines = iter(program.out.splitlines())
        for pattern in EXAMPLE.strip().splitlines():
            assert any(re.fullmatch(f"(?:{TIME})?{pattern}", line) for line in lines), (
                f"missing: {pattern}\n{program.out}"
            )
        assert (status, program.err) == (0, "")

    def test_ttl_counts_down_on_screen(self, app: Run) -> None:
        """From line to line, on the same lease."""
        program = app(DATABASE_DYNAMIC_REFRESH_INTERVAL="1.1")
        program.wait_for("dynamic TTL", times=3)
        ttls = [int(ttl) for ttl in re.findall(r"dynamic TTL (\d+)s", program.out)]
        assert ttls == sorted(ttls, reverse=True)
        assert len(set(ttls)) == len(ttls)

    def test_news_is_shown(self, app: Run, root: hvac.Client, approle: Callable[..., None]) -> None:
        """A renewal, a changed secret and the end: one line each."""
        approle(token_period="3s")
        put(root, "tests/news", value="one")
        program = app(**FAST, KV_SECRET_PATH="tests/news")
        program.wait_for("KV secret fetch successful")
        put(root, "tests/news", value="two")
        program.wait_for("🔁 KV secret changed: version 1 → 2")
        program.wait_for("🔑 Token renewed (TTL: 3s)")
        program.stop(signal.SIGTERM)
        root.secrets.kv.v2.delete_metadata_and_all_versions("tests/news", mount_point="my-vault-app-kv")
        last_words = f"{TIME}🛑 Stopping: received SIGTERM\n{TIME}🔓 Token revoked, and its leases with it\n"
        assert re.search(f"{last_words}$", program.out)

    def test_p1_hidden_values_stay_hidden(self, app: Run, values: Callable[[], list[str]]) -> None:
        """Neither on the console nor in a log at its most talkative."""
        program = app("--log-level", "debug", **FAST)
        program.wait_for("KV secret unchanged", times=2)
        program.stop(signal.SIGINT)
        assert '"api_key": "********"' in program.out
        assert not [value for value in values() if value in program.out + program.err]
        assert not re.search(r"v-approle-|hvs\.|\bs\.[A-Za-z0-9]{20}", program.out + program.err)

    @pytest.mark.parametrize("level", ["info", "INFO"])
    def test_stdout_is_the_console_alone(self, app: Run, level: str) -> None:
        """The log goes to stderr, each event a line; its level may be written as Python does."""
        _, program = once(app, "--log-level", level)
        assert "LoggedIn(generation=1" in program.err
        assert "LoggedIn" not in program.out

    def test_log_for_machines_is_all_there_is(self, app: Run, values: Callable[[], list[str]]) -> None:
        """With --log-format json every line is an object, from the login to the end, and shows no value."""
        status, program = once(app, "--log-format", "json", "--show-secrets")
        events = [json.loads(line)["event"] for line in program.err.splitlines()]
        assert (status, program.out) == (0, "")
        assert events[0] == "HealthChecked"
        assert events[-1] == "TokenRevoked"
        assert not [value for value in values() if value in program.err]

    def test_no_colour_without_a_terminal(self, app: Run) -> None:
        """Into a pipe goes plain text."""
        assert "\x1b" not in once(app)[1].out

    def test_terminal_without_emoji(self, app: Run) -> None:
        """What the terminal cannot show becomes a question mark; the program runs."""
        status, program = once(app, PYTHONIOENCODING="ascii", PYTHONUTF8="0")
        assert status == 0
        assert "? KV secret fetch successful" in program.out

    def test_x1_stopped_terminal_cannot_hold_it_up(self, backend: Backend) -> None:
        """Ctrl+S, or a paused pager: nobody reads, yet SIGTERM revokes the token and ends the program."""
        since = backend.audit.position()
        environment = {**os.environ, **backend.application, **FAST, "KV_SECRET_REFRESH_INTERVAL": "0.1"}
        reader, writer = os.pipe()
        fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)  # full after a few blocks
        command = [sys.executable, "vault_app.py"]
        process = subprocess.Popen(command, cwd=PROJECT, env=environment, stdout=writer, stderr=subprocess.DEVNULL)
        try:
            eventually(lambda: is_full(writer))
            process.send_signal(signal.SIGTERM)
            assert process.wait(15) == 0
        finally:
            process.kill()
            process.wait()
            os.close(reader)
            os.close(writer)
        assert backend.audit.count(since)["auth/token/revoke-self"] == 1


@pytest.fixture
def shell(start: Run, backend: Backend) -> Run:
    """Starts the application in a line of shell, `app`, with the buffers that Python has of itself."""

    def run(line: str, **environment: str) -> Program:
        line = line.replace("app", f"{shlex.quote(sys.executable)} vault_app.py", 1)
        return start(
            "bash", "-c", f"set -o pipefail; {line}", PYTHONUNBUFFERED="", **backend.application, **environment
        )

    return run


class TestStreams:
    def test_x1_reader_that_leaves_ends_it(self, shell: Run, backend: Backend) -> None:
        """`vault_app.py | head -1` ends without a word, and the token is revoked."""
        since = backend.audit.position()
        program = shell("app | head -1")
        assert (program.wait(), program.err) == (0, "")
        assert backend.audit.count(since)["auth/token/revoke-self"] == 1

    @pytest.mark.parametrize("streams", [">&-", "2>&-", "<&- >&- 2>&-"])
    def test_x1_missing_stream_is_no_error(self, shell: Run, backend: Backend, streams: str) -> None:
        """As under pythonw, or started by a service: it runs, without a console."""
        since = backend.audit.position()
        program = shell(f"app --once {streams}")
        assert (program.wait(), program.err) == (0, "")
        assert backend.audit.count(since)["auth/token/revoke-self"] == 1

    @pytest.mark.parametrize("options", ["--once", "", "--help"])
    def test_x1_full_disk_is_status_1(self, shell: Run, backend: Backend, options: str) -> None:
        """With a word on stderr, and with the token revoked, if there was one."""
        since = backend.audit.position()
        program = shell(f"app {options} > /dev/full")
        assert program.wait() == 1
        assert program.err == "vault_app.py: cannot write to stdout: No space left on device\n"
        count = backend.audit.count(since)
        assert count["auth/token/revoke-self"] == count["auth/approle/login"]

    @pytest.mark.parametrize(
        ("line", "status"),
        [("HTTP_TIMEOUT=soon app", 2), ("app --once --log-level info", 0)],
    )
    def test_full_stderr_changes_no_status(self, shell: Run, line: str, status: int) -> None:
        """What cannot be logged is lost, and nothing else."""
        assert shell(f"{line} 2> /dev/full").wait() == status

    def test_x1_terminal_may_be_closed(self, backend: Backend) -> None:
        """Who is not sent a SIGHUP (`disown`) is to run on: nothing is shown, and the end is in order."""
        since = backend.audit.position()
        with on_a_terminal(backend) as (process, terminal):
            eventually(lambda: b"Database Static" in os.read(terminal, 4096))
            os.close(terminal)
            asked = backend.audit.count(since)[VERSION]
            eventually(lambda: backend.audit.count(since)[VERSION] >= asked + 3)
            process.send_signal(signal.SIGTERM)
            assert process.wait(15) == 0
        assert backend.audit.count(since)["auth/token/revoke-self"] == 1


VERSION = "my-vault-app-kv/metadata/database"


@contextmanager
def on_a_terminal(backend: Backend) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """The application, and the other side of its terminal."""
    terminal, stdout = os.openpty()
    environment = {**os.environ, **backend.application, **FAST}
    process = subprocess.Popen(
        [sys.executable, "vault_app.py"], cwd=PROJECT, env=environment, stdout=stdout, stderr=stdout, stdin=stdout
    )
    os.close(stdout)
    try:
        yield process, terminal
    finally:
        process.kill()
        process.wait()


def is_full(pipe: int) -> bool:
    """Whether a block more would not fit into the pipe."""
    waiting = fcntl.ioctl(pipe, termios.FIONREAD, b"\0" * 4)
    return int.from_bytes(waiting, sys.byteorder) > 4096 - 100


class TestOnce:
    def test_once_asks_as_little_as_possible(self, app: Run, backend: Backend) -> None:
        """One login, one request a secret, one revocation; by the server's own log."""
        since = backend.audit.position()
        assert once(app)[0] == 0
        assert backend.audit.count(since) == {
            "auth/approle/login": 1,
            "my-vault-app-kv/data/database": 1,
            "my-vault-app-database/creds/db-demo-dynamic": 1,
            "my-vault-app-database/static-creds/db-demo-static": 1,
            "auth/token/revoke-self": 1,
        }

    def test_once_with_a_missing_secret_fails(self, app: Run) -> None:
        """The others are still read and shown; the status is 1."""
        status, program = once(app, KV_SECRET_PATH="nowhere")
        assert status == 1
        assert "❌ kv-secret: there is nothing at my-vault-app-kv/data/nowhere" in program.out
        assert "Database Static secret fetch successful" in program.out

    def test_once_without_a_server_fails(self, app: Run) -> None:
        """It says why, and does not wait for ever."""
        status, program = once(app, VAULT_URL="http://127.0.0.1:1")
        assert status == 1
        assert "cannot reach Vault at http://127.0.0.1:1: Connection refused" in program.out
        assert program.out.endswith("🛑 Stopping: without a login there is nothing to read\n")

    def test_t7_once_with_a_refused_login_fails(self, app: Run, backend: Backend) -> None:
        """After one try, with the reason."""
        since = backend.audit.position()
        status, program = once(app, VAULT_SECRET_ID="3ee5080b-c9b3-2714-799c-f8d45a715625")
        assert status == 1
        assert backend.audit.count(since)["auth/approle/login"] == 1
        assert "❌ login: Vault at " in program.out

    def test_once_with_some_engines_off(self, app: Run, backend: Backend) -> None:
        """A disabled engine is not asked for."""
        since = backend.audit.position()
        off = {"DATABASE_DYNAMIC_ENABLED": "false", "DATABASE_STATIC_ENABLED": "false"}
        assert once(app, **off)[0] == 0
        assert not [path for path in backend.audit.count(since) if "database/" in path]


class TestSeveral:
    @pytest.fixture
    def team(self, root: hvac.Client) -> Iterator[list[str]]:
        """Eight secrets below a prefix, on two levels."""
        paths = [f"team/{name}" for name in ("a", "b", "c", "d", "deep/e", "deep/f", "deep/g", "deep/h")]
        for path in paths:
            put(root, path, value="one")
        yield paths
        for path in paths:
            root.secrets.kv.v2.delete_metadata_and_all_versions(path, mount_point="my-vault-app-kv")

    def test_k5_once_reads_all_below_a_prefix(self, app: Run, backend: Backend, team: list[str]) -> None:
        """One scan, one read a secret; the first few are shown, the others are counted."""
        since = backend.audit.position()
        status, program = once(app, KV_SECRET_PATH="team/*")
        count = backend.audit.count(since)
        assert status == 0
        assert count["my-vault-app-kv/detailed-metadata/team/"] == 1
        assert {path: count[f"my-vault-app-kv/data/{path}"] for path in team} == dict.fromkeys(team, 1)
        assert "✅ KV team/a secret fetch successful (version 1)" in program.out
        assert program.out.count("=== KV Secret Refresh ===") == MOST_BLOCKS
        assert "✅ KV: 3 more secrets fetched" in program.out

    def test_k5_changes_below_a_prefix_are_told(self, app: Run, root: hvac.Client, team: list[str]) -> None:
        """What changed is shown, what did not is one line; secrets may come and go."""
        program = app("--show-secrets", KV_SECRET_PATH="team/*", **FAST)
        program.wait_for("✅ KV: 8 secrets unchanged")
        put(root, "team/b", value="two")
        program.wait_for("🔁 KV team/b secret changed: version 1 → 2")
        program.wait_for("✅ KV team/b secret fetch successful (version 2)")
        program.wait_for('"value": "two"')
        root.secrets.kv.v2.delete_latest_version_of_secret("team/c", mount_point="my-vault-app-kv")
        program.wait_for("🔁 KV team/*: 0 came, 1 went")
        program.wait_for("✅ KV: 7 secrets unchanged")
        assert "❌" not in program.out

    def test_several_names_share_a_thread(self, app: Run, team: list[str]) -> None:
        """One thread an engine, however many names; one that is not there does not harm the others."""
        one, many = app(**FAST), app(KV_SECRET_PATH="database, team/*", DATABASE_DYNAMIC_ROLE_ID=DYNAMIC_ROLES, **FAST)
        for program in (one, many):
            program.wait_for("Database Static secret fetch successful")
            program.wait_for("Database Dynamic")
        many.wait_for('❌ database-dynamic: there is no role "nobody" at my-vault-app-database')
        many.wait_for(" secrets unchanged, dynamic TTL ")
        assert psutil.Process(many.process.pid).num_threads() == psutil.Process(one.process.pid).num_threads()

    def test_each_of_a_few_failures_is_told(self, app: Run) -> None:
        """With its path; of many the first few, and a number."""
        paths = [f"nowhere/{number}" for number in range(MOST_FAILURES_TOLD + 2)]
        status, program = once(app, KV_SECRET_PATH=", ".join([*paths, "database"]))
        assert status == 1
        for path in paths[: MOST_FAILURES_TOLD - 1]:
            assert f"❌ kv-secret: there is nothing at my-vault-app-kv/data/{path}\n" in program.out
        assert "nowhere/4 (and 2 more secrets)\n" in program.out
        assert "✅ KV database secret fetch successful" in program.out

    def test_k3_nothing_below_a_prefix_is_told(self, app: Run) -> None:
        """A typing error in config.ini looks like this."""
        status, program = once(app, KV_SECRET_PATH="taem/*")
        assert status == 1
        assert "❌ kv-secret: there is nothing below my-vault-app-kv/taem/" in program.out


@contextmanager
def program_in_a_deaf_request(start: Run, *options: str) -> Iterator[Program]:
    """The application in the middle of a request to a server that never answers."""
    server = ScriptedServer()
    server.script = [server.deaf()]
    with server.running():
        program = start(sys.executable, "vault_app.py", *options, VAULT_URL=server.url, VAULT_SECRET_ID="x")
        eventually(lambda: server.requests)
        yield program


class TestCheckLogin:
    def test_login_shows_the_user(self, app: Run, backend: Backend) -> None:
        """With check_login the dynamic block ends with who the database takes us for."""
        where = {"PGHOST": str(backend.database["host"]), "PGPORT": str(backend.database["port"])}
        status, program = once(
            app, "--show-secrets", PGDATABASE="postgres", DATABASE_DYNAMIC_CHECK_LOGIN="true", **where
        )
        user = re.search(r"username: (v-approle-\S+)", program.out)
        assert status == 0
        assert user
        assert f"👤 The database takes us for {user[1]}\n" in program.out

    def test_login_that_fails_is_explained(self, app: Run) -> None:
        """The secret is still good for others: the status is 0, and neither user nor password is in the reason."""
        status, program = once(app, PGHOST="/nowhere", DATABASE_DYNAMIC_CHECK_LOGIN="true")
        assert status == 0
        assert "❌ No login to the database: connection" in program.out
        assert "v-approle-" not in program.out

    def test_driver_is_needed(self, app: Run, tmp_path: Path) -> None:
        """Without psycopg it is a problem of the configuration, told as such."""
        (tmp_path / "psycopg.py").write_text("raise ImportError")
        program = app(DATABASE_DYNAMIC_CHECK_LOGIN="true", PYTHONPATH=str(tmp_path))
        assert program.wait() == 2
        assert "[database_dynamic] check_login: found true, expected false: psycopg is not installed" in program.err


class TestExit:
    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT])
    def test_x1_signal_ends_it_cleanly(self, app: Run, backend: Backend, number: signal.Signals) -> None:
        """Status 0, at once, with the token revoked."""
        since = backend.audit.position()
        program = app()
        program.wait_for("Database Static secret fetch successful")
        status, seconds = program.stop(number)
        assert status == 0
        assert seconds < 5
        assert backend.audit.count(since)["auth/token/revoke-self"] == 1

    @pytest.mark.parametrize(("options", "thread"), [((), "token-watcher"), (("--once",), "reader")])
    def test_x1_stuck_thread_is_named(self, start: Run, options: tuple[str, ...], thread: str) -> None:
        """A server that accepts and never answers cannot hold up the end."""
        with program_in_a_deaf_request(start, *options) as program:
            status, seconds = program.stop(signal.SIGTERM)
        assert status == 0
        assert seconds < 5 + SLACK_SECONDS
        assert f"{thread} is stuck in a request" in program.out

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
    def test_x1_second_signal_ends_at_once(self, start: Run, number: signal.Signals) -> None:
        """Whoever presses Ctrl+C twice means it."""
        with program_in_a_deaf_request(start) as program:
            program.send(number)
            program.wait_for(f"Stopping: received {number.name}")
            time.sleep(SAME_SIGNAL_SECONDS)
            status, _ = program.stop(number)
        assert status == -number

    def test_x1_nohup_is_obeyed(self, app: Run) -> None:
        """A SIGHUP that was ignored at the start stays ignored; the other signals end it as ever."""
        program = app(before=("nohup",), **FAST)
        program.wait_for("KV secret unchanged")
        program.send(signal.SIGHUP)
        program.wait_for("KV secret unchanged", times=program.out.count("KV secret unchanged") + 2)
        assert program.stop(signal.SIGTERM)[0] == 0
        assert "🛑 Stopping: received SIGTERM" in program.out

    def test_x1_background_job_can_be_ended(self, app: Run) -> None:
        """Scripts start `app &` with SIGINT ignored, and end it with `kill -INT` all the same."""
        program = app(before=("bash", "-c", "trap '' INT QUIT; exec \"$@\"", "bash"))
        program.wait_for("Database Static secret fetch successful")
        assert program.stop(signal.SIGINT)[0] == 0
        assert "🔓 Token revoked" in program.out

    def test_x1_signals_that_windows_lacks(self, start: Run, backend: Backend) -> None:
        """Where there is neither SIGHUP nor SIGQUIT it runs without them."""
        lines = "import signal; del signal.SIGHUP, signal.SIGQUIT; import vault_app; vault_app.main(['--once'])"
        program = start(sys.executable, "-c", lines, **backend.application)
        assert (program.wait(), program.err) == (0, "")

    def test_x1_signal_to_process_and_group_is_one(self, app: Run, backend: Backend) -> None:
        """`timeout` and some supervisors signal both: that is no second signal, and the token is still revoked.

        Here they come while it stands still, as after Ctrl+Z, so that it hears of both at once.
        """
        since = backend.audit.position()
        program = app()
        program.wait_for("Database Static secret fetch successful")
        for number in (signal.SIGSTOP, signal.SIGHUP, signal.SIGTERM, signal.SIGCONT):
            program.send(number)
        assert program.wait() == 0
        assert backend.audit.count(since)["auth/token/revoke-self"] == 1

    def test_x1_signal_during_the_imports(self, start: Run, tmp_path: Path) -> None:
        """Ctrl+C at the very beginning, at the first import of many, leaves no traceback."""
        program = start(sys.executable, "vault_app.py", **halted_at("argparse", tmp_path))
        program.wait_for("halted")
        assert program.stop(signal.SIGINT)[0] == -signal.SIGINT
        assert "Traceback" not in program.err

    def test_x1_signal_while_waiting_for_a_server(self, app: Run) -> None:
        """In the middle of a back-off, too."""
        program = app(VAULT_URL="http://127.0.0.1:1")
        program.wait_for("⏳ Login failed", times=2)
        assert "❌" not in program.out  # no engine has been started in vain
        status, seconds = program.stop(signal.SIGTERM)
        assert status == 0
        assert seconds < 5

    def test_x1_revocation_is_bounded(self, start: Run) -> None:
        """A server that went deaf after the login: the end comes all the same, and says that the token lives on."""
        auth = {"client_token": "hvs.x", "lease_duration": 60, "renewable": True, "policies": []}
        health = respond(200, {"initialized": True, "sealed": False, "standby": False, "version": "2"})
        server = ScriptedServer(health, respond(200, {"auth": auth}))
        server.script.append(server.deaf())
        with server.running():
            program = start(sys.executable, "vault_app.py", VAULT_URL=server.url, VAULT_SECRET_ID="x")
            eventually(lambda: len(server.requests) >= 5)
            status, seconds = program.stop(signal.SIGTERM)
        assert status == 0
        assert seconds < 5 + SLACK_SECONDS
        assert "🔓 Token not revoked" in program.out

    def test_t7_refused_login_is_status_1(self, app: Run, backend: Backend) -> None:
        """With the reason, and what to check, after one try: more would lock the role."""
        since = backend.audit.position()
        program = app(VAULT_SECRET_ID="3ee5080b-c9b3-2714-799c-f8d45a715625")
        assert program.wait() == 1
        assert backend.audit.count(since)["auth/approle/login"] == 1
        assert "Vault refused the login" in program.out
        assert "Traceback" not in program.err

    def test_configuration_problem_is_status_2(self, start: Run) -> None:
        """All problems, no traceback, nothing on stdout."""
        program = start(sys.executable, "vault_app.py", HTTP_TIMEOUT="soon", KV_SECRET_ENABLED="perhaps")
        assert program.wait() == 2
        assert program.err.splitlines()[0] == "vault_app.py: 3 problems in the configuration:"
        assert (program.out, "Traceback" in program.err) == ("", False)

    def test_outage_is_survived(self, start: Run) -> None:
        """Started before the server: it waits, logs in when the server is there, and reads."""
        auth = {"client_token": "hvs.x", "lease_duration": 60, "renewable": True, "policies": []}
        data = {"data": {"k": "v"}, "metadata": {"version": 1, "created_time": "t"}}
        sealed = respond(503, {"errors": ["Vault is sealed"]})
        server = ScriptedServer(*[sealed] * 6, respond(200, {"auth": auth}), respond(200, {"data": data}))
        off = {"DATABASE_DYNAMIC_ENABLED": "false", "DATABASE_STATIC_ENABLED": "false"}
        with server.running():
            program = start(sys.executable, "vault_app.py", VAULT_URL=server.url, VAULT_SECRET_ID="x", **off)
            program.wait_for("⏳ Login failed: auth/approle/login was answered with status 503: Vault is sealed")
            program.wait_for("KV secret fetch successful")


class TestOptions:
    def test_version_is_the_project_s(self, start: Run) -> None:
        """One version, in the program, the project file and the changelog."""
        program = start(sys.executable, "vault_app.py", "--version")
        program.wait()
        version = program.out.split()[-1]
        assert f'version = "{version}"' in (PROJECT / "pyproject.toml").read_text()
        assert f"## {version}" in (PROJECT / "CHANGELOG.md").read_text()

    def test_help_has_an_example(self, start: Run) -> None:
        """It names every option and every exit status, and says what a supervisor should know."""
        program = start(sys.executable, "vault_app.py", "--help")
        program.wait()
        for expected in ("--config", "--once", "--show-secrets", "--no-color", "--log-level", "--version", "example:"):
            assert expected in program.out
        assert "  1  Vault refused the login" in program.out
        assert "no supervisor should restart it at once" in program.out

    def test_config_may_be_elsewhere(self, app: Run, tmp_path: Path) -> None:
        """--config takes any file."""
        path = tmp_path / "other.ini"
        path.write_text("[vault]\nentity = my-vault-app\nrole_id = unknown\n")
        program = app("--config", str(path))
        assert program.wait() == 1
        assert "Vault refused the login" in program.out


def test_steady_state_asks_as_the_rules_say(app: Run, backend: Backend) -> None:
    """A version a turn, and nothing else: no lookups, no renewals before their time, no second read."""
    since = backend.audit.position()
    program = app("--log-level", "info", **FAST)
    program.wait_for("TurnTaken(engine='kv_secret', read=0)", times=8)
    program.stop(signal.SIGINT)
    turns = program.err.count("TurnTaken(engine='kv_secret', read=0)")
    count = backend.audit.count(since)
    versions = count.pop("my-vault-app-kv/metadata/database")
    assert versions in (turns, turns + 1)  # the last turn may not have been told any more
    assert count == {
        "auth/approle/login": 1,
        "my-vault-app-kv/data/database": 1,
        "my-vault-app-database/creds/db-demo-dynamic": 1,
        "my-vault-app-database/static-creds/db-demo-static": 1,
        "auth/token/revoke-self": 1,
    }


def test_overdue_rotation_is_no_news(start: Run) -> None:
    """Asked for each second, the same password is shown once; a TTL of 0 tells what is awaited."""
    bodies = {
        "login": {"auth": {"client_token": "hvs.x", "lease_duration": 60, "renewable": True, "policies": []}},
        "health": {"initialized": True, "sealed": False, "standby": False, "version": "2"},
        "static-creds": {"data": {"username": "u", "password": "p", "ttl": 0, "last_vault_rotation": "t"}},
    }

    def answer(handler: object) -> None:
        path = handler.path  # type: ignore[attr-defined]
        respond(200, next((body for kind, body in bodies.items() if kind in path), {}))(handler)  # type: ignore[arg-type]

    off = {"KV_SECRET_ENABLED": "false", "DATABASE_DYNAMIC_ENABLED": "false", "DATABASE_STATIC_REFRESH_INTERVAL": "1"}
    server = ScriptedServer(answer)
    with server.running():
        program = start(sys.executable, "vault_app.py", VAULT_URL=server.url, VAULT_SECRET_ID="x", **off)
        program.wait_for("✅ static TTL 0s", times=2)
    assert program.out.count("=== Database Static Secret Refresh ===") == 1


def test_first_reads_run_side_by_side(start: Run) -> None:
    """None of three secrets is there before all have been asked for."""
    auth = {"client_token": "hvs.x", "lease_duration": 60, "renewable": True, "policies": []}
    bodies = {
        "login": {"auth": auth},
        "health": {"initialized": True, "sealed": False, "standby": False, "version": "2"},
        "/data/": {"data": {"data": {"k": "v"}, "metadata": {"version": 1, "created_time": "t"}}},
        "/creds/": {"lease_id": "i", "lease_duration": 60, "data": {"username": "u", "password": "p"}},
        "static-creds": {"data": {"username": "u", "password": "p", "ttl": 60, "last_vault_rotation": "t"}},
        "revoke": {},
    }
    all_asked = threading.Barrier(3)

    def answer(handler: object) -> None:
        path = handler.path  # type: ignore[attr-defined]
        kind = next(kind for kind in reversed(bodies) if kind in path)
        if "creds" in kind or "data" in kind:
            all_asked.wait(60)
        respond(200, bodies[kind])(handler)  # type: ignore[arg-type]

    server = ScriptedServer(answer)
    with server.running():
        program = start(sys.executable, "vault_app.py", VAULT_URL=server.url, VAULT_SECRET_ID="x")
        for title in ("KV", "Database Dynamic", "Database Static"):
            program.wait_for(f"{title} secret fetch successful")
        assert program.stop(signal.SIGTERM)[0] == 0
