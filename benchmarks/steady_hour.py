"""Requests to the server in an hour of steady state: ours, the least that the rules permit, hvac, and `bao agent`.

Time is scaled: every lifetime and every interval of the demo is a fifth of what it is there, on a real server, so that
half an hour of the demo takes six minutes, whose requests are doubled. A fifth and no less, since the agent takes no
interval below a second. All contenders run at the same time, each with an AppRole of its own, and the server's audit
log says who asked for what. It is read from the moment when all of them hold all three secrets: what the start took is
not in it.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial

import hvac

from benchmarks.audit import AuditLog
from benchmarks.bench import DATABASE, DEMO, DYNAMIC_ROLE, KV, KV_PATH, STATIC_ROLE, Bench, alongside, tell
from benchmarks.contenders import DYNAMIC, OUR_ROLE_NAME, POLICY, Agent, Login, Ours, new_login, running
from benchmarks.report import Row, Section, Target, count, markdown
from vaultkit.auth.grant import RENEW_AT_SHARE_OF_TTL
from vaultkit.engines.database import LEASE_SHARE_LEFT

SCALE = 5
HOUR, MINUTE = 3600.0, 60.0
TOKEN_PERIOD, LEASE = MINUTE, MINUTE
"""Those of the demo, in seconds. No password rotates meanwhile: what that costs is told under freshness."""
MOST_AWAY = 0.01
MOST_USERS_AWAY = 0.05
AGENT, POLLER, RENEWING = "bao-agent", "hvac", "ours-renewing"
POLICY_OF_OURS = POLICY + f'path "{KV}/metadata/*" {{ capabilities = ["read"] }}'

KINDS = ("token", "KV", "dynamic", "static", "other")
Counts = Mapping[str, float]


def measure(bench: Bench) -> Section:
    """Half an hour, scaled; its counts are scaled up to an hour."""
    seconds = bench.choose(HOUR / SCALE / 2, 3.0)
    log = AuditLog(bench.server.openbao.audit_log)
    start = log.position()
    with everybody_running(bench):
        tell(f"requests in steady state: {seconds:.0f} s")
        since = log.position()
        bench.wait(seconds)
        until = log.position()
    hours = seconds * SCALE / HOUR
    counts = {
        whose: by_kind(log.count(role_name, since, until), hours)
        for whose, role_name in (
            ("ours", OUR_ROLE_NAME),
            ("ours, renewing leases", RENEWING),
            ("hvac, polling", POLLER),
            ("bao agent", AGENT),
        )
    }
    rotating = log.count(OUR_ROLE_NAME, since, until)[DYNAMIC] / hours
    renewing = log.count(RENEWING, start, until)[DYNAMIC]
    compared = [*rows(counts), *rows_of_users(rotating, renewing)]
    return Section("Requests in an hour", compared, notes({"the least": least(), **counts}, seconds))


# ── What the rules permit ────────────────────────────────────────────────────────────────────────────────────────────


def least() -> dict[str, float]:
    """How many requests the rules demand in an hour, with the demo's settings and everything on time.

    T3: the token is renewed once 4/5 of its TTL have passed.
    K1: each `refresh_interval` takes one request, be it for the version or, once in `full_read_interval`, the values.
    D1: new credentials when `ttl_threshold` seconds are left, or a fifth of the lease if that is less.
    S1: one read each `cache_time`.
    """
    kv, dynamic, static = DEMO.kv_secret, DEMO.database_dynamic, DEMO.database_static
    return {
        "token": HOUR / (TOKEN_PERIOD * RENEW_AT_SHARE_OF_TTL),
        "KV": HOUR / kv.refresh_interval,
        "dynamic": HOUR / (LEASE - min(dynamic.ttl_threshold, LEASE * LEASE_SHARE_LEFT)),
        "static": HOUR / static.cache_time,
        "other": 0,
    }


# ── The contenders ───────────────────────────────────────────────────────────────────────────────────────────────────


@contextmanager
def everybody_running(bench: Bench) -> Iterator[None]:
    """All of them, with all three secrets."""
    period = f"{TOKEN_PERIOD / SCALE:.0f}s"
    bench.prepare(TOKEN_PERIOD=period, DB_DYNAMIC_TTL=f"{LEASE / SCALE:.0f}s")
    with ExitStack() as stack:
        ours = Ours(bench, scaled_settings())
        stack.enter_context(running(ours))
        renewing = Ours(bench, {**scaled_settings(), **renewal(new_login(bench, RENEWING, period, POLICY_OF_OURS))})
        stack.enter_context(running(renewing))
        agent = Agent(bench, new_login(bench, AGENT, period), DEMO.kv_secret.refresh_interval / SCALE)
        stack.enter_context(running(agent))
        stack.enter_context(polling(bench, new_login(bench, POLLER, period)))
        ours.wait_for(bench, ours.has_all_secrets)
        renewing.wait_for(bench, renewing.has_all_secrets)
        agent.wait_for(bench, agent.has_all_secrets)
        yield
        ours.check()
        renewing.check()
        agent.check()


def scaled_settings() -> dict[str, str]:
    """The demo's, each divided by SCALE."""
    seconds = {
        "TOKEN_CHECK_INTERVAL": DEMO.token.check_interval,
        "KV_SECRET_REFRESH_INTERVAL": DEMO.kv_secret.refresh_interval,
        "KV_SECRET_FULL_READ_INTERVAL": DEMO.kv_secret.full_read_interval,
        "DATABASE_DYNAMIC_REFRESH_INTERVAL": DEMO.database_dynamic.refresh_interval,
        "DATABASE_DYNAMIC_TTL_THRESHOLD": DEMO.database_dynamic.ttl_threshold,
        "DATABASE_STATIC_REFRESH_INTERVAL": DEMO.database_static.refresh_interval,
        "DATABASE_STATIC_CACHE_TIME": DEMO.database_static.cache_time,
    }
    return {name: f"{value / SCALE}" for name, value in seconds.items()}


def renewal(login: Login) -> dict[str, str]:
    """What another instance of ours has instead, that renews its leases."""
    return {
        "VAULT_ROLE_ID": login.role_id,
        "VAULT_SECRET_ID": login.secret_id,
        "DATABASE_DYNAMIC_ON_EXPIRY": "renew",
    }


@contextmanager
def polling(bench: Bench, login: Login) -> Iterator[None]:
    """hvac without a cache: reads each secret as often as ours looks at it, and renews its token as ours does."""
    vault = hvac.Client(url=bench.server.openbao.url)
    vault.auth.approle.login(login.role_id, login.secret_id)
    kv, database = vault.secrets.kv.v2, vault.secrets.database
    read_kv = partial(kv.read_secret_version, KV_PATH, mount_point=KV, raise_on_deleted_version=True)
    read_dynamic = partial(database.generate_credentials, DYNAMIC_ROLE, mount_point=DATABASE)
    read_static = partial(database.get_static_credentials, STATIC_ROLE, mount_point=DATABASE)
    with alongside(
        poll(TOKEN_PERIOD * RENEW_AT_SHARE_OF_TTL, vault.auth.token.renew_self),
        poll(DEMO.kv_secret.refresh_interval, read_kv),
        poll(DEMO.database_dynamic.refresh_interval, read_dynamic),
        poll(DEMO.database_static.refresh_interval, read_static),
    ):
        yield


def poll(interval: float, ask: Callable[[], object]) -> Callable[[threading.Event], None]:
    """Something that asks every so many seconds of the demo."""

    def run(stop: threading.Event) -> None:
        while not stop.wait(interval / SCALE):
            ask()

    return run


# ── What was counted ─────────────────────────────────────────────────────────────────────────────────────────────────


def kind_of(path: str) -> str:
    """What a request was for."""
    beginnings = {
        "auth/": "token",
        f"{KV}/": "KV",
        f"{DATABASE}/creds/": "dynamic",
        "sys/leases/renew": "dynamic",
        f"{DATABASE}/static-creds/": "static",
    }
    return next((kind for beginning, kind in beginnings.items() if path.startswith(beginning)), "other")


def by_kind(paths: Counter[str], hours: float) -> dict[str, float]:
    """Requests an hour."""
    counts = dict.fromkeys(KINDS, 0.0)
    for path, times in paths.items():
        counts[kind_of(path)] += times / hours
    return counts


def rows(counts: Mapping[str, Counts]) -> list[Row]:
    """The totals; `counts` are those of ours, first, and the others."""
    what = "requests in an hour"
    fewest = Row(what, "the least", [sum(least().values())], count)
    compared = [Row(what, whose, [sum(its.values())], count, than=fewest) for whose, its in counts.items()]
    met = abs(compared[0].ratio - 1) <= MOST_AWAY
    target = Target(f"the least, within {MOST_AWAY:.0%}", met, WHY_NOT_THE_LEAST)
    return [fewest, replace(compared[0], target=target), *compared[1:]]


def rows_of_users(rotating: float, renewing: float) -> list[Row]:
    """How many database users an hour makes: by replacing each lease, and by renewing the first."""
    what = "database users in an hour"
    fewest = Row(what, "the least, replacing", [least()["dynamic"]], count)
    replacing = Row(what, "ours", [rotating], count, than=fewest)
    met = abs(replacing.ratio - 1) <= MOST_USERS_AWAY
    target = Target(f"the least, within {MOST_USERS_AWAY:.0%}", met, WHY_NOT_THE_LEAST)
    one = Target("1", renewing == 1, "A renewal was refused, or came too late on a busy machine.")
    return [
        fewest,
        replace(replacing, target=target),
        Row(what, "ours, renewing leases", [renewing], count, target=one),
    ]


def notes(counts: Mapping[str, Counts], seconds: float) -> str:
    lines = [[whose, *(count(its[kind]) for kind in KINDS), count(sum(its.values()))] for whose, its in counts.items()]
    return NOTES.format(scale=SCALE, seconds=seconds, counts=markdown(["", *KINDS, "all"], lines))


NOTES = """\
An hour of the demo in steady state, in scaled time: every lifetime and interval of the demo divided by {scale}, on a
real server, for {seconds:.0f} s; what was counted there is scaled up to an hour. All contenders ran at the same time,
and the server's audit log tells them apart. The requests of the start are not counted, and no password rotated.

{counts}

*The least* is computed from the settings by the rules T3, K1, D1 and S1 (`least` in `benchmarks/steady_hour.py`), with
everything on time; ours is a few milliseconds late each time, and what falls due at the edge of the time is not in it.
*hvac, polling* reads each secret as often as ours looks at it, so every look at the dynamic credentials makes a new
database user. *bao agent* renders a template for each of the three secrets, and looks at KV as often as ours. Renewals
of a lease count as *dynamic*. *Ours, renewing leases* is a second instance, with `[database_dynamic] on_expiry = renew`
and a max TTL of 24 h; its users are counted from its start on, those of *ours* in steady state. What the agent does in
steady state: it reads the values of KV in each interval, a random part of it sooner than asked to; it renews token and
lease a little earlier than ours renews its token and replaces its lease; and it leaves a static password alone until
its `ttl` is over, where ours asks again after `cache_time`, since a password may be rotated by hand."""

WHY_NOT_THE_LEAST = """\
Each interval is counted from the request before, and begins a little late on a busy machine; and what falls due at the
edge of the time that is counted is in it or not, which counts double or more once it is scaled up."""
