"""The application under lifetimes of seconds, for minutes: it does not grow, and it asks as often as the rules say.

`make soak` runs it for ten minutes and writes docs/SOAK.md; a few seconds of the same are a test (e2e/test_soak.py).

The token has no period but a max TTL, so that both happen: two renewals, the second of which grants clearly less (T4),
and then a login. A periodic token would take the same way through the code, without the logins.
"""

from __future__ import annotations

import importlib.metadata
import platform
import re
import signal
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import NamedTuple

import psutil
import psycopg

from listeners.progress import Progress
from listeners.usage import CommandLine
from tests.backends import Backend, embedded
from tests.e2e.conftest import Program
from vault_app import __version__
from vaultkit.engines.cache import ASK_AGAIN_SECONDS

TOKEN_TTL, TOKEN_MAX_TTL, LEASE, ROTATION = 5, 10, 4, 5
LIFETIMES = {
    "TOKEN_PERIOD": "0",
    "TOKEN_TTL": f"{TOKEN_TTL}s",
    "TOKEN_MAX_TTL": f"{TOKEN_MAX_TTL}s",
    "DB_DYNAMIC_TTL": f"{LEASE}s",
    "DB_ROTATION_PERIOD": f"{ROTATION}s",
}

KV_TURN, KV_FULL_READ, STATIC_TURN = 0.5, 5.0, 0.5
SETTINGS = {
    "KV_SECRET_REFRESH_INTERVAL": f"{KV_TURN}",
    "KV_SECRET_FULL_READ_INTERVAL": f"{KV_FULL_READ}",
    "DATABASE_DYNAMIC_REFRESH_INTERVAL": "0.2",
    "DATABASE_STATIC_REFRESH_INTERVAL": f"{STATIC_TURN}",
}

FULL_SECONDS = 600
WARM_UP_SECONDS = 60
PROGRESS_SECONDS = 60
MEMORY_GROWTH = 0.05
SAMPLES_COMPARED = 10
"""Memory is the median of so many samples, a second apart."""
LATE_SECONDS = 0.1
"""How late a step may come on average: the shortest pause of the token watcher (T2), or a request on a busy machine."""

LOGIN, RENEWAL, REVOCATION = "auth/approle/login", "auth/token/renew-self", "auth/token/revoke-self"
KV_VERSION, KV_VALUES = "my-vault-app-kv/metadata/database", "my-vault-app-kv/data/database"
DYNAMIC = "my-vault-app-database/creds/db-demo-dynamic"
STATIC = "my-vault-app-database/static-creds/db-demo-static"
WORKERS = 4
"""The token watcher and one for each engine: each may have a connection of its own."""

TROUBLE = re.compile(r"❌|⏳|⚠️ |🩺|Token lost|not revoked| WARNING | ERROR |Traceback")
SECRETS = re.compile(r"v-approle-|hvs\.|\bs\.[A-Za-z0-9]{20}|password: (?!\*{8}$)", re.MULTILINE)


class Sample(NamedTuple):
    """What the operating system says of the process."""

    memory: float
    """Resident, MiB."""
    threads: int
    files: int
    """Open ones, without the connections."""
    connections: int


class Row(NamedTuple):
    """One line of the table: a claim, what was seen, and whether it held."""

    measure: str
    early: str
    end: str
    predicted: str
    holds: bool


@dataclass
class Run:
    """All that was seen of one run."""

    samples: list[Sample]
    """One a second, since the warm-up."""
    early: Counter[str]
    """The requests until then."""
    requests: Counter[str]
    seconds: float
    status: int
    output: str
    secrets: Sequence[str]


def soak(
    backend: Backend,
    seconds: float,
    warm_up: float = WARM_UP_SECONDS,
    tell: Callable[[str], object] = lambda text: None,
) -> Run:
    """Run the application for so long, watch it, and end it with SIGTERM."""
    environment = {**backend.application, **SETTINGS, "VAULT_SECRET_ID": backend.setup(**LIFETIMES)}
    since = backend.audit.position()
    program = Program([sys.executable, "vault_app.py", "--log-level", "info"], environment)
    try:
        program.wait_for("Vault login successful")
        started = time.monotonic()
        process = psutil.Process(program.process.pid)
        program.wait_for(" secret fetch successful", times=WORKERS - 1)
        observe(program, process, started + warm_up, lambda text: tell(f"warming up, {text}"))
        early = backend.audit.count(since)
        samples = observe(program, process, started + seconds, tell)
        ran = time.monotonic() - started
        status, _ = program.stop(signal.SIGTERM)
    finally:
        program.kill()
    secrets = ["myapp-api-key", "mysql://localhost", environment["VAULT_SECRET_ID"], backend.root_token]
    return Run(samples, early, backend.audit.count(since), ran, status, program.out + program.err, secrets)


def observe(program: Program, process: psutil.Process, until: float, tell: Callable[[str], object]) -> list[Sample]:
    """Look once a second until then, once at least, and tell of it. Raises: RuntimeError, if the program has ended."""
    samples: list[Sample] = []
    while not samples or time.monotonic() < until:
        try:
            program.process.wait(1)
        except subprocess.TimeoutExpired:
            samples.append(take_sample(process))
        else:
            raise RuntimeError(f"the program ended by itself:\n{program.out}\n{program.err}")
        tell(shown_now(samples[-1], until - time.monotonic()))
    return samples


def shown_now(now: Sample, seconds_left: float) -> str:
    return (
        f"{max(0.0, seconds_left):.0f} s to go: {now.memory:.1f} MiB, {now.threads} threads, {now.files} open files,"
        f" {now.connections} connections"
    )


def take_sample(process: psutil.Process) -> Sample:
    """What it has now; looked at again, if a connection came or went while its files were counted."""
    connections = len(process.net_connections("inet"))
    sample = Sample(
        memory=process.memory_info().rss / 2**20,
        threads=process.num_threads(),
        files=process.num_fds() - connections,
        connections=connections,
    )
    return sample if connections == len(process.net_connections("inet")) else take_sample(process)


# ── What the rules predict ───────────────────────────────────────────────────────────────────────────────────────────


def predictions(seconds: float, logins: int) -> dict[str, range]:
    """How often each path is asked for in so many seconds."""
    step = TOKEN_TTL * 4 / 5
    granted_last = TOKEN_MAX_TTL - 2 * step
    kv_turns = recurring(seconds, KV_TURN, KV_TURN + LATE_SECONDS)
    kv_reads = recurring(seconds, KV_FULL_READ, KV_FULL_READ + KV_TURN + LATE_SECONDS)
    # A rotation costs two reads at least: one when `ttl` is over, a second later one that finds the new password. The
    # server rotates at ticks of its own, late by up to a whole period, and is asked about it each second (S1).
    static_reads = recurring(seconds, ASK_AGAIN_SECONDS, ROTATION + STATIC_TURN + LATE_SECONDS)
    return {
        # The server reckons max TTL in whole seconds, so the last grant may be one second shorter.
        LOGIN: recurring(
            seconds, 2 * step + (granted_last - 1) * 4 / 5, 2 * step + granted_last * 4 / 5 + 3 * LATE_SECONDS
        ),
        RENEWAL: range(2 * (logins - 1), 2 * logins + 1),
        KV_VERSION: range(kv_turns.start - kv_reads.stop, kv_turns.stop - kv_reads.start),
        KV_VALUES: kv_reads,
        # Under each token a lease at once and then at 4/5 of the one before; a third would outlive the token.
        DYNAMIC: range(3 * (logins - 1) + 1, 3 * logins + 1),
        STATIC: range(static_reads.start, static_reads.stop + ROTATION),
        # The token before, too, if the end comes before it has run out.
        REVOCATION: range(1, 3),
    }


def recurring(seconds: float, shortest: float, longest: float) -> range:
    """How often something comes whose pauses are between these; it may just miss the end."""
    return range(int(seconds / longest), int(seconds / shortest) + 2)


# ── Whether it was so ────────────────────────────────────────────────────────────────────────────────────────────────


def table(run: Run, growth: float = MEMORY_GROWTH) -> list[Row]:
    return [*process_rows(run.samples, growth), *request_rows(run), *output_rows(run)]


def process_rows(samples: Sequence[Sample], growth: float) -> list[Row]:
    first, last = samples[0], samples[-1]
    early = statistics.median(sample.memory for sample in samples[:SAMPLES_COMPARED])
    end = statistics.median(sample.memory for sample in samples[-SAMPLES_COMPARED:])
    most = max(sample.connections for sample in samples)
    return [
        Row("memory, MiB", f"{early:.1f}", f"{end:.1f}", f"± {growth:.0%}", abs(end - early) <= growth * early),
        steady("threads", [sample.threads for sample in samples]),
        steady("open files", [sample.files for sample in samples]),
        Row("connections", f"{first.connections}", f"{last.connections}", f"≤ {WORKERS}", most <= WORKERS),
    ]


def steady(measure: str, values: Sequence[int]) -> Row:
    """A claim that a number never changed."""
    return Row(measure, f"{values[0]}", f"{values[-1]}", "no change", len(set(values)) == 1)


def request_rows(run: Run) -> list[Row]:
    predicted = predictions(run.seconds, run.requests[LOGIN])
    other = sum(count for path, count in run.requests.items() if path not in predicted)
    other_early = sum(count for path, count in run.early.items() if path not in predicted)
    rows = [
        Row(f"`{path}`", f"{run.early[path]}", f"{run.requests[path]}", shown(counts), run.requests[path] in counts)
        for path, counts in predicted.items()
    ]
    return [*rows, Row("other requests", f"{other_early}", f"{other}", "0", other == 0)]


def output_rows(run: Run) -> list[Row]:
    lines = run.output.splitlines()
    trouble = sum(1 for line in lines if TROUBLE.search(line))
    secrets = sum(1 for line in lines if SECRETS.search(line) or any(secret in line for secret in run.secrets))
    revoked = run.output.count("🔓 Token revoked, and its leases with it")
    return [
        Row("lines of output that tell of trouble", "-", f"{trouble}", "0", trouble == 0),
        Row("lines of output with a secret", "-", f"{secrets}", "0", secrets == 0),
        Row("token revoked at the end", "-", f"{revoked}", "1", revoked == 1),
        Row("exit status after SIGTERM", "-", f"{run.status}", "0", run.status == 0),
    ]


def shown(counts: range) -> str:
    return f"{counts.start} to {counts.stop - 1}"


# ── The report ───────────────────────────────────────────────────────────────────────────────────────────────────────

REPORT = """\
# Ten minutes with lifetimes of seconds

`make soak` printed this table on {date}, in a run of {seconds:.0f} s: vault_app.py {version} on Python {python}
({system}) with hvac {hvac} and urllib3 {urllib3}, against OpenBao {openbao} and PostgreSQL
{postgres}.
A token lived for {ttl} s and for {max_ttl} s at most, a lease for {lease} s; the static password was rotated every
{rotation} s. The requests are those of the server's own audit log.

{table}

The middle column is from {warm_up} s after the login. Memory is the median of ten samples. Threads and open files were
looked at every second, and so were connections, of which each of the four workers may hold one. How the predictions
follow from the rules stands in `predictions` in `tests/soak.py`: their lower end is what is due if every step comes
{late:g} s late on average, their upper end what the rules allow.
"""


def markdown(rows: Sequence[Row]) -> str:
    lines = ["| Measure | After the first minute | At the end | Predicted | Verdict |", "|---|---|---|---|---|"]
    lines += [f"| {' | '.join(row[:4])} | {'holds' if row.holds else '**FAILS**'} |" for row in rows]
    return "\n".join(lines)


def report(run: Run, rows: Sequence[Row], openbao: str, postgres: str) -> str:
    return REPORT.format(
        date=f"{datetime.now(timezone.utc):%Y-%m-%d}",
        seconds=run.seconds,
        version=__version__,
        python=platform.python_version(),
        system=platform.system(),
        hvac=importlib.metadata.version("hvac"),
        urllib3=importlib.metadata.version("urllib3"),
        openbao=openbao,
        postgres=postgres,
        ttl=TOKEN_TTL,
        max_ttl=TOKEN_MAX_TTL,
        lease=LEASE,
        rotation=ROTATION,
        table=markdown(rows),
        warm_up=WARM_UP_SECONDS,
        late=LATE_SECONDS,
    )


def versions(backend: Backend) -> tuple[str, str]:
    """Those of the server and of the database."""
    user, password = backend.superuser
    with psycopg.connect(**backend.database, user=user, password=password) as database:
        postgres = database.info.parameter_status("server_version")
    return str(backend.root.sys.read_health_status(method="GET")["version"]), str(postgres)


def main() -> int:
    parser = CommandLine(
        prog="python -m tests.soak",
        example="python -m tests.soak --seconds 60",
        description=str(__doc__).splitlines()[0],
    )
    parser.add_argument("--seconds", type=int, default=FULL_SECONDS, help="how long [%(default)s]")
    parser.add_argument("report", nargs="?", type=Path, help="the file for the report, if there is to be one")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # the servers are stopped then, too
    progress = Progress("soak", seldom=PROGRESS_SECONDS)
    progress.tell(f"starting the servers; then the application runs for {options.seconds} s")
    with embedded() as backend:
        openbao, postgres = versions(backend)
        run = soak(backend, options.seconds, min(WARM_UP_SECONDS, options.seconds / 2), progress.count)
    progress.end()
    rows = table(run)
    print(markdown(rows))
    if options.report:
        options.report.parent.mkdir(exist_ok=True)
        options.report.write_text(report(run, rows, openbao, postgres), encoding="utf-8")
    return 0 if all(row.holds for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
