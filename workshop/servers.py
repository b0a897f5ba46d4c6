"""The servers of the labs, in the background: what `source workshop/begin` and `workshop/end` call.

    python -m workshop.servers begin    starts them unless they run, and writes workshop/.run/environment for the shell
    python -m workshop.servers end      stops them and all that a lab left, and removes workshop/.run/

Between the two runs `python -m workshop.servers serve`. It holds a lock as long as it lives, so that a crash, a restart
of the machine or a pid that has gone to another program mislead nobody.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from shlex import quote as quoted
from typing import IO

from devserver import DevServer, DevServerError
from devserver.__main__ import PORT, STALE
from devserver.openbao import HOST
from workshop.leftovers import stop_all_writing_below, within

PROJECT = Path(__file__).parent.parent
RUN = PROJECT / "workshop" / ".run"
ENVIRONMENT = RUN / "environment"
LOCK = RUN / "lock"
LOG = RUN / "servers.log"
FOLDER = RUN / "folder"
"""Says where the servers have their files, should they not be there to remove them."""

LIFETIMES = {"TOKEN_PERIOD": "20s", "DB_DYNAMIC_TTL": "25s", "DB_ROTATION_PERIOD": "20s", "SECRET_ID_TTL": "24h"}
"""As those of `make demo`: short, so that one sees them end. The secret_id lasts the day. The environment wins."""
START_SECONDS = 90.0
STOP_SECONDS = 20.0


def main() -> int:
    commands: dict[str, Callable[[], int]] = {"begin": begin, "end": end, "serve": serve}
    if len(sys.argv) != 2 or sys.argv[1] not in commands:
        print(__doc__, file=sys.stderr)
        return 2
    try:
        return commands[sys.argv[1]]()
    except KeyboardInterrupt:
        return 128 + signal.SIGINT


def say(text: str) -> None:
    print(f"workshop: {text}", flush=True)


# ── begin ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def begin() -> int:
    """Have the servers run and their environment written; return the exit status."""
    RUN.mkdir(mode=0o700, exist_ok=True)
    if is_held() and ENVIRONMENT.exists():
        say("the servers run already; this terminal now knows them")
        return 0
    server = None if is_held() else start()
    if within(START_SECONDS, lambda: is_ready() or has_failed(server)) and is_ready():
        say(ENVIRONMENT.read_text(encoding="utf-8").splitlines()[0].removeprefix("# "))
        return 0
    say(f"the servers did not start; {LOG.relative_to(PROJECT)} ends:")
    print("\n".join(LOG.read_text(encoding="utf-8", errors="replace").splitlines()[-15:]))
    return 1


def start() -> subprocess.Popen[bytes]:
    """Start `serve` in a session of its own: neither Ctrl+C nor the end of this terminal stops it."""
    remove_remains()
    RUN.mkdir(mode=0o700, exist_ok=True)
    say("starting OpenBao and PostgreSQL …")
    with LOG.open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "workshop.servers", "serve"],
            cwd=PROJECT,
            env={**LIFETIMES, **os.environ},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def is_ready() -> bool:
    return ENVIRONMENT.exists() and is_held()


def has_failed(server: subprocess.Popen[bytes] | None) -> bool:
    """Whether it ended; if another terminal was faster, its servers are the ones to wait for."""
    return server is not None and server.poll() is not None and not is_held()


# ── serve ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def serve() -> int:
    """Run the servers until a signal comes; return the exit status."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: stop.set())
    with LOCK.open("a", encoding="utf-8") as lock:
        if not within(1.0, lambda: is_taken(lock)):
            return 0  # another terminal was faster
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        try:
            run_until(stop)
        except Interrupted:
            return 0
        except (DevServerError, OSError) as error:
            print(error, flush=True)
            return 1
    return 0


class Interrupted(Exception):
    """The end was asked for while the servers were starting."""


def run_until(stop: threading.Event) -> None:
    def check() -> None:
        if stop.is_set():
            raise Interrupted

    with DevServer(port=PORT, check=check) as server:
        FOLDER.write_text(str(server.folder), encoding="utf-8")
        new = ENVIRONMENT.with_suffix(".new")
        new.touch(mode=0o600)
        new.write_text(environment_of(server), encoding="utf-8")
        new.replace(ENVIRONMENT)
        try:
            while not stop.wait(1.0):
                server.check()
        finally:
            ENVIRONMENT.unlink(missing_ok=True)


def environment_of(server: DevServer) -> str:
    """What a shell reads: how to administer both servers, how to log in as the application, how to reach the database.

    By a file that nobody else can read, and never on a command line (P1).
    """
    variables = {**server.administration, **server.application, **server.database}
    variables |= {"AUDIT_LOG": str(server.openbao.audit_log), "PYTHONPATH": str(PROJECT)}
    first = os.pathsep.join([str(PROJECT / ".venv" / "bin"), variables.pop("PATH").split(os.pathsep)[0]])
    last = str(server.postgres.programs)  # whoever has a psql of their own keeps it
    taken = "" if server.openbao.port == PORT else f"; port {PORT} is in use"
    return "\n".join(
        [
            f"# ready: OpenBao is at {server.openbao.url}{taken}",
            f"unset {' '.join(STALE)}",
            *(f"export {name}={quoted(value)}" for name, value in variables.items()),
            *(f"export {name}={HOST}" for name in ("NO_PROXY", "no_proxy")),
            f'case ":$PATH:" in *:{quoted(last)}:*) ;; *) export PATH={quoted(first)}:"$PATH":{quoted(last)} ;; esac',
            "",
        ]
    )


# ── end ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


def end() -> int:
    """Stop what a lab started, then the servers, and remove all of it; return the exit status."""
    if not RUN.exists():
        say("nothing runs, and nothing is left")
        return 0
    server = holder()
    programs = stop_all_writing_below(RUN, but=[] if server is None else [server])
    if server is not None:
        os.kill(server, signal.SIGTERM)
        if not within(STOP_SECONDS, lambda: not is_held()):
            os.kill(server, signal.SIGKILL)
    remove_remains()
    stopped = "" if not programs else f"{programs} program{'s' * (programs > 1)} of the lab and "
    say(f"{stopped}the servers are stopped, and what was left is removed")
    return 0


def remove_remains() -> None:
    """What is left in workshop/.run/, and of servers that were killed: they are still there, and so are their files."""
    with suppress(OSError):
        folder = Path(FOLDER.read_text(encoding="utf-8"))
        if folder.name.startswith("vault-dev-") and folder.exists():
            stop_all_writing_below(folder)
            shutil.rmtree(folder, ignore_errors=True)
    shutil.rmtree(RUN, ignore_errors=True)


# ── The lock ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def is_taken(lock: IO[str]) -> bool:
    """Take the lock for the life of this process, if nobody has it."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def is_held() -> bool:
    """Whether servers run, or are starting."""
    try:
        with LOCK.open(encoding="utf-8") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def holder() -> int | None:
    """The pid of the servers' process, if it lives. It takes the lock a moment before it writes its pid there."""
    if not is_held() or not within(1.0, lambda: LOCK.stat().st_size > 0):
        return None
    return int(LOCK.read_text(encoding="utf-8"))


if __name__ == "__main__":
    sys.exit(main())
