"""Four pools under load while their credentials rotate: is a query ever lost, and what does it cost?

    make rotation

Dynamic leases of 3 s and a static password rotated every 5 s, each through SQLAlchemy and through psycopg_pool, 16
threads a pool that query without pause. Real OpenBao, real PostgreSQL with scram-sha-256.
"""

from __future__ import annotations

import os
import platform
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timezone
from functools import partial
from importlib.metadata import version
from pathlib import Path
from statistics import quantiles
from typing import Any

import hvac
import psycopg
from sqlalchemy import text

from config_loader import VaultConfig
from devserver import DevServer
from listeners.progress import Progress
from listeners.usage import CommandLine
from recipes.vault_engine import vault_engine
from recipes.vault_pool import VaultPool
from vault_app import VaultApplication
from vault_client import VaultClient
from vaultkit.events import Event, SecretChanged
from vaultkit.secret import Secret

PAGE = Path(__file__).parents[1] / "docs" / "ROTATION.md"
FULL_SECONDS = 60.0
THREADS = 16
LEASE, ROTATION = "3s", "5s"
MOUNT = "my-vault-app-database"
MOST_RATIO = 3.0
"""How much worse p99 may be while credentials rotate."""
AFTER_CHANGE_SECONDS = 0.5
"""What counts as rotating: the time in which the connections of a pool are replaced, and a little more."""
SAMPLE_SECONDS = 0.05
TELL_SECONDS = 1.0

Query = Callable[[], str]


@dataclass
class Load:
    """One pool under load, and what became of it."""

    name: str
    role: str
    rotations: list[float] = field(default_factory=list)
    """When the credentials changed, by the monotonic clock."""
    latencies: list[tuple[float, float]] = field(default_factory=list)
    """When each query began, and how long it took, the way through the pool included."""
    failures: list[str] = field(default_factory=list)
    overdue: float = 0.0
    """The longest that a connection was seen open after its lease had ended or its password had been replaced."""

    def p99(self, *, rotating: bool) -> float:
        chosen = [took for began, took in self.latencies if self._is_rotating(began, took) is rotating]
        return quantiles(chosen, n=100)[98]

    @property
    def ratio(self) -> float:
        return self.p99(rotating=True) / self.p99(rotating=False)

    def _is_rotating(self, began: float, took: float) -> bool:
        return any(began + took >= at and began <= at + AFTER_CHANGE_SECONDS for at in self.rotations)


class Observer:
    """Sees from outside, in the database itself, which connections are open under credentials that have ended."""

    def __init__(self, server: DevServer, loads: list[Load]) -> None:
        self._server = server
        self._loads = {load.role: load for load in loads}
        self._ends: dict[str, tuple[float, Load]] = {}

    def __call__(self, event: Event) -> None:
        """As a listener: note what the credentials were, and when they changed."""
        if not isinstance(event, SecretChanged) or event.secret.name not in self._loads:
            return
        load, now = self._loads[event.secret.name], time.monotonic()
        if event.previous is not None:
            load.rotations.append(now)
        if event.secret.lease_id is not None and event.secret.expires is not None:
            self._ends[event.secret.data["username"]] = event.secret.expires.monotonic, load

    def watch(self, stop: threading.Event) -> None:
        with superuser(self._server) as connection:
            while not stop.wait(SAMPLE_SECONDS):
                for user, age in connection.execute(
                    "SELECT usename, extract(epoch FROM clock_timestamp() - backend_start)::float FROM pg_stat_activity"
                    " WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
                ):
                    self._judge(user, time.monotonic() - age)

    def _judge(self, user: str, opened: float) -> None:
        now = time.monotonic()
        if user in self._ends:
            end, load = self._ends[user]
            load.overdue = max(load.overdue, now - end)
        elif user in self._loads:
            load = self._loads[user]
            end = min((at for at in load.rotations if at > opened), default=now)
            load.overdue = max(load.overdue, now - end)


def run(seconds: float, *, rotations: int = 0, tell: Callable[[str], object] = lambda text: None) -> list[Load]:
    """Put all four pools under load for so many seconds, and until each has seen so many rotations.

    A static password is rotated when the server gets to it, which on a busy machine is late. `tell` hears how it goes.
    """
    loads = [
        Load(f"{kind}, {library}", f"rotation-{kind}-{library.lower()}")
        for kind in ("dynamic", "static")
        for library in ("SQLAlchemy", "psycopg_pool")
    ]
    with DevServer() as server, ExitStack() as stack:
        prepare(server, loads)
        observer = Observer(server, loads)
        vault = stack.enter_context(running_client(server, observer))
        queries = [stack.enter_context(pool_of(load, vault, server)) for load in loads]
        stop = threading.Event()
        threads = [threading.Thread(target=observer.watch, args=(stop,))]
        for load, query in zip(loads, queries, strict=True):
            threads += [threading.Thread(target=keep_querying, args=(load, query, stop)) for _ in range(THREADS)]
        for thread in threads:
            thread.start()
        began = time.monotonic()
        while (passed := time.monotonic() - began) < seconds:
            tell(f"{passed:.0f} of {seconds:.0f} s: {tally(loads)}")
            time.sleep(min(TELL_SECONDS, seconds - passed))
        latest = time.monotonic() + FULL_SECONDS
        while any(len(load.rotations) < rotations for load in loads) and time.monotonic() < latest:
            time.sleep(SAMPLE_SECONDS)
        stop.set()
        for thread in threads:
            thread.join()
    return loads


def tally(loads: list[Load]) -> str:
    queries = sum(len(load.latencies) for load in loads)
    failed = sum(len(load.failures) for load in loads)
    rotated = sum(len(load.rotations) for load in loads)
    return f"{queries:,} queries, {failed} failed, {rotated} rotations"


def keep_querying(load: Load, query: Query, stop: threading.Event) -> None:
    while not stop.is_set():
        began = time.monotonic()
        try:
            query()
        except Exception as error:  # noqa: BLE001 — whatever it is, it is counted
            load.failures.append(f"{type(error).__name__}: {error}")
        load.latencies.append((began, time.monotonic() - began))


@contextmanager
def running_client(server: DevServer, observer: Observer) -> Iterator[VaultClient]:
    """The application in the background, which keeps the token alive."""
    application = VaultApplication(VaultConfig.load(environ=server.application), listeners=[observer])
    thread = threading.Thread(target=application.run)
    thread.start()
    try:
        yield application.client
    finally:
        application.stop("the load is over")
        thread.join()


@contextmanager
def pool_of(load: Load, vault: VaultClient, server: DevServer) -> Iterator[Query]:
    """A pool, as a function that makes one query."""
    get: Callable[[str], Secret] = (
        vault.get_database_dynamic_secret if "dynamic" in load.name else vault.get_database_static_secret
    )
    credentials = partial(get, load.role)
    if "SQLAlchemy" in load.name:
        url = f"postgresql+psycopg:///postgres?host={server.postgres.host}"
        with vault_engine(vault, credentials, url, pool_size=THREADS, max_overflow=0) as engine:

            def ask_sqlalchemy() -> str:
                with engine.connect() as connection:
                    return str(connection.execute(text("SELECT current_user")).scalar_one())

            yield ask_sqlalchemy
    else:
        where = f"host={server.postgres.host} dbname=postgres"
        with VaultPool(vault, credentials, where, min_size=THREADS) as pool:

            def ask_psycopg() -> str:
                with pool.connection() as connection:
                    row: Any = connection.execute("SELECT current_user").fetchone()
                    return str(row[0])

            yield ask_psycopg


def prepare(server: DevServer, loads: list[Load]) -> None:
    """A role for each pool."""
    root = hvac.Client(url=server.openbao.url, token=server.openbao.root_token)
    create = """CREATE ROLE "{{name}}" LOGIN PASSWORD '{{password}}' VALID UNTIL '{{expiration}}';"""
    with superuser(server) as connection:
        for load in loads:
            if "dynamic" in load.name:
                root.secrets.database.create_role(
                    load.role, "postgres", [create], default_ttl=LEASE, max_ttl="1h", mount_point=MOUNT
                )
            else:
                connection.execute(f'CREATE ROLE "{load.role}" LOGIN')
                root.secrets.database.create_static_role(
                    load.role, "postgres", load.role, [], rotation_period=ROTATION, mount_point=MOUNT
                )


def superuser(server: DevServer) -> psycopg.Connection[tuple[Any, ...]]:
    postgres = server.postgres
    return psycopg.connect(
        host=postgres.host, dbname="postgres", user="postgres", password=postgres.password, autocommit=True
    )


def table(loads: list[Load]) -> str:
    rows = [
        "| Pool | Queries | Failed | Rotations | p99 between | p99 rotating | Ratio | Longest overdue |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for load in loads:
        between, rotating = load.p99(rotating=False), load.p99(rotating=True)
        rows.append(
            f"| {load.name} | {len(load.latencies):,} | {len(load.failures)} | {len(load.rotations)}"
            f" | {between * 1000:.1f} ms | {rotating * 1000:.1f} ms | {load.ratio:.2f} | {load.overdue:.2f} s |"
        )
    return "\n".join(rows)


REPORT = """\
# Database pools while their credentials rotate

`make rotation` printed this table on {date}, in a run of {seconds:g} s: Python {python}, SQLAlchemy {sqlalchemy},
psycopg_pool {psycopg_pool}, on {cores} cores that the pools, OpenBao and PostgreSQL (scram-sha-256) shared. Dynamic
leases were {lease} long, the static password was rotated every {rotation}. Through each pool {threads} threads queried
without pause, all four pools at the same time, so the latencies are those of an overloaded machine: read the ratio.

{table}

*Rotating* is the {after:g} s after each change of the credentials, in which the pool replaces its connections. *Longest
overdue* is how long a connection was seen open after its lease had ended, or, static, after the change of its password
was noticed; PostgreSQL itself was asked, every {sample:g} s.
"""


def report(loads: list[Load], seconds: float) -> str:
    return REPORT.format(
        date=f"{datetime.now(timezone.utc):%Y-%m-%d}",
        seconds=seconds,
        python=platform.python_version(),
        sqlalchemy=version("sqlalchemy"),
        psycopg_pool=version("psycopg-pool"),
        cores=os.cpu_count(),
        lease=LEASE,
        rotation=ROTATION,
        threads=THREADS,
        table=table(loads),
        after=AFTER_CHANGE_SECONDS,
        sample=SAMPLE_SECONDS,
    )


def main() -> int:
    CommandLine(
        prog="python -m benchmarks.rotation",
        example="python -m benchmarks.rotation",
        description=f"{str(__doc__).splitlines()[0]} Takes a minute and more, and writes docs/ROTATION.md.",
    ).parse_args()
    progress = Progress("rotation")
    progress.tell("starting OpenBao and PostgreSQL")
    loads = run(FULL_SECONDS, tell=progress.count)
    progress.end()
    print(table(loads))
    for failure, times in Counter(failure for load in loads for failure in load.failures).items():
        print(f"{times} times {failure}", file=sys.stderr)
    PAGE.write_text(report(loads, FULL_SECONDS), encoding="utf-8")
    return 1 if any(load.failures or load.ratio > MOST_RATIO for load in loads) else 0


if __name__ == "__main__":
    sys.exit(main())
