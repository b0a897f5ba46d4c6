"""What the gateway costs: a cached read beside the server itself, `bao proxy`, and routes that only verify a JWT.

`wrk` makes the load, at 1 and at 32 connections, on each in turn. Then the server is stopped (SIGSTOP), as if it hung,
and the cached reads go on; and the memory is looked at after many tokens and paths that nobody has.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import psutil

from benchmarks.bench import Bench, tell
from benchmarks.contenders import Proxy, new_login, running
from benchmarks.report import Row, Section, Target, count, duration, mebibytes
from devserver.openbao import HOST, free_port
from devserver.process import Process
from gateway import demo
from scripts.demo_token import log_in

CONNECTIONS = (1, 32)
SERVER, PROXY, STARLETTE, FASTAPI, OURS = "the server", "bao proxy", "bare Starlette", "bare FastAPI", "the gateway"
POLICY = 'path "tenants/data/acme/*" { capabilities = ["read"] }'
UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0}
PATIENCE_SECONDS = 8.0
"""More than refresh_interval and the first back-off: all that is served is stale by then."""
TITLE = "The secrets gateway"

Rates = dict[tuple[str, int], list[float]]


def measure(bench: Bench) -> Section:
    """The gateway as `make gateway` runs it, and the others beside it."""
    if shutil.which("wrk") is None:
        return Section(TITLE, [], "Not measured: `wrk` is not installed.")
    secrets = bench.new_folder("gateway")
    bench.prepare(**demo.to_prepare(str(secrets)))
    rounds, seconds = bench.choose((7, 4), (1, 1))
    rates: Rates = defaultdict(list)
    tails: dict[str, list[float]] = defaultdict(list)
    with started(bench, secrets) as (places, gateway):
        for number in range(rounds):
            tell(f"the gateway and the others, round {number + 1} of {rounds}")
            for (name, connections), where in order(places):
                rates[name, connections].append(load(bench, where, connections, seconds).rate)
        tell("the gateway while the server hangs")
        for _ in range(rounds):
            tails["well"].append(load(bench, places[OURS], 32, seconds).p99)
        opened_before = places[OURS].kept_open()
        with hanging(bench):
            bench.wait(PATIENCE_SECONDS)
            for _ in range(rounds):  # of two seconds at least: the first of them waits out `patience`
                tails["hung"].append(load(bench, opened_before, 32, max(seconds, 2)).p99)
        tell("the gateway's memory")
        sizes = memory(bench, gateway, places[OURS], bench.choose(30, 1))
    return Section(TITLE, [*rate_rows(rates), *tail_rows(tails), *memory_rows(sizes)], NOTES)


def order(places: dict[str, Place]) -> Iterator[tuple[tuple[str, int], Place]]:
    for connections in CONNECTIONS:
        for name, place in places.items():
            yield (name, connections), place


# ── What runs ────────────────────────────────────────────────────────────────────────────────────────────────────────


class Place:
    """An address, and how to come by the header that opens it: a JWT ends before all is measured."""

    def __init__(self, url: str, header: Callable[[], str]) -> None:
        self.url, self.header = url, header

    def kept_open(self) -> Place:
        """With the header of now: who gives it out will not answer."""
        header = self.header()
        return Place(self.url, lambda: header)


@contextmanager
def started(bench: Bench, secrets: Path) -> Iterator[tuple[dict[str, Place], Process]]:
    """All contenders, by name, and our process."""
    issuer = f"{bench.server.openbao.url}/v1/identity/oidc"
    login = new_login(bench, "gateway-proxy", policy=POLICY)
    with ExitStack() as stack:
        proxy = stack.enter_context(running(Proxy(bench, login, "tenants/data/acme/app")))
        bench.until(proxy.is_ready, PROXY)
        ours = demo.start(bench.server, str(secrets))
        stack.callback(ours.process.stop)
        bench.until(lambda: demo.is_ready(ours), "the gateway")
        bare = {name: uvicorn(bench, stack, name, issuer) for name in ("starlette", "fastapi")}
        token = f"X-Vault-Token: {token_to_read(bench)}"

        def jwt() -> str:
            return f"Authorization: Bearer {jwt_of_alice(bench, secrets)}"

        read, through = "/vault/secrets/app", "/v1/tenants/data/acme/app"
        yield (
            {
                SERVER: Place(bench.server.openbao.url + through, lambda: token),
                PROXY: Place(f"http://{HOST}:{proxy.port}{through}", lambda: "X-Vault-Request: true"),
                FASTAPI: Place(bare["fastapi"] + read, jwt),
                STARLETTE: Place(bare["starlette"] + read, jwt),
                OURS: Place(ours.url + read, jwt),
            },
            ours.process,
        )


def uvicorn(bench: Bench, stack: ExitStack, app: str, issuer: str) -> str:
    """One of the bare applications; its address."""
    port = free_port(0)
    options = ["--port", str(port), "--http", "httptools", "--no-access-log", "--log-level", "warning"]
    command = [sys.executable, "-m", "uvicorn", f"benchmarks.bare:{app}", *options]
    environment = {**os.environ, "ISSUER": issuer, "PYTHONPATH": str(demo.PROJECT)}
    process = Process(app, command, log=bench.new_folder(app) / "log", env=environment)
    stack.callback(process.stop)
    address = f"http://{HOST}:{port}"
    bench.until(lambda: answers(port), app)
    return address


def answers(port: int) -> bool:
    return any(each.laddr.port == port and each.status == psutil.CONN_LISTEN for each in psutil.net_connections("tcp4"))


def jwt_of_alice(bench: Bench, secrets: Path) -> str:
    root = bench.root
    root.token = ""
    return log_in(root, "alice", (secrets / "alice.password").read_text(encoding="utf-8").strip())


def token_to_read(bench: Bench) -> str:
    return str(bench.root.auth.token.create(policies=["gateway-proxy"], no_default_policy=True)["auth"]["client_token"])


@contextmanager
def hanging(bench: Bench) -> Iterator[None]:
    """The server takes connections, and answers nothing."""
    bench.server.openbao.send(signal.SIGSTOP)
    try:
        yield
    finally:
        bench.server.openbao.send(signal.SIGCONT)


# ── Load ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


class Load:
    """What wrk found: answers in a second, and the time of the slowest in a hundred."""

    def __init__(self, said: str) -> None:
        if "Non-2xx" in said:
            raise TimeoutError("a contender answered with an error")
        self.rate = float(found(r"Requests/sec:\s+([\d.]+)", said)[1])
        tail = found(r"99%\s+([\d.]+)(us|ms|s)", said)
        self.p99 = float(tail[1]) * UNITS[tail[2]]


def found(pattern: str, said: str) -> re.Match[str]:
    match = re.search(pattern, said)
    if match is None:
        raise TimeoutError("wrk said nothing of what it measured")
    return match


def load(bench: Bench, place: Place, connections: int, seconds: int) -> Load:
    """Ask as often as it answers. The header comes by a script: on a command line everybody could read it."""
    bench.check()
    return Load(wrk(bench, place, connections, seconds, opened(place)))


def opened(place: Place) -> str:
    name, _, value = place.header().partition(": ")
    return f'wrk.headers["{name}"] = "{value}"'


def wrk(bench: Bench, place: Place, connections: int, seconds: int, script: str) -> str:
    file = bench.new_folder("wrk") / "script.lua"
    file.touch(mode=0o600)
    file.write_text(script, encoding="utf-8")
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}", "--latency", "-s", str(file), place.url]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


COUNTING = "n = 0\n"


def memory(bench: Bench, gateway: Process, place: Place, seconds: int) -> dict[str, float]:
    """Bytes of the process before, and after tokens that are none and paths at which nothing is; how many of these."""
    token = 'return wrk.format("GET", nil, {["Authorization"] = "Bearer " .. string.format("%x.%x.%x", n, n, n)})'
    path = 'return wrk.format("GET", "/vault/secrets/n" .. n)'
    scripts = [COUNTING + f"function request() n = n + 1 {each} end" for each in (token, path)]
    before = rss(gateway)
    said = [wrk(bench, place, 32, seconds, f"{opened(place)}\n{script}") for script in scripts]
    asked = sum(float(found(r"(\d+) requests in", each)[1]) for each in said)
    return {"before": before, "after": rss(gateway), "asked": asked}


def rss(process: Process) -> float:
    return float(psutil.Process(process.pid).memory_info().rss)


# ── What is told of it ───────────────────────────────────────────────────────────────────────────────────────────────


def rate_rows(rates: Rates) -> list[Row]:
    rows = []
    for connections in CONNECTIONS:
        what = f"reads a second, {connections} connection{'s' if connections > 1 else ''}"
        server, proxy, fastapi, starlette = (
            Row(what, name, rates[name, connections], count) for name in (SERVER, PROXY, FASTAPI, STARLETTE)
        )
        samples = rates[OURS, connections]
        rows += [server, proxy, fastapi, starlette]
        for than, least in (
            (server, 2.0 if connections == 1 else 1.5),
            (proxy, 5.0),
            (fastapi, 1.0),
            (starlette, 1 / 1.2),
        ):
            row = Row(what, OURS, samples, count, than=than)
            target = Target(f"at least {least:.2g} times", row.ratio >= least, WHY[than.whose])
            rows.append(Row(what, OURS, samples, count, than=than, target=target))
    return rows


def tail_rows(tails: dict[str, list[float]]) -> list[Row]:
    well = Row("p99 of a cached read, 32 connections", "the server well", tails["well"], duration)
    hung = Row(well.what, "the server hung", tails["hung"], duration, than=well)
    target = Target("at most 2 times", hung.ratio <= 2, "who finds a value due waits for Vault, at most `patience`")
    return [well, replace(hung, target=target)]


def memory_rows(sizes: dict[str, float]) -> list[Row]:
    before = Row("memory of the process", "before strangers", [sizes["before"]], mebibytes)
    what = f"after {sizes['asked']:,.0f} tokens and paths that nobody has"
    after = Row(before.what, what, [sizes["after"]], mebibytes, than=before)
    target = Target("at most 1.2 times", after.ratio <= 1.2, "the bounds of gateway.ini are not filled before")
    return [before, replace(after, target=target)]


LINES = (
    "for each answer the gateway asks its roles and its cache, counts, and writes two lines: the access log's and the"
    " audit trail's"
)
WHY = {SERVER: LINES, PROXY: LINES, FASTAPI: "the gateway does more than verify", STARLETTE: LINES}
NOTES = """\
`benchmarks/gateway.py`, with `wrk` (one thread) as the load. *The server* and *bao proxy* give the same secret from
OpenBao itself; *bare FastAPI* verifies the JWT with PyJWT each time and answers from memory; *bare Starlette* verifies
it once and remembers it (`benchmarks/bare.py`). The gateway verifies, decides by its roles, serves from its cache,
compares the version with the server's every 5 s, counts, and writes a line for each answer.
"""
