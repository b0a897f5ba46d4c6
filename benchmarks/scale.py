"""KV secrets at scale: what a refresh of 10 to 10,000 of them costs, and the memory that they take.

All are below one prefix. Ours learns their versions from one request (K5); without the permission to scan it works as
on a Vault, which lists the names and is asked for each version; hvac reads them all, each time. The client of ours is
in this process, with a clock that is set forward where the application would wait for the next refresh.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from http.client import HTTPConnection
from operator import attrgetter
from pathlib import Path
from statistics import median
from typing import NamedTuple

import hvac

from benchmarks.audit import AuditLog
from benchmarks.bench import DEMO, ENTITY, KV, Bench, tell
from benchmarks.contenders import Agent, Contender, Login, Ours, Proxy, new_login, running
from benchmarks.plots import growth
from benchmarks.report import Row, Section, Target, count, duration, mebibytes
from config_loader import VaultConfig
from devserver.openbao import HOST
from vault_client import VaultClient

TOKEN_PERIOD = "24h"
SET_FORWARD_SECONDS = 60.0
"""More than any refresh takes, so that the next one is due."""
SIZES, QUICK_SIZES = (10, 100, 1_000, 10_000), (10, 20)
ROUNDS = {10: 20, 100: 20, 1_000: 10, 10_000: 5}
"""How often a refresh is measured; those that ask for each secret, a fifth as often."""
CHANGED_SHARE = 1 / 100
INTERVAL = DEMO.kv_secret.refresh_interval
NO_FULL_READS = 1e9
"""Seconds, more than the settings allow."""
MOST_OF_PROXY = 0.6
MEMORY_SAMPLES, SAMPLE_SECONDS = 10, 1.0
LOAD_SECONDS = 300.0
"""How long ten thousand secrets may take to be there at first."""

OURS, ALONE, HVAC, AGENT, PROXY = "ours", "ours, without SCAN", "hvac, reading each", "bao agent", "bao proxy"
UNCHANGED, CHANGED = "nothing changed", "1 % changed"
POLICY = f"""
path "{KV}/data/*"     {{ capabilities = ["read"] }}
path "{KV}/metadata/*" {{ capabilities = ["read", "list"] }}
path "auth/token/renew-self"  {{ capabilities = ["update"] }}
path "auth/token/lookup-self" {{ capabilities = ["read"] }}
path "auth/token/revoke-self" {{ capabilities = ["update"] }}
"""


def measure(bench: Bench) -> Section:
    """Refreshes at each size, and then the memory that the largest takes."""
    bench.prepare(TOKEN_PERIOD=TOKEN_PERIOD)
    sizes = bench.choose(SIZES, QUICK_SIZES)
    rows: list[Row] = []
    costs: dict[int, Costs] = {}
    for size in sizes:
        tell(f"{size:,} KV secrets: writing them")
        write(bench.root, paths(size), "one")
        tell(f"{size:,} KV secrets: refreshing them")
        costs[size] = refresh(bench, size)
        rows += cost_rows(size, costs[size])
    rows += memory_rows(sizes[-1], memory(bench, sizes[-1]))
    return Section("Many KV secrets", rows, NOTES, {"benchmark-scale.svg": partial(draw, costs)})


def paths(size: int) -> list[str]:
    return [f"scale/{size}/{number:05}" for number in range(size)]


def write(root: hvac.Client, names: list[str], value: str) -> None:
    for number, name in enumerate(names):
        values = {"api_key": f"{value}-{number:05}", "database_url": "mysql://localhost:3306/mydb"}
        root.secrets.kv.v2.create_or_update_secret(name, values, mount_point=KV)


# ── What a refresh costs ─────────────────────────────────────────────────────────────────────────────────────────────


class Cost(NamedTuple):
    """Of one refresh."""

    cpu: float
    """Seconds of processor time in the process of the client."""
    requests: int


Costs = dict[tuple[str, str], list[Cost]]
"""By who refreshes, and what has changed."""


@dataclass
class SetForward:
    """The clock of the machine, and what it is set forward by."""

    offset: float = 0.0

    def monotonic(self) -> float:
        return time.monotonic() + self.offset

    def time(self) -> float:
        return time.time() + self.offset

    def set_forward(self) -> None:
        self.offset += SET_FORWARD_SECONDS


@dataclass(frozen=True)
class Refresher:
    """Somebody who keeps the secrets up to date."""

    whose: str
    role_name: str
    refresh: Callable[[], object]
    rounds: int
    let_pass: Callable[[], object] = lambda: None
    """Brings about that the next refresh is due."""


def refresh(bench: Bench, size: int) -> Costs:
    """The contenders take turns with nothing changed; then one secret in a hundred changes, and ours takes its turn.

    The cost of the others is the same whatever has changed, or nearly so.
    """
    costs: Costs = {}
    with ExitStack() as stack:
        ours, *others = refreshers(bench, size, stack)
        for who in (ours, *others):
            who.refresh()  # the first one, in which all values are read
        for number in range(ours.rounds):
            others = [who for who in others if number < who.rounds]
            for who in (ours, *others):
                costs.setdefault((who.whose, UNCHANGED), []).append(cost_of(bench, who))
            write(bench.root, paths(size)[: changes(size)], f"change {number}")
            costs.setdefault((ours.whose, CHANGED), []).append(cost_of(bench, ours))
            for who in (who for who in others if number + 1 < who.rounds):
                cost_of(bench, who)  # takes notice of the change, so that nothing has changed the next time
    return costs


def changes(size: int) -> int:
    return max(1, round(size * CHANGED_SHARE))


def cost_of(bench: Bench, who: Refresher) -> Cost:
    bench.check()
    log = AuditLog(bench.server.openbao.audit_log)
    who.let_pass()
    since, began = log.position(), time.process_time()
    who.refresh()
    return Cost(time.process_time() - began, log.count(who.role_name, since, log.position()).total())


def refreshers(bench: Bench, size: int, stack: ExitStack) -> list[Refresher]:
    rounds = bench.choose(ROUNDS.get(size, 1), 1)
    few = max(1, rounds // 5)
    ours = Login(ENTITY, DEMO.vault.role_id, bench.server.secret_id)
    alone, each = (new_login(bench, name, TOKEN_PERIOD, POLICY) for name in ("without-scan", "reading-each"))
    return [
        our_refresher(OURS, bench, ours, size, rounds, stack),
        our_refresher(ALONE, bench, alone, size, few, stack),
        Refresher(HVAC, each.role_name, partial(read_each, plain_client(bench, each), size), few),
    ]


def our_refresher(whose: str, bench: Bench, login: Login, size: int, rounds: int, stack: ExitStack) -> Refresher:
    clock = SetForward()
    client = stack.enter_context(client_of(bench, login, clock))
    refresh_all = partial(client.get_kv_secrets, f"scale/{size}/*")
    return Refresher(whose, login.role_name, refresh_all, rounds, let_pass=clock.set_forward)


def client_of(bench: Bench, login: Login, clock: SetForward) -> VaultClient:
    """Ours. The values that it reads anew every five minutes, whatever their versions, are not part of a refresh."""
    environ = {
        "VAULT_URL": bench.server.openbao.url,
        "VAULT_ROLE_ID": login.role_id,
        "VAULT_SECRET_ID": login.secret_id,
    }
    config = VaultConfig.load(environ=environ)
    kv = replace(config.kv_secret, full_read_interval=NO_FULL_READS)
    return VaultClient(replace(config, kv_secret=kv), clock=clock)


def plain_client(bench: Bench, login: Login) -> hvac.Client:
    client = hvac.Client(url=bench.server.openbao.url)
    client.auth.approle.login(role_id=login.role_id, secret_id=login.secret_id)
    return client


def read_each(client: hvac.Client, size: int) -> None:
    for name in paths(size):
        client.secrets.kv.v2.read_secret_version(name, mount_point=KV, raise_on_deleted_version=True)


def cost_rows(size: int, costs: Costs) -> list[Row]:
    """CPU time and requests; both compared with hvac, which does the same whatever has changed."""
    rows: list[Row] = []
    for name, unit in (("CPU time", duration), ("requests", count)):
        samples = {who: [cost.cpu if unit is duration else cost.requests for cost in costs[who]] for who in costs}
        what = f"refresh of {size:,} KV secrets: {name}, "
        each = Row(what + UNCHANGED, HVAC, samples[HVAC, UNCHANGED], unit)
        rows += [
            each,
            Row(what + UNCHANGED, ALONE, samples[ALONE, UNCHANGED], unit, than=each),
            Row(what + UNCHANGED, OURS, samples[OURS, UNCHANGED], unit, than=each),
            Row(what + CHANGED, OURS, samples[OURS, CHANGED], unit, than=each),
        ]
    rows[-2:] = [exactly(rows[-2], 1), exactly(rows[-1], 1 + changes(size))]
    return rows


def exactly(row: Row, requests: int) -> Row:
    """K5: a request for the versions, and one for each secret that changed."""
    met = all(sample == requests for sample in row.samples)
    return replace(row, target=Target(f"{requests:,}", met, WHY_OTHER_REQUESTS))


def draw(costs: Mapping[int, Costs], path: Path) -> None:
    """How CPU time and requests grow with the number of secrets."""
    lines = [(OURS, UNCHANGED), (OURS, CHANGED), (ALONE, UNCHANGED), (HVAC, UNCHANGED)]
    panels = {
        title: {
            f"{whose}, {what}" if whose == OURS else whose: {
                size: median(map(value, costs[size][whose, what])) for size in costs
            }
            for whose, what in lines
        }
        for title, value in (
            ("CPU time of a refresh, s", attrgetter("cpu")),
            ("requests of a refresh", attrgetter("requests")),
        )
    }
    growth(panels, "KV secrets", path)


# ── Memory ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def memory(bench: Bench, size: int) -> dict[str, list[float]]:
    """Resident bytes once all secrets are there, one contender after the other."""
    ours = Ours(bench, {"KV_SECRET_PATH": f"scale/{size}/*"})
    samples = {OURS: sampled(bench, ours, lambda: "secrets unchanged" in ours.output())}
    agent = Agent(bench, new_login(bench, "bao-agent", policy=POLICY), templates={"all": template_of_all(size)})
    samples[AGENT] = sampled(bench, agent, agent.has_all_secrets)
    proxy = Proxy(bench, new_login(bench, "bao-proxy"))
    samples[PROXY] = sampled(bench, proxy, lambda: proxy.is_ready() and read_through(proxy, size))
    return samples


def sampled(bench: Bench, contender: Contender, is_ready: Callable[[], bool]) -> list[float]:
    tell(f"memory of {contender.name}")
    with running(contender):
        contender.wait_for(bench, is_ready, LOAD_SECONDS)
        samples: list[float] = []
        for _ in range(bench.choose(MEMORY_SAMPLES, 1)):
            bench.wait(SAMPLE_SECONDS)
            samples.append(contender.memory)
    return samples


def template_of_all(size: int) -> str:
    folder = f"scale/{size}"
    secret = f'with secret (printf "{KV}/data/{folder}/%s" .)'
    words = "{{ .Data.metadata.version }} {{ .Data.data.api_key }} {{ .Data.data.database_url }}"
    return f'{{{{ range secrets "{KV}/metadata/{folder}" }}}}{{{{ {secret} }}}}{words}\n{{{{ end }}}}{{{{ end }}}}'


def read_through(proxy: Proxy, size: int) -> bool:
    """Read all secrets through the proxy, once."""
    connection = HTTPConnection(HOST, proxy.port)
    for name in paths(size):
        connection.request("GET", f"/v1/{KV}/data/{name}")
        connection.getresponse().read()
    connection.close()
    return True


def memory_rows(size: int, samples: Mapping[str, list[float]]) -> list[Row]:
    what = f"memory, {size:,} KV secrets"
    proxy = Row(what, PROXY, samples[PROXY], mebibytes)
    ours = Row(what, OURS, samples[OURS], mebibytes, than=proxy)
    target = Target(f"≤ {MOST_OF_PROXY:g} times bao proxy", ours.ratio <= MOST_OF_PROXY, WHY_BIG)
    return [replace(ours, target=target), Row(what, AGENT, samples[AGENT], mebibytes, than=proxy), proxy]


# ── What the page says ───────────────────────────────────────────────────────────────────────────────────────────────

NOTES = f"""\
All secrets stand below one prefix, with two short values each. *Ours* refreshes them as `[kv_secret] path = team/*`
does: one SCAN tells all versions, and what changed is read. *Ours, without SCAN* may not scan, as on a HashiCorp Vault:
it lists the names and asks each secret for its version. *hvac, reading each* reads all values again, which costs the
same whatever has changed; that is what a loop over hvac does. Not in the figures of ours: the read of every value once
in {DEMO.kv_secret.full_read_interval:g} s, whatever its version (K1), which comes to one secret in
{DEMO.kv_secret.full_read_interval / INTERVAL:.0f} in a refresh.

A sample is one refresh: CPU time is that of the client's process; requests are those in the server's log. The clock of
ours is set forward instead of waiting for the refresh interval. Refreshes with nothing changed
and with new versions of one secret in a hundred (of 10 secrets: one) take turns.

*Memory* (RSS) is sampled once a second when all secrets are there, and one contender runs at a time. Ours also holds
the two database credentials. The agent renders one file of all secrets. All of them are read through the proxy once,
but it keeps none: it caches what has a lease, and KV has none."""

WHY_OTHER_REQUESTS = "The refresh took longer than a listing stays fresh, so that it was asked for again meanwhile."

WHY_BIG = """\
Ours holds every secret, its version and its deadlines, and needs room to parse the listing of all versions; the proxy
holds none of the secrets."""
