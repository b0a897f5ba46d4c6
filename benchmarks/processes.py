"""Start, end and size of the processes: ours, the script of plain_hvac.py, `bao agent`, `bao proxy`.

Each round starts each of them anew, one at a time, and ends it. The interpreter and its imports are part of a start;
the files are in the system's cache, for everybody alike.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from http.client import HTTPConnection

from benchmarks.bench import Bench, tell
from benchmarks.contenders import TEMPLATES, Agent, ContenderT, Ours, Proxy, Script, new_login, running
from benchmarks.report import Row, Section, Target, mebibytes
from devserver.openbao import HOST

OURS, SCRIPT, AGENT, PROXY = "ours", "hvac, a script", "bao agent", "bao proxy"
SETTLE_SECONDS = 0.5
"""Between the start and the end: the process is idle when it is told to go."""
WARM_UP_SECONDS, SAMPLE_SECONDS = 10.0, 1.0
MOST_EXIT_SECONDS = 0.5
MOST_OF_PROXY = 0.6

Samples = dict[str, list[float]]


@dataclass
class Lives:
    """Seconds from the start to all three secrets, and from SIGTERM to the end."""

    starts: Samples = field(default_factory=lambda: defaultdict(list))
    exits: Samples = field(default_factory=lambda: defaultdict(list))


def measure(bench: Bench) -> Section:
    """Short lives, one after the other, and then a long one for the memory."""
    bench.prepare()
    rounds, seconds = bench.choose((11, 10), (1, 1))
    lives = Lives()
    for number in range(rounds):
        tell(f"start and exit, round {number + 1} of {rounds}")
        live_once(bench, lives)
    tell("memory")
    rows = [*start_rows(lives.starts), *exit_rows(lives.exits), *memory_rows(memory(bench, seconds))]
    return Section("Processes", rows, NOTES)


# ── Start and exit ───────────────────────────────────────────────────────────────────────────────────────────────────


def live_once(bench: Bench, lives: Lives) -> None:
    """A life of each contender. The proxy has no start: it holds no secret before somebody asks for it."""
    script, agent, proxy = (new_login(bench, role_name) for role_name in ("script", "bao-agent", "bao-proxy"))
    live(bench, lives, OURS, lambda: Ours(bench), Ours.has_all_secrets)
    live(bench, lives, SCRIPT, lambda: Script(bench, script), Script.has_all_secrets)
    live(bench, lives, AGENT, lambda: Agent(bench, agent), Agent.has_all_secrets)
    live(bench, lives, PROXY, lambda: Proxy(bench, proxy), Proxy.is_ready)


def live(
    bench: Bench, lives: Lives, whose: str, start: Callable[[], ContenderT], is_ready: Callable[[ContenderT], bool]
) -> None:
    """Start a process, wait until it is ready, and end it."""
    began = time.monotonic()
    with running(start()) as contender:
        contender.wait_for(bench, lambda: is_ready(contender))
        lives.starts[whose].append(time.monotonic() - began)
        if whose == SCRIPT:
            return  # it ends by itself
        bench.wait(SETTLE_SECONDS)
        told = time.monotonic()
        contender.terminate()
        bench.until(contender.has_ended, f"the end of {contender.name}")
        lives.exits[whose].append(time.monotonic() - told)


def start_rows(starts: Samples) -> list[Row]:
    what = "start to all three secrets"
    ours = Row(what, OURS, starts[OURS])
    return [ours, *(Row(what, whose, starts[whose], than=ours) for whose in (SCRIPT, AGENT))]


def exit_rows(exits: Samples) -> list[Row]:
    what = "SIGTERM to exit"
    met = max(exits[OURS]) <= MOST_EXIT_SECONDS
    ours = Row(what, OURS, exits[OURS], target=Target(f"≤ {MOST_EXIT_SECONDS:g} s, each time", met, WHY_SLOW_EXIT))
    return [ours, *(Row(what, whose, exits[whose], than=ours) for whose in (AGENT, PROXY))]


# ── Memory ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def memory(bench: Bench, seconds: int) -> Samples:
    """Resident bytes, once a second, of all three at the same time, each with all three secrets."""
    ours, agent = Ours(bench), Agent(bench, new_login(bench, "bao-agent"))
    with running(ours), running(agent), running(Proxy(bench, new_login(bench, "bao-proxy"))) as proxy:
        ours.wait_for(bench, ours.has_all_secrets)
        agent.wait_for(bench, agent.has_all_secrets)
        proxy.wait_for(bench, proxy.is_ready)
        samples: Samples = defaultdict(list)
        for _ in range(seconds):
            read_all(proxy)
            bench.wait(SAMPLE_SECONDS)
            for whose, process in ((OURS, ours), (AGENT, agent), (PROXY, proxy)):
                samples[whose].append(process.memory)
    return samples


def read_all(proxy: Proxy) -> None:
    """Read all three secrets through the proxy, or it would hold none."""
    connection = HTTPConnection(HOST, proxy.port)
    for path, _ in TEMPLATES.values():
        connection.request("GET", f"/v1/{path}")
        connection.getresponse().read()
    connection.close()


def memory_rows(samples: Samples) -> list[Row]:
    what = "memory, three secrets"
    proxy = Row(what, PROXY, samples[PROXY], mebibytes)
    ours = Row(what, OURS, samples[OURS], mebibytes, than=proxy)
    target = Target(f"≤ {MOST_OF_PROXY:g} times bao proxy", ours.ratio <= MOST_OF_PROXY, WHY_BIG)
    return [replace(ours, target=target), Row(what, AGENT, samples[AGENT], mebibytes, than=proxy), proxy]


# ── What the page says ───────────────────────────────────────────────────────────────────────────────────────────────

NOTES = f"""\
*Start* is from before the process is made until all three secrets are there: on the screen (ours), printed (the script,
`workshop/plain_hvac.py`) or in their files (the agent). Each sample is a new process, one at a time; the files that
it loads are in the system's cache. Ours makes a health check and a login, and then its three reads at the same time.
The script makes its login and its three reads one after the other. Of both, the greater part is Python loading modules.
The proxy holds nothing before it is asked.

*Exit* is from SIGTERM, {SETTLE_SECONDS:g} s after the process was ready, to its end. Ours revokes its token first, and
with it the dynamic credentials; agent and proxy leave theirs to expire.

*Memory* is what the system counts as resident (RSS), the pages of the program itself included, sampled once a second
while all three run and hold three secrets. Before each sample they are read through the proxy once."""

WHY_SLOW_EXIT = "Ours asks the server to revoke its token before it ends, and the server drops the database user first."

WHY_BIG = "The interpreter, and the libraries hvac, requests and urllib3, are most of it."
