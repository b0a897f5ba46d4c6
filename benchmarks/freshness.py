"""How soon a change is seen: a new KV version, a rotated static password, new dynamic credentials.

Ours and `bao agent` watch the same secrets on the same server at the same time. KV is looked at as often as in the
demo; leases and rotations are short, so that there are many within minutes. Both are started anew a few times: whoever
asks again when a TTL is over falls into step with the server, and would meet every rotation at the same distance.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterable
from functools import partial
from itertools import pairwise
from typing import NamedTuple

import hvac

from benchmarks import plots
from benchmarks.audit import AuditLog, Request, wall_time
from benchmarks.bench import DEMO, KV, KV_PATH, Bench, tell
from benchmarks.contenders import DYNAMIC, OUR_ROLE_NAME, STATIC
from benchmarks.report import Row, Section, Target, Unit, count, duration
from benchmarks.sightings import (
    AGENT,
    AGENT_ROLE_NAME,
    BOTH,
    LOOK_SECONDS,
    OURS,
    Samples,
    Sightings,
    watched_agent,
    watched_application,
)

ROLE_NAMES = {OURS: OUR_ROLE_NAME, AGENT: AGENT_ROLE_NAME}
OVERDUE_SECONDS = 0.5
"""How much later than its refresh interval ours may see a new version."""
PLOT = "benchmark-freshness.svg"


class Pace(NamedTuple):
    """How much happens, and how often; times in seconds."""

    starts: int
    versions: int
    """Written after each start."""
    interval: float
    """Between two looks at KV, of ours and of the agent."""
    lease: int
    max_ttl: int
    rotation: int


FULL = Pace(10, 3, DEMO.kv_secret.refresh_interval, lease=10, max_ttl=20, rotation=10)
QUICK = Pace(1, 2, 1.0, lease=3, max_ttl=6, rotation=5)


class Findings(NamedTuple):
    """What was seen after one start, or after all of them."""

    kv: Samples
    static: Samples
    dynamic: Samples
    """Seconds from the change until it was seen."""
    left: Samples
    """Seconds that the old lease had left then."""
    reads: Samples
    """Requests for each rotated password."""


def measure(bench: Bench) -> Section:
    """Write versions at random moments, while passwords rotate and leases end by themselves."""
    pace = bench.choose(FULL, QUICK)
    bench.prepare(
        DB_DYNAMIC_TTL=f"{pace.lease}s",
        DB_DYNAMIC_MAX_TTL=f"{pace.max_ttl}s",
        DB_ROTATION_PERIOD=f"{pace.rotation}s",
    )
    parts = []
    for start in range(pace.starts):
        tell(f"freshness, start {start + 1} of {pace.starts}")
        bench.wait(random.random())  # a `ttl` is told in whole seconds: this moves us within them
        parts.append(watch(bench, pace))
    findings = Findings(*(merged(samples) for samples in zip(*parts, strict=True)))
    panels = {"A new KV version": findings.kv, "A rotated static password": findings.static}
    notes = NOTES.format(**pace._asdict(), look=LOOK_SECONDS * 1000)
    return Section("Freshness", rows(findings, pace), notes, {PLOT: partial(plots.delays, panels)})


def watch(bench: Bench, pace: Pace) -> Findings:
    """Start both, and let them see a few changes of each kind."""
    sightings = Sightings(partial(lease_left, bench.root))
    log = AuditLog(bench.server.openbao.audit_log)
    since = log.position()
    with (
        watched_application(bench, pace.interval, sightings),
        watched_agent(bench, pace.interval, sightings),
    ):
        bench.until(sightings.are_complete, "all secrets of both")
        began = time.monotonic()
        written = write_versions(bench, sightings, pace)
        bench.until(lambda: bool(rotations(sightings, began)), "a rotation that both see")
        bench.until(lambda: all(sightings.left.values()), "new dynamic credentials of both")
        requests = log.requests(since, log.position())
    return Findings(
        kv=sightings.delays("kv", written),
        static=sightings.delays("static", rotations(sightings, began)),
        dynamic=sightings.delays("dynamic", issued(requests)),
        left=sightings.left,
        reads={whose: reads_per_rotation(sightings, requests, whose) for whose in BOTH},
    )


def merged(parts: Iterable[Samples]) -> Samples:
    """The samples of all starts."""
    together: dict[str, list[float]] = {whose: [] for whose in BOTH}
    for part in parts:
        for whose in BOTH:
            together[whose] += part[whose]
    return together


# ── What happened, and when ──────────────────────────────────────────────────────────────────────────────────────────


def write_versions(bench: Bench, sightings: Sightings, pace: Pace) -> dict[str, float]:
    """Write versions, each at a random point of the interval; tells when each was on its way to the server."""
    written: dict[str, float] = {}
    for number in range(pace.versions):
        bench.wait(random.uniform(0, pace.interval))
        values = {"api_key": f"key-{number}", "database_url": "mysql://localhost:3306/mydb"}
        leaves = time.monotonic()
        answer = bench.root.secrets.kv.v2.create_or_update_secret(KV_PATH, values, mount_point=KV)
        version = str(answer["data"]["version"])
        written[version] = leaves
        bench.until(partial(sightings.seen_by_both, "kv", version), f"version {version} for both")
    return written


def rotations(sightings: Sightings, began: float) -> dict[str, float]:
    """When the server rotated the password, as it says itself; those after the beginning that both have seen."""
    moments = {when: as_monotonic(wall_time(when)) for when in tuple(sightings.since[OURS, "static"])}
    return {when: at for when, at in moments.items() if at > began and sightings.seen_by_both("static", when)}


def issued(requests: list[Request]) -> dict[str, float]:
    """When the server answered with a new lease."""
    return {each.lease_id: as_monotonic(each.at) for each in requests if each.path == DYNAMIC}


def reads_per_rotation(sightings: Sightings, requests: list[Request], whose: str) -> list[float]:
    """How often the static credentials were asked for from one new password to the next."""
    reads = [as_monotonic(each.at) for each in requests if (each.path, each.role_name) == (STATIC, ROLE_NAMES[whose])]
    seen = sightings.since[whose, "static"].values()
    return [sum(before < at <= now for at in reads) for before, now in pairwise(seen)]


def as_monotonic(wall: float) -> float:
    """A moment of the wall clock, which the server goes by, on the monotonic clock, which we go by."""
    return wall + time.monotonic() - time.time()


def lease_left(root: hvac.Client, lease: str) -> float:
    """How many seconds a lease has left; 0 if it has ended."""
    try:
        expires = root.sys.read_lease(lease)["data"]["expire_time"]
    except hvac.exceptions.InvalidRequest:
        return 0.0
    return wall_time(expires) - time.time()


# ── What the page says ───────────────────────────────────────────────────────────────────────────────────────────────


def rows(findings: Findings, pace: Pace) -> list[Row]:
    latest = pace.interval + OVERDUE_SECONDS
    target = Target(f"≤ {latest:g} s, each time", max(findings.kv[OURS]) <= latest, WHY_LATE)
    return [
        *pair("new KV version, written to seen", findings.kv, target=target),
        *pair("static password, rotated to seen", findings.static),
        *pair("static password, requests for each rotation", findings.reads, count),
        *pair("dynamic credentials, issued to held", findings.dynamic),
        *pair("dynamic credentials, left of the old lease", findings.left),
    ]


def pair(what: str, samples: Samples, unit: Unit = duration, target: Target | None = None) -> list[Row]:
    ours = Row(what, OURS, samples[OURS], unit, target=target)
    return [ours, Row(what, AGENT, samples[AGENT], unit, than=ours)]


NOTES = """\
Both watch the same secrets at the same time: ours by a listener in the application, the agent by the files that it
renders, looked at every {look:g} ms; both are started anew {starts} times. *KV*: both have an interval of
{interval:g} s, and versions are written at random moments, by the clock before the request. *Static*: the password is
rotated every {rotation} s, at the `last_vault_rotation` that the server tells. *Dynamic*: leases of {lease} s with a
max TTL of {max_ttl} s; credentials are *issued* when the server answers, by its audit log, and what the old lease has
left is what the server says when the new credentials are there.

The agent reads KV values anew in each interval, a random part of it sooner than asked to. It asks for a static password
a second after its `ttl` is over, and then each second as long as that is 0; ours asks when the `ttl` is over, and then
each second. The server rounds that `ttl` to whole seconds, so about every other first question of ours comes a little
before the rotation, and costs a second one. The agent renews a dynamic lease well before its end, which no template
shows, and takes new credentials when max TTL lets a renewal grant too little. Ours renews no lease, and takes new
credentials when a fifth of it is left. More that is left is more time to replace connections, and less use of each
lease."""

WHY_LATE = "A look comes a refresh interval after the one before was answered, and a request may have been slow."
