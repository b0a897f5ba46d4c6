"""Cached reads: ours, the least that such a read can cost (the floor), hvac without a cache, and `bao proxy`.

A cached read takes less time than it takes to look at the clock twice, so no single one is timed: a sample is the mean
of a thousand in a row, timed by `timeit`. What goes through a socket is timed read by read. The contenders take turns
within one run, block by block; with several threads, all of them read from the same contender at the same time, each
over a connection of its own, and then all from the next.

While a refresh is going on: a further thread keeps our client busy, without pause, with real refreshes of two hundred
other KV secrets, and the KV secret that is read is itself due ten times a second. That thread also runs while the other
contenders have their turn.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from http.client import HTTPConnection
from itertools import chain, cycle
from json import loads
from time import monotonic
from timeit import Timer
from typing import Any

import hvac

from benchmarks.bench import DATABASE, DYNAMIC_ROLE, KV, KV_PATH, PATIENCE_SECONDS, Bench, alongside, tell
from benchmarks.contenders import DYNAMIC, KV_DATA, Proxy, new_login, running
from benchmarks.report import Row, Section, Target
from config_loader import VaultConfig
from devserver.openbao import HOST
from vault_client import VaultClient

LIFETIMES = {"TOKEN_PERIOD": "1h", "DB_DYNAMIC_TTL": "1h"}
"""Nothing expires meanwhile."""
CALM, BUSY = 3600.0, 0.1
"""Refresh intervals of KV in seconds: no refresh during the run, and the shortest that the settings allow."""
REFRESHED = 200
"""How many KV secrets are refreshed in turn: more than can be within the shortest interval."""
READS_IN_A_ROW = 1000
THREADS = (1, 4, 16)
MOST_TIMES_FLOOR, LEAST_TIMES_OURS = 2, 1000

OURS, FLOOR, HVAC, PROXY = "ours", "the floor", "hvac", "bao proxy"
A_VALUE = "dict"


@dataclass(frozen=True)
class Contender:
    """Somebody to read from."""

    whose: str
    secret: str
    new_read: Callable[[], Callable[[str], object]]
    """Makes the function that one thread reads with; what it needs, such as a connection, is made here."""
    name: str
    """What the function is given."""
    detail: str = ""
    """What the page says of the way."""
    reads: int = 1
    """How many in a row are one sample."""
    samples: int = 5
    """In one block, of each thread."""
    threads: Sequence[int] = THREADS


def measure(bench: Bench) -> Section:
    """Every contender in every situation."""
    bench.prepare(**LIFETIMES)
    rounds = bench.choose(40, 1)
    rows: list[Row] = []
    with ExitStack() as stack:
        proxy = stack.enter_context(running_proxy(bench))
        calm = stack.enter_context(our_client(bench, CALM))
        busy = stack.enter_context(our_client(bench, BUSY))
        for threads in THREADS:
            situation = "1 thread" if threads == 1 else f"{threads} threads"
            rows += compare(bench, contenders(bench, calm, proxy), situation, threads, rounds)
        with kept_busy(bench, busy):
            rows += compare(bench, contenders(bench, busy, proxy), "1 thread, during refreshes", 1, rounds)
    return Section("Cached reads", rows, NOTES)


# ── The contenders ───────────────────────────────────────────────────────────────────────────────────────────────────


def contenders(bench: Bench, client: VaultClient, proxy: Proxy) -> list[Contender]:
    """The floor first: it is what the others are compared with."""
    url = bench.server.openbao.url
    fast: dict[str, Any] = {"reads": READS_IN_A_ROW}
    return [
        Contender(FLOOR, A_VALUE, lambda: floor({KV_PATH: client.get_kv_secret(KV_PATH)}), KV_PATH, **fast),
        Contender(OURS, "KV", lambda: client.get_kv_secret, KV_PATH, **fast),
        Contender(OURS, "dynamic", lambda: client.get_database_dynamic_secret, DYNAMIC_ROLE, **fast),
        Contender(PROXY, "dynamic", partial(reader_of, proxy, DYNAMIC, "HIT"), f"/v1/{DYNAMIC}", detail=" (hit)"),
        Contender(PROXY, "KV", partial(reader_of, proxy, KV_DATA, "MISS"), f"/v1/{KV_DATA}", detail=" (miss)"),
        Contender(HVAC, "KV", partial(hvac_kv, url, new_token(bench)), KV_PATH),
        Contender(HVAC, "dynamic", partial(hvac_dynamic, url, new_token(bench)), DYNAMIC_ROLE, samples=1, threads=(1,)),
    ]


def floor(secrets: dict[str, object]) -> Callable[[str], object]:
    """The least: one call, one look into a dict, one at the clock, one comparison."""
    cache = {name: (secret, monotonic() + CALM) for name, secret in secrets.items()}

    def get(name: str) -> object:
        secret, fresh_until = cache[name]
        if monotonic() < fresh_until:
            return secret
        raise LookupError(name)

    return get


def reader_of(proxy: Proxy, path: str, expected: str) -> Callable[[str], object]:
    """Reads over one kept connection of `http.client`, which takes less time than hvac would.

    Checks that the second read of a path comes from the proxy's cache (HIT), or does not (MISS).
    """
    connection = HTTPConnection(HOST, proxy.port)

    def ask(url: str) -> tuple[str | None, Any]:
        connection.request("GET", url)
        response = connection.getresponse()
        return response.headers["X-Cache"], loads(response.read())

    ask(f"/v1/{path}")
    found, _ = ask(f"/v1/{path}")
    if found != expected:
        raise RuntimeError(f"bao proxy answered {path} with {found}, not {expected}")
    return lambda url: ask(url)[1]


def new_token(bench: Bench) -> str:
    """A token as ours has it, for hvac."""
    login = new_login(bench, "hvac", LIFETIMES["TOKEN_PERIOD"])
    vault = hvac.Client(url=bench.server.openbao.url)
    return str(vault.auth.approle.login(login.role_id, login.secret_id)["auth"]["client_token"])


def hvac_kv(url: str, token: str) -> Callable[[str], object]:
    read = hvac.Client(url=url, token=token).secrets.kv.v2.read_secret_version
    return lambda path: read(path, mount_point=KV, raise_on_deleted_version=True)


def hvac_dynamic(url: str, token: str) -> Callable[[str], object]:
    """Without a cache each read makes a new user in the database."""
    read = hvac.Client(url=url, token=token).secrets.database.generate_credentials
    return lambda role: read(role, mount_point=DATABASE)


@contextmanager
def running_proxy(bench: Bench) -> Iterator[Proxy]:
    proxy = Proxy(bench, new_login(bench, "bao-proxy", LIFETIMES["TOKEN_PERIOD"]))
    with running(proxy):
        proxy.wait_for(bench, proxy.is_ready)
        yield proxy


@contextmanager
def our_client(bench: Bench, refresh_interval: float) -> Iterator[VaultClient]:
    settings = {**bench.server.application, "KV_SECRET_REFRESH_INTERVAL": f"{refresh_interval}"}
    with VaultClient(VaultConfig.load(environ=settings)) as client:
        yield client


@contextmanager
def kept_busy(bench: Bench, client: VaultClient) -> Iterator[None]:
    """A thread that refreshes other KV secrets, without pause."""
    paths = [f"bench/{number}" for number in range(REFRESHED)]
    for path in paths:
        bench.root.secrets.kv.v2.create_or_update_secret(path, {"value": path}, mount_point=KV)

    def refresh(stop: threading.Event) -> None:
        for path in cycle(paths):
            client.get_kv_secret(path)
            if stop.is_set():
                return

    with alongside(refresh):
        yield


# ── Taking turns ─────────────────────────────────────────────────────────────────────────────────────────────────────


def compare(bench: Bench, everybody: list[Contender], situation: str, threads: int, rounds: int) -> list[Row]:
    """One situation: all contenders, block by block in turn."""
    tell(f"cached reads, {situation}")
    chosen = [contender for contender in everybody if threads in contender.threads]
    timers = [[new_timer(contender) for _ in range(threads)] for contender in chosen]
    samples: list[list[float]] = [[] for _ in chosen]
    for _ in range(rounds):
        for contender, its_timers, its_samples in zip(chosen, timers, samples, strict=True):
            bench.check()
            its_samples += block(contender, its_timers)
    return as_rows(situation, chosen, samples)


def new_timer(contender: Contender) -> Timer:
    """What one thread reads with."""
    return Timer("read(name)", globals={"read": contender.new_read(), "name": contender.name})


def block(contender: Contender, timers: list[Timer]) -> list[float]:
    """The samples of all threads, which start together."""
    start = threading.Barrier(len(timers), timeout=PATIENCE_SECONDS)

    def run(timer: Timer) -> list[float]:
        start.wait()
        return [seconds / contender.reads for seconds in timer.repeat(contender.samples, contender.reads)]

    with ThreadPoolExecutor(len(timers)) as pool:
        return list(chain.from_iterable(pool.map(run, timers)))


def as_rows(situation: str, chosen: list[Contender], samples: list[list[float]]) -> list[Row]:
    """Ours is compared with the floor, whoever goes through a socket with ours."""
    rows: dict[tuple[str, str], Row] = {}
    for contender, its_samples in zip(chosen, samples, strict=True):
        row = Row(f"{contender.secret} read{contender.detail}, {situation}", contender.whose, its_samples)
        if contender.whose == OURS:
            row = against_floor(replace(row, than=rows[FLOOR, A_VALUE]))
        elif contender.whose != FLOOR:
            row = against_ours(replace(row, than=rows[OURS, contender.secret]))
        rows[contender.whose, contender.secret] = row
    return list(rows.values())


def against_floor(row: Row) -> Row:
    met = row.ratio <= MOST_TIMES_FLOOR
    return replace(row, target=Target(f"≤ {MOST_TIMES_FLOOR} times the floor", met, WHY_ABOVE_FLOOR))


def against_ours(row: Row) -> Row:
    met = row.ratio >= LEAST_TIMES_OURS
    return replace(row, target=Target(f"≥ {LEAST_TIMES_OURS:,} times ours", met, WHY_NOT_A_THOUSAND))


# ── What the page says ───────────────────────────────────────────────────────────────────────────────────────────────

NOTES = f"""\
A sample of the floor and of ours is the mean of {READS_IN_A_ROW:,} reads in a row by one thread, timed by `timeit`; one
of hvac and of `bao proxy` is a single read. The floor is a function that looks into a dict, looks at the monotonic
clock once and compares: what ours does beside that is to look at a second clock, since either of the two may end a
value (rule T1). With several threads all read from the same contender at once, through a socket each over a connection
of its own.

*hvac* reads from the server each time; for dynamic credentials that makes a new database user each time. The cache of
`bao proxy` holds what has a lease: a dynamic credential is a *hit*, a KV read a *miss* that goes on to the server (its
`X-Cache` header says so, and the benchmark checks it). The proxy is read with `http.client` over a kept connection,
because hvac on top of it would make its reads slower.

*During refreshes*: a further thread refreshes {REFRESHED} other KV secrets through our client without pause, and the KV
secret that is read is due every {BUSY:g} s; it runs while the other contenders have their turn, too."""

WHY_ABOVE_FLOOR = """\
Ours looks at two clocks where the floor looks at one, and compares two deadlines that are attributes of an object."""

WHY_NOT_A_THOUSAND = """\
A read through a socket on the same machine, without TLS, is as fast as such a read can be; the time of ours is given by
the interpreter."""
