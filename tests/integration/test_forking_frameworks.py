"""T10 in Flask, Django and Celery: the recipes in the real frameworks, under load, while everything rotates.

All of them run at the same time, for the ten rotations to be waited for once.
"""

from __future__ import annotations

import hmac
import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests
from celery import Celery

from tests.backends import Backend
from tests.e2e.conftest import PROJECT, Program
from tests.integration.celery_on_files import use_files
from tests.integration.conftest import put
from tests.integration.test_recipes import make_role, rotate, run_program
from vault_client import VaultClient

pytestmark = pytest.mark.timeout(240)
ROTATIONS = 10
MOST_ROTATIONS = 3 * ROTATIONS
"""On a machine that is busy, or where something does not follow."""
SECONDS_BETWEEN_ROTATIONS = 2.5
WORKERS = 2
KV_PATH = "tests/frameworks"
CLIENTS = 2
"""Threads that ask an HTTP server."""

GUNICORN = ("gunicorn", "-c", "recipes/gunicorn_hooks.py", "--bind", "127.0.0.1:0", "--workers", str(WORKERS))
FLASK = ("recipes.flask_app:create_app()", "--threads", "2")
CELERY = (
    "celery",
    "--app",
    "tests.integration.celery_on_files",
    "worker",
    "--concurrency",
    str(WORKERS),
    "--loglevel",
    "INFO",
)
COMMANDS = {
    "flask": (*GUNICORN, *FLASK),
    "flask_preloaded": (*GUNICORN, *FLASK, "--preload"),
    "django_preloaded": (*GUNICORN, "tests.integration.django_site:application", "--preload"),
    "celery": (*CELERY, "--without-gossip", "--without-mingle", "--without-heartbeat"),
}
PROCESSES = {name: WORKERS for name in COMMANDS} | {"django_preloaded": WORKERS + 1}
"""So many use Vault. In Django the master does, too: the site makes a query as it is loaded."""


@dataclass
class Run:
    """A framework at work, and what came of it."""

    name: str
    program: Program
    answers: list[dict[str, Any]] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    status: int | None = None
    logins: int = 0
    tokens_left: int = 0

    def users(self) -> set[str]:
        return {answer["user"] for answer in list(self.answers)}

    def note(self, ask: Callable[[], list[dict[str, Any]]]) -> None:
        try:
            self.answers += ask()
        except Exception as error:  # noqa: BLE001 - whatever it was, the query failed
            self.failures.append(repr(error))


@pytest.fixture(scope="module")
def keys() -> list[str]:
    """The values that the KV secret has had."""
    return []


@pytest.fixture(scope="module")
def runs(backend: Backend, keys: list[str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Run]]:
    """All of them, started, under load for ten rotations, and ended."""
    folder = tmp_path_factory.mktemp("frameworks")
    root, since = backend.root, backend.audit.position()
    with ExitStack() as stack:
        role = stack.enter_context(contextmanager(make_role)(root, default_ttl="6s"))  # two users each 4.8 s
        change_key(backend, keys)
        environment = environment_of(backend, role, folder)
        others = tokens(backend)
        runs = {name: start(backend, name, environment, stack) for name in COMMANDS}
        with under_load(list(runs.values()), folder) as pause:
            for turn in range(MOST_ROTATIONS):
                if turn >= ROTATIONS and all(len(run.users()) > ROTATIONS for run in runs.values()):
                    break
                rotate(root)
                change_key(backend, keys)
                pause(SECONDS_BETWEEN_ROTATIONS)
        for run in runs.values():  # one by one: a revocation has two seconds
            end(run)
            run.status = run.program.wait()
        count_tokens(backend, runs, since, others)
        root.secrets.kv.v2.delete_metadata_and_all_versions(KV_PATH, mount_point="my-vault-app-kv")
        yield runs


def end(run: Run) -> None:
    """By SIGTERM, or by Ctrl+C, which comes to every process in the terminal."""
    if run.name != "flask":
        run.program.send(signal.SIGTERM)
        return
    master = psutil.Process(run.program.process.pid)
    for process in (*master.children(), master):
        process.send_signal(signal.SIGINT)


def environment_of(backend: Backend, role: str, folder: Path) -> dict[str, str]:
    database = {f"PG{key.upper()}".replace("DBNAME", "DATABASE"): str(value) for key, value in backend.database.items()}
    return {
        **backend.application,
        **database,
        "DATABASE_DYNAMIC_ROLE_ID": role,
        "KV_SECRET_PATH": KV_PATH,
        "KV_SECRET_REFRESH_INTERVAL": "0.5",
        "HOME": str(folder),  # where gunicorn puts a socket of its own
        "CELERY_FILES": str(folder),
    }


def start(backend: Backend, name: str, environment: dict[str, str], stack: ExitStack) -> Run:
    """Each has a secret_id of its own, by which the server tells whose token is whose."""
    made = backend.root.auth.approle.generate_secret_id("my-vault-app", metadata={"program": name})
    command = (sys.executable, "-m", *COMMANDS[name])
    program = Program(command, {**environment, "VAULT_SECRET_ID": made["data"]["secret_id"]})
    stack.callback(program.kill)
    return Run(name, program)


def change_key(backend: Backend, keys: list[str]) -> None:
    keys.append(f"key-{len(keys)}-of-the-frameworks")
    put(backend.root, KV_PATH, api_key=keys[-1])


def tokens(backend: Backend) -> set[str]:
    return set(backend.root.auth.token.list_accessors()["data"]["keys"])


def count_tokens(backend: Backend, runs: dict[str, Run], since: int, others: set[str]) -> None:
    """Of each run: with how many tokens it asked for anything, and how many it has left behind."""
    used = {(auth["metadata"].get("program"), auth["accessor"]) for auth in auths(backend, since)}
    lookup = backend.root.auth.token.lookup_accessor
    left = [lookup(accessor)["data"]["meta"].get("program") for accessor in tokens(backend) - others]
    for run in runs.values():
        run.logins = len([accessor for program, accessor in used if program == run.name])
        run.tokens_left = left.count(run.name)


def auths(backend: Backend, since: int) -> list[dict[str, Any]]:
    entries = backend.audit.entries(since)
    return [entry["auth"] for entry in entries if "auth/approle/login" not in entry["request"]["path"]]


# ── Load ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


@contextmanager
def under_load(runs: list[Run], folder: Path) -> Iterator[Callable[[float], object]]:
    """Ask all of them, in threads, until the end; what comes waits for so many seconds."""
    stop = threading.Event()
    asking = [(run, ask_celery(run, folder) if run.name == "celery" else ask_http(run)) for run in runs]
    threads = [
        threading.Thread(target=keep_asking, args=(run, ask, stop))
        for run, ask in asking
        for _ in range(1 if run.name == "celery" else CLIENTS)
    ]
    for thread in threads:
        thread.start()
    try:
        yield stop.wait
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def keep_asking(run: Run, ask: Callable[[], list[dict[str, Any]]], stop: threading.Event) -> None:
    while not stop.wait(0.02):
        run.note(ask)


def ask_http(run: Run) -> Callable[[], list[dict[str, Any]]]:
    run.program.wait_for("Booting worker", times=WORKERS)
    address = re.findall(r"Listening at: (http://\S+)", run.program.err)[0]

    def ask() -> list[dict[str, Any]]:
        with closing(requests.Session()) as session:
            session.trust_env = False  # no proxy
            response = session.get(address, timeout=60)
        assert response.status_code == 200, response.text
        return [response.json()]

    return ask


def ask_celery(run: Run, folder: Path) -> Callable[[], list[dict[str, Any]]]:
    run.program.wait_for(" ready.")
    app = Celery(set_as_current=False)
    use_files(app, folder, messages_out="sent")

    def ask() -> list[dict[str, Any]]:
        sent = [app.send_task("recipes.celery_app.who_am_i") for _ in range(2 * WORKERS)]
        for message in (folder / "sent").iterdir():
            os.replace(message, folder / "queue" / message.name)
        return [result.get(timeout=60, interval=0.02) for result in sent]

    return ask


# ── What is claimed ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(params=COMMANDS)
def run(request: pytest.FixtureRequest, runs: dict[str, Run]) -> Run:
    of_this: Run = runs[request.param]
    return of_this


def test_t10_rotations_cost_no_query(run: Run) -> None:
    """However often the users are replaced, no request fails."""
    assert run.failures == [], run.program.err[-3000:]
    assert len(run.users()) > ROTATIONS


def test_t10_frameworks_get_their_own_answers(run: Run, keys: list[str]) -> None:
    """The database takes each for a user that Vault made for it, and each signature is by a key that the secret had."""
    assert [user for user in run.users() if not user.startswith("v-approle-")] == []
    assert {answer.get("static_user", "my-vault-app-static") for answer in run.answers} == {"my-vault-app-static"}
    wrong = [answer for answer in run.answers if not any(is_signed_with(key, answer) for key in keys)]
    assert wrong == []
    assert any(is_signed_with(keys[-3], answer) for answer in run.answers)


def is_signed_with(key: str, answer: dict[str, Any]) -> bool:
    return bool(answer["signature"] == hmac.new(key.encode(), answer["user"].encode(), "sha256").hexdigest())


def test_t10_process_logs_in_once(run: Run) -> None:
    """Each process that uses Vault, and no other: a master that preloads and needs nothing has no token."""
    assert run.logins == PROCESSES[run.name]


WORKER = """
import os, signal
from recipes import gunicorn_hooks

seen = []
def handler(number, frame):
    seen.append(signal.Signals(number).name)
    for each in ours:
        os.kill(os.getpid(), each)

ours = signal.SIGINT, signal.SIGQUIT, signal.SIGTERM
for number in ours:
    signal.signal(number, handler)
gunicorn_hooks.post_worker_init(None)
signal.pthread_sigmask(signal.SIG_BLOCK, ours)
os.kill(os.getpid(), signal.SIGINT)
os.kill(os.getpid(), signal.SIGQUIT)
signal.pthread_sigmask(signal.SIG_UNBLOCK, ours)
gunicorn_hooks.worker_exit(None, None)
os.kill(os.getpid(), signal.SIGTERM)
print(*seen)
"""


def test_x1_second_signal_finds_nobody() -> None:
    """Ctrl+C comes to a worker of gunicorn twice: the second must not strike while it does what the first one asks.

    Here both come at once, and again while the first is handled, and none is told of with a traceback.
    """
    done = subprocess.run([sys.executable, "-c", WORKER], cwd=PROJECT, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "SIGINT\n", "")


def test_x1_frameworks_leave_no_token(run: Run) -> None:
    """SIGTERM, and Ctrl+C in one of them: all end well, and each process revokes its own token."""
    assert (run.status, run.tokens_left) == (0, 0), run.program.err[-2000:]
    assert "Traceback" not in run.program.out + run.program.err


def test_p1_frameworks_log_no_secret(run: Run, keys: list[str], backend: Backend) -> None:
    """Nor do they print one."""
    said = run.program.out + run.program.err
    assert [value for value in (*keys, backend.root_token) if value in said] == []


def test_django_keeps_connections(runs: dict[str, Run]) -> None:
    """CONN_MAX_AGE = None: one connection for as long as its credentials last; 0: one for each request."""
    answers = runs["django_preloaded"].answers
    kept = {(answer["process"], answer["user"], answer["session"]) for answer in answers}
    assert len(kept) == len({answer["user"] for answer in answers})
    sessions = {answer["static_session"] for answer in answers}
    assert len(sessions) > len(answers) / 2  # the system may give a number away again


# ── Django, misconfigured or refused ─────────────────────────────────────────────────────────────────────────────────

CONNECT = """
import json, sys
from django.conf import settings
backend = {"ENGINE": "recipes.django_backend", "NAME": "postgres"}
settings.configure(DATABASES={alias: {**backend, **each} for alias, each in json.loads(sys.argv[1]).items()})
from django.db import connections
for alias in list(connections)[1:]:
    try:
        connections[alias].ensure_connection()
    except Exception as error:
        seen, trace = f"{type(error).__name__} {error}", error.__traceback__
        while trace:
            seen += repr({name: value for name, value in trace.tb_frame.f_locals.items() if name != "__builtins__"})
            trace = trace.tb_next
        print(json.dumps([alias, seen]))
"""
STATIC = {"STATIC_ROLE": "db-demo-static"}
DATABASES = {
    "default": {},
    "none": {},
    "both": {**STATIC, "DYNAMIC_ROLE": "db-demo-dynamic"},
    "pool": {**STATIC, "OPTIONS": {"pool": True}},
    "away": {**STATIC, "HOST": "127.0.0.1", "PORT": 1},
}


@pytest.fixture(scope="module")
def raised(backend: Backend) -> dict[str, str]:
    """What each of the databases raises, with every variable of the traceback."""
    printed = run_program(backend, "-c", CONNECT, json.dumps(DATABASES), cwd=PROJECT)
    return dict(json.loads(line) for line in printed.splitlines())


@pytest.mark.parametrize(
    ("alias", "told"),
    [
        ("none", " takes one of DYNAMIC_ROLE and STATIC_ROLE"),
        ("both", " takes one of DYNAMIC_ROLE and STATIC_ROLE"),
        ("pool", ": take CONN_MAX_AGE instead of the option pool"),
    ],
)
def test_django_says_what_it_takes(raised: dict[str, str], alias: str, told: str) -> None:
    """Rather than connect as somebody else."""
    assert raised[alias].startswith(f"ImproperlyConfigured DATABASES['{alias}']{told}")


def test_p1_django_traceback_holds_no_password(raised: dict[str, str], client: VaultClient) -> None:
    """Its page of an error shows the variables of every frame: none of them is the password."""
    assert raised["away"].startswith("OperationalError")
    assert client.get_database_static_secret("db-demo-static").data["password"] not in raised["away"]
