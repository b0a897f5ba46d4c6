"""recipes/ for what awaits or spreads: FastAPI, asyncio, multiprocessing, ProcessPoolExecutor.

All programs run at once, on the real server and database, while a password is rotated ten times and leases run out;
each claim is then looked at for each of them.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from datetime import datetime, timezone
from functools import partial
from typing import Any

import psycopg
import pytest
import requests

from devserver.openbao import free_port
from devserver.setup import without_vault
from recipes.processes import client
from tests.backends import Backend, is_from_application
from tests.e2e.conftest import PROJECT
from tests.integration.conftest import eventually

MOUNT = "my-vault-app-database"
STATIC = "db-demo-static"
LEASE = "6s"
ROTATIONS = 10
ROTATION_SECONDS = 2.5
"""Between two of them: who was refused a moment ago asks Vault again after two seconds (`get_instead_of`)."""
REFUSED_FOR_NOW = 'FATAL:  password authentication failed for user "my-vault-app-static"'
"""What psycopg's pool says of a connection that it will open a moment later, under the password of then."""
END_SECONDS = 20
LOOKS = 20
"""At the users of a program that has ended: the server drops them a moment after it has revoked the token."""
WEB_WORKERS = 2
LOAD_THREADS = 3

SPREAD = {
    "multiprocessing, fork": ["pool", "fork"],
    "multiprocessing, spawn": ["pool", "spawn"],
    "ProcessPoolExecutor, forkserver": ["executor", "forkserver"],
}
PROCESSES = {"FastAPI": WEB_WORKERS, "asyncio": 1, **dict.fromkeys(SPREAD, 3)}
"""How many of them log in; of those that spread work the parent, too."""


@dataclass
class Ran:
    """A program that has run while credentials rotated, and what became of it."""

    status: int = -1
    printed: str = ""
    complained: str = ""
    dynamic: set[str] = field(default_factory=set)
    """Who the database took it for."""
    static: set[str] = field(default_factory=set)
    wrong: list[Any] = field(default_factory=list)
    queries: int = 0
    tokens: set[str] = field(default_factory=set)
    """What the server's own log calls them."""
    revoked: set[str] = field(default_factory=set)
    left: set[str] = field(default_factory=set)
    """Its users that the database still knew at the end."""


def role_of(name: str) -> str:
    """The dynamic role of a program, by which its users and its requests are told from the others'."""
    return f"spread-{list(PROCESSES).index(name)}"


class Run:
    """Programs on a prepared server."""

    def __init__(self, backend: Backend, stack: ExitStack) -> None:
        self.backend, self.root = backend, backend.root
        self._stack = stack
        self._since = backend.audit.position()
        self.programs: dict[str, subprocess.Popen[str]] = {}
        self.ran = {name: Ran() for name in PROCESSES}

    def prepare(self, name: str) -> None:
        create = """CREATE ROLE "{{name}}" LOGIN PASSWORD '{{password}}';"""
        roles, role = self.root.secrets.database, role_of(name)
        roles.create_role(role, "postgres", [create], default_ttl=LEASE, max_ttl="1h", mount_point=MOUNT)
        self._stack.callback(roles.delete_role, role, mount_point=MOUNT)

    def start(self, name: str, *arguments: str) -> None:
        """Start a program whose end is seen to, come what may."""
        self.prepare(name)
        database = {f"PG{key.upper()}": str(value) for key, value in self.backend.database.items()}
        database["PGDATABASE"] = database.pop("PGDBNAME")
        environment = {
            **without_vault(os.environ),
            **self.backend.application,
            **database,
            "DATABASE_DYNAMIC_ROLE_ID": role_of(name),
            "DATABASE_STATIC_CACHE_TIME": "1",
            "KV_SECRET_REFRESH_INTERVAL": "0.5",
        }
        program = subprocess.Popen(
            [sys.executable, "-W", "ignore::DeprecationWarning", "-m", *arguments],
            env=environment,
            cwd=PROJECT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self._stack.callback(put_an_end_to, program)
        self.programs[name] = program

    def end(self, name: str, signal_number: int | None = None) -> None:
        """End a program, by a signal or by the end of its input, and keep what it said."""
        program, ran = self.programs[name], self.ran[name]
        if signal_number is not None:
            program.send_signal(signal_number)
        ran.printed, said = program.communicate(timeout=END_SECONDS)
        ran.complained = "".join(line for line in said.splitlines(keepends=True) if REFUSED_FOR_NOW not in line)
        ran.status = program.returncode

    def rotate(self) -> None:
        for _ in range(ROTATIONS):
            self._rotated = datetime.now(timezone.utc)
            self.root.secrets.database.rotate_static_role_credentials(STATIC, mount_point=MOUNT)
            time.sleep(ROTATION_SECONDS)  # the pace of the rotations, nothing that is waited for

    def have_followed(self) -> bool:
        """Whether no connection is left that was opened under a password before the present one."""
        superuser, password = self.backend.superuser
        with psycopg.connect(**self.backend.database, user=superuser, password=password) as connection:
            query = "SELECT min(backend_start) FROM pg_stat_activity WHERE usename = 'my-vault-app-static'"
            oldest = connection.execute(query).fetchone()
        assert oldest is not None
        return oldest[0] is not None and bool(oldest[0] > self._rotated)

    def look(self, name: str) -> None:
        """What server and database know of a program when it has ended."""
        ran = self.ran[name]
        entries = [entry for entry in self.backend.audit.entries(self._since) if is_from_application(entry)]
        mine = f"{MOUNT}/creds/{role_of(name)}"
        ran.tokens = {token(entry) for entry in entries if entry["request"]["path"] == mine}
        ran.revoked = {token(entry) for entry in entries if entry["request"]["path"] == "auth/token/revoke-self"}
        for _ in range(LOOKS):
            if not (left := self.users(name)):
                break
            time.sleep(0.05)
        ran.left = left

    def users(self, name: str) -> set[str]:
        """Those of a program that the database knows."""
        superuser, password = self.backend.superuser
        query, like = "SELECT usename FROM pg_user WHERE usename LIKE %s", f"v-approle-{role_of(name)}-%"
        with psycopg.connect(**self.backend.database, user=superuser, password=password) as connection:
            return {row[0] for row in connection.execute(query, [like])}


def put_an_end_to(program: subprocess.Popen[str]) -> None:
    """Whatever became of it: no process of it is left."""
    with suppress(ProcessLookupError):
        os.killpg(program.pid, signal.SIGKILL)
    with suppress(ValueError):  # it was read to its end
        program.communicate()


def token(entry: dict[str, Any]) -> str:
    return str(entry["auth"]["accessor"])


class Web:
    """Load on the web application, from a few threads."""

    def __init__(self, ran: Ran) -> None:
        self._ran = ran
        self.port = free_port(0)
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._load) for _ in range(LOAD_THREADS)]

    def get(self, path: str) -> Any:
        response = requests.get(f"http://127.0.0.1:{self.port}{path}", timeout=30)
        response.raise_for_status()
        return response.json()

    def is_up(self) -> bool:
        try:
            self.get("/secrets/database")
        except requests.ConnectionError:
            return False
        return True

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _load(self) -> None:
        while not self._stop.wait(0.02):
            try:
                self._ran.dynamic.add(self.get("/orders")["user"])
                self._ran.static.add(self.get("/reports")["user"])
                self.get("/secrets/database")
            except requests.RequestException as error:
                self._ran.wrong.append(repr(error))
            self._ran.queries += 1


@pytest.fixture(scope="module")
def run(backend: Backend) -> Iterator[Run]:
    """All programs, from their start to their end, with ten rotations between."""
    with ExitStack() as stack:
        run = Run(backend, stack)
        web = Web(run.ran["FastAPI"])
        serve = ["uvicorn", "recipes.fastapi_app:app", "--port", str(web.port), "--workers", str(WEB_WORKERS)]
        run.start("FastAPI", *serve, "--timeout-graceful-shutdown", "2", "--log-level", "warning")
        run.start("asyncio", "recipes.asyncio_program")
        for name, arguments in SPREAD.items():
            run.start(name, "tests.integration.spreading", *arguments)
        eventually(web.is_up)
        for name in PROCESSES:
            eventually(partial(run.users, name))
        web.start()
        run.rotate()
        eventually(run.have_followed)
        web.stop()
        run.end("FastAPI", signal.SIGTERM)
        run.end("asyncio", signal.SIGTERM)
        for name in SPREAD:
            run.end(name)
            seen = json.loads(run.ran[name].printed or "{}")
            run.ran[name].queries, run.ran[name].wrong = seen.get("queries", 0), seen.get("wrong", ["no report"])
            run.ran[name].dynamic, run.ran[name].static = set(seen.get("dynamic", [])), set(seen.get("static", []))
        run.ran["asyncio"].dynamic = set(re.findall(r"working as (\S+)", run.ran["asyncio"].printed))
        for name in PROCESSES:
            run.look(name)
        yield run


@pytest.fixture(params=list(PROCESSES))
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_no_query_is_lost_while_all_rotates(run: Run, name: str) -> None:
    """Leases ran out several times over, and a password changed ten times; the program ended well, and in peace."""
    ran = run.ran[name]
    assert (ran.wrong, ran.complained) == ([], "")
    assert ran.status == 0
    assert len(ran.dynamic) >= 3 * (PROCESSES[name] - (name in SPREAD))
    assert ran.static == (set() if name == "asyncio" else {"my-vault-app-static"})


def test_t10_one_login_a_process(run: Run, name: str) -> None:
    """As many tokens asked for the program's database users as it has processes that do."""
    assert len(run.ran[name].tokens) == PROCESSES[name] - (name in SPREAD)


def test_x1_tokens_are_revoked_at_the_end(run: Run, name: str) -> None:
    """By the processes themselves, and their database users go at once."""
    ran = run.ran[name]
    assert ran.tokens <= ran.revoked
    assert ran.left == set()


KILLED_AT_ITS_END = """
import os, signal
from multiprocessing import Process
from recipes.processes import client, start

def work():
    start()
    client().get_kv_secret("database")
    client().engines["kv_secret"].clear = lambda: os.kill(os.getpid(), signal.SIGTERM)  # in the midst of `close`

worker = Process(target=work)
worker.start()
worker.join()
"""


def test_x1_killed_while_it_ends_it_revokes_its_token(backend: Backend) -> None:
    """A Pool that is left by `with` tells its workers to end, and sends SIGTERM to those that are about to."""
    since = backend.audit.position()
    environment = {**without_vault(os.environ), **backend.application}
    subprocess.run([sys.executable, "-c", KILLED_AT_ITS_END], env=environment, cwd=PROJECT, timeout=60, check=True)
    assert backend.audit.count(since)["auth/token/revoke-self"] == 1


def test_t7_refused_login_ends_the_start(backend: Backend) -> None:
    """Of uvicorn, with status 3 and Vault's own words; whatever starts it anew does so at its own pace."""
    program = subprocess.run(
        [sys.executable, "-m", "uvicorn", "recipes.fastapi_app:app", "--port", "0"],
        env={**without_vault(os.environ), **backend.application, "VAULT_SECRET_ID": "f00d-is-wrong"},
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert program.returncode == 3
    assert "refused the login" in program.stderr
    assert "f00d-is-wrong" not in program.stderr


def test_process_without_start_says_so() -> None:
    """What is to be done, rather than that something is None."""
    with pytest.raises(RuntimeError, match="`initializer`"):
        client()
