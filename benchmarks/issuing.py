"""What the issuer costs: a thousand services with tokens of an hour, on the real server.

Nobody waits an hour. The issuer's clock is set forward to where the tokens of some are due, and its watch takes two
turns: one delivers; one sees that the holders have taken the new tokens, and revokes the old ones. The server's audit
log says what that took. From it, and the intervals of issuer.ini, the requests of an hour follow.
"""

from __future__ import annotations

import time
import tracemalloc
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import hvac

from benchmarks.audit import AuditLog
from benchmarks.bench import DEMO, ENTITY, Bench, tell
from benchmarks.report import Row, Section, Target, count, markdown
from config_loader import VaultConfig
from issuer import IssuerSettings, Service, VaultTokenIssuer
from issuer.handover import Delivery
from issuer.issues import ROTATE_AT_SHARE_OF_TTL
from issuer.watch import Watch
from vault_client import VaultClient

HOUR = 3600.0
THREADS = 8
AHEAD_SECONDS = 400.0
CRASHED = 10
"""Issuers that die at the worst point: when the token is made, and its accessor is not written down."""
WAYS = (
    ("the list of accounts", "/metadata"),
    ("an account read or written", "/data/"),
    ("a token made", "auth/token/create/"),
    ("looked up", "auth/token/lookup-accessor"),
    ("revoked", "auth/token/revoke-accessor"),
)
ROTATION_OF_RULES = {"an account read or written": 5, "a token made": 1, "looked up": 1, "revoked": 1}
"""The intent, the accessor, the delivery, the old one condemned and forgotten; and the proof that the new is used."""


DEMO_SETTINGS = IssuerSettings.load(DEMO.vault.entity, environ={})


class Killed(Exception):
    """Stands for the end of an issuer's process."""


class SetForward:
    """The machine's clocks, set forward."""

    by = 0.0

    def time(self) -> float:
        return time.time() + self.by

    def monotonic(self) -> float:
        return time.monotonic() + self.by


def measure(bench: Bench) -> Section:
    """Issue, crash and start again, rotate, and revoke all."""
    bench.prepare(SETUP_ROOMS="issuer")
    services = [Service.of("shop", f"s{number}") for number in range(bench.choose(1000, 20))]
    settings, clock = DEMO_SETTINGS, SetForward()
    with VaultClient(VaultConfig.load(environ=bench.server.application)) as client:
        client.keep_alive()
        issuer = VaultTokenIssuer(client, settings, clock=clock)
        tell(f"issuing {len(services):,} tokens")
        rotated = bench.choose(200, 10)
        issued = issue_all(bench, issuer, services, rotated)
        tell("starting after a crash")
        start = seconds_to_recover(bench, client, settings, services)
        tell("rotating every token")
        requests, memory = rotate_all(bench, issuer, clock)
        tell("revoking every token")
        began = time.monotonic()
        issuer.revoke_all()
        revoking = time.monotonic() - began
    each = {way: number / rotated for way, number in requests.items()}
    rows = [*rows_of(len(services), issued, start, revoking), row_of_memory(len(services), memory)]
    return Section("Tokens of services", [*rows, *rows_of_an_hour(settings, each)], notes(len(services), each))


def issue_all(bench: Bench, issuer: VaultTokenIssuer, services: list[Service], rotated: int) -> list[float]:
    """Seconds that each took. So many of the tokens are of an hour, the others of a day: not to be rotated here."""
    hours = dict(zip(services, [1] * rotated + [24] * len(services), strict=False))

    def issue(service: Service) -> float:
        bench.check()
        began = time.monotonic()
        issuer.issue(service, ttl=hours[service] * HOUR)
        return time.monotonic() - began

    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(issue, services))


def seconds_to_recover(bench: Bench, client: VaultClient, settings: IssuerSettings, services: list[Service]) -> float:
    """Of an issuer that starts where others have died, and must search the server for what they made."""

    def die(step: str) -> None:
        if step == "created":
            raise Killed

    dying = VaultTokenIssuer(client, settings, on_step=die)
    for service in services[:CRASHED]:
        with suppress(Killed):
            dying.issue(service, key="lost")
    bench.check()
    later = SetForward()
    later.by = settings.settle_after
    began = time.monotonic()
    cleared = VaultTokenIssuer(client, settings, clock=later).recover()
    assert cleared == CRASHED, cleared
    return time.monotonic() - began


def rotate_all(bench: Bench, issuer: VaultTokenIssuer, clock: SetForward) -> tuple[Counter[str], int]:
    """What was asked for, by its kind, to rotate every token once; and the bytes that the watch keeps meanwhile."""
    log = AuditLog(bench.server.openbao.audit_log)

    def take(delivery: Delivery) -> None:
        bench.check()
        api = hvac.Client(url=bench.server.openbao.url, token=delivery.wrapping_token)
        api.token = api.sys.unwrap()["auth"]["client_token"]
        api.auth.token.renew_self()
        api.adapter.close()

    watch = Watch(issuer, take, clock=clock)
    before = memory_of(watch)
    # A look a while before, so that the next, at which they are due, comes before `rescan` has the others read anew.
    clock.by = HOUR * ROTATE_AT_SHARE_OF_TTL - AHEAD_SECONDS
    watch.turn()
    clock.by += AHEAD_SECONDS + 1
    since = log.position()
    watch.turn()
    clock.by += issuer.settings.interval + 1
    watch.turn()
    paths = log.count(ENTITY, since, log.position())
    return Counter({way: number_of(paths, part) for way, part in WAYS}), before


def memory_of(watch: Watch) -> int:
    """Bytes that it holds after its first turn, which reads every account."""
    tracemalloc.start()
    try:
        watch.turn()
        return tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()


def number_of(paths: Counter[str], part: str) -> int:
    return sum(number for path, number in paths.items() if part in path or path.endswith(part))


# ── What is told of it ───────────────────────────────────────────────────────────────────────────────────────────────


def rows_of(services: int, issued: list[float], start: float, revoking: float) -> list[Row]:
    of = f"{services:,} services"
    return [
        Row("a token issued, 8 threads", "the issuer", issued),
        Row(f"start after {CRASHED} crashes, {of}", "the issuer", [start]),
        Row(f"every token revoked, {of}", "the issuer", [revoking]),
    ]


def row_of_memory(services: int, size: int) -> Row:
    return Row(
        f"memory of the watch, {services:,} services", "the issuer", [size], lambda size: f"{size / 1024:.0f} KiB"
    )


def rows_of_an_hour(settings: IssuerSettings, each: dict[str, float]) -> list[Row]:
    """For a thousand services: as measured, beside what the rules take."""
    rules = Row("requests an hour, 1,000 services", "the rules", [an_hour(settings, ROTATION_OF_RULES)], count)
    rotation = {way: number for way, number in each.items() if way != WAYS[0][0]}
    ours = an_hour(settings, rotation)
    text, most = "at most 2 times the rules", 2.0
    met = Target(text, ours <= most * rules.median, "accounts are read anew before each change")
    return [rules, Row(rules.what, "the issuer", [ours], count, than=rules, target=met)]


def an_hour(settings: IssuerSettings, rotation: Mapping[str, float]) -> float:
    """The list at each turn, each account once in `rescan`, and a rotation at each 4/5 of an hour."""
    looks = HOUR / settings.interval + 1000 * HOUR / settings.rescan
    return looks + 1000 / ROTATE_AT_SHARE_OF_TTL * sum(rotation.values())


def notes(services: int, each: dict[str, float]) -> str:
    asked: dict[str, Mapping[str, float]] = {"one rotation": each, "as the rules take it": ROTATION_OF_RULES}
    head = ["", *(way for way, _ in WAYS)]
    rows = [[whose, *(f"{by.get(way, 0):.1f}" for way, _ in WAYS)] for whose, by in asked.items()]
    return (
        f"`benchmarks/issuing.py`: {services:,} services of one tenant, settings of `issuer.ini`.\n"
        f"{str(__doc__).partition(chr(10) * 2)[2].strip()}\n\nRequests per service:\n\n{markdown(head, rows)}\n\n"
        f"An hour is a list each {DEMO_SETTINGS.interval:g} s, each account once in {DEMO_SETTINGS.rescan:g} s, and a"
        " rotation at each 4/5 of a token's life. A start after a crash reads every account, and searches every token"
        " of the server, once, for those whose accessor was not written down."
    )
