"""How long an outage of Vault may last: writes docs/TIMING.md, from the real client under simulated time.

A run grants a token or a lease, takes Vault away, lets the client look as often as the application would, and notes
when it asked. What is told is the worst of many runs, for the back-off is jittered. `make timing` starts it.
"""

from __future__ import annotations

import logging
import math
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import requests

from config_loader import VaultConfig
from listeners.usage import CommandLine
from tests.fakes import ROLE_ID, SECRET_ID, FakeClock, FakeVault
from vault_app import seconds_to_next_turn
from vault_client import VaultClient
from vaultkit.errors import VaultError
from vaultkit.events import Event

PAGE = Path(__file__).parents[1] / "docs" / "TIMING.md"
MINUTE, HOUR, DAY = 60, 3600, 86_400
TTLS = (10, 30, MINUTE, 5 * MINUTE, 15 * MINUTE, HOUR, 8 * HOUR, DAY, 7 * DAY, 32 * DAY)
RENEWED_TTLS = (10, 30, MINUTE, HOUR, DAY)
ROTATIONS = (MINUTE, HOUR, DAY)

SEEDS = range(10)
MANY_TRIES = 50
"""No more are counted: from there on every pause is the longest, and the run goes on shortly before the end."""
SHORTLY_BEFORE = 2 * MINUTE
READER_PAUSE_SECONDS = 0.1

ENVIRONMENT = {"VAULT_ROLE_ID": ROLE_ID, "VAULT_SECRET_ID": SECRET_ID}
SETTINGS = VaultConfig.load(environ=ENVIRONMENT)
Environ = Mapping[str, str]
"""Settings that are not those of config.ini, as variables."""
AS_CONFIGURED: Environ = {}
RENEWS: Environ = {"DATABASE_DYNAMIC_ON_EXPIRY": "renew"}
SERVES_STALE: Environ = {"DATABASE_STATIC_MAX_STALE": str(HOUR)}
ROUNDING_ERROR = 1e-6
DOES_NOT_EXPIRE = 0
"""The TTL of such a token, as Vault says it."""


# ── One run ──────────────────────────────────────────────────────────────────────────────────────────────────────────


class Line(requests.Session):
    """The way to Vault, which can be cut: `tries` are the requests that then got no answer, in seconds since `start`.

    They fail at once, or, where Vault is `deaf`, when their timeout is over.
    """

    def __init__(self, vault: FakeVault) -> None:
        super().__init__()
        self.mount("http://", vault)
        self.clock = vault.clock
        self.start = self.clock.monotonic()
        self.cut = self.deaf = False
        self.tries: list[float] = []

    @property
    def now(self) -> float:
        return self.clock.monotonic() - self.start

    def request(self, *what: Any, **options: Any) -> requests.Response:
        if not self.cut:
            return super().request(*what, **options)
        self.tries.append(self.now)
        if self.deaf:
            self.clock.pass_time(options["timeout"])
            raise requests.ReadTimeout
        raise requests.ConnectionError(ConnectionRefusedError(111, "Connection refused"))


class Stage:
    """A real client under simulated time."""

    def __init__(
        self,
        seed: int,
        *,
        token_ttl: int = DOES_NOT_EXPIRE,
        lease: int = 0,
        static_ttl: int = 0,
        environ: Environ = AS_CONFIGURED,
    ) -> None:
        random.seed(seed)
        self.clock = FakeClock()
        vault = FakeVault(self.clock, token_ttl=token_ttl, renewed_ttl=token_ttl, lease=lease, static_ttl=static_ttl)
        self.line = Line(vault)
        self.events: list[Event] = []
        settings = VaultConfig.load(environ={**ENVIRONMENT, **environ}) if environ else SETTINGS
        self.client = VaultClient(settings, clock=self.clock, session=lambda: self.line, listeners=[self.events.append])

    def cut_off(self, *, deaf: bool) -> None:
        self.line.cut, self.line.deaf = True, deaf

    def look_until(
        self,
        end: float,
        look: Callable[[], object],
        pause: Callable[[], float],
        idle: Callable[[], float],
        back_at: float = math.inf,
    ) -> None:
        """Look and pause, as a worker does; looks of the next `idle` seconds would find nothing due and are skipped."""
        line = self.line
        while line.now <= end:
            line.cut = line.cut and line.now < back_at
            with suppress(VaultError):
                look()
            self.clock.pass_time(pause() * max(1, idle() // pause()))
            if len(line.tries) == MANY_TRIES:
                before = SHORTLY_BEFORE * random.uniform(1, 2)
                self.clock.pass_time(max(0.0, end - before - line.now))

    def watch_token(self, end: float, back_at: float = math.inf) -> None:
        """As the token watcher does."""

        def idle() -> float:
            token = self.client._token._token
            return token.next_step.left(self.clock) if token else 0.0

        self.look_until(end, self.client.keep_token_alive, self.client.seconds_to_next_look, idle, back_at)

    def read(self, section: str, end: float, pause: float | None = None) -> None:
        """As the worker of a secret engine does, or somebody who reads with this pause."""
        engine = self.client.engines[section]
        (name,) = engine.settings.names

        def idle() -> float:
            cached = engine._cache.get(name)
            return cached.fresh_until.left(self.clock) if cached else 0.0

        def interval() -> float:
            return pause or seconds_to_next_turn(engine)

        self.look_until(end, lambda: engine.get(name), interval, idle)


@dataclass(frozen=True)
class Outage:
    """When the client asked in vain, while it still held something good: seconds since the grant."""

    tries: Sequence[float]

    @property
    def at_worst(self) -> float:
        """It begins just before the first try. As long as it ends before the last one, nothing is lost."""
        return self.tries[-1] - self.tries[0] if self.tries else 0.0

    @property
    def at_best(self) -> float:
        """It begins just after the grant."""
        return self.tries[-1] if self.tries else 0.0


def token_outage(ttl: int, seed: int, *, deaf: bool) -> Outage:
    """A token is lost when its TTL is over."""
    stage = Stage(seed, token_ttl=ttl)
    stage.client.login()
    stage.cut_off(deaf=deaf)
    stage.watch_token(ttl)
    return Outage([at for at in stage.line.tries if at < ttl])


def lease_outage(
    ttl: int, seed: int, *, deaf: bool, pause: float | None = None, environ: Environ = AS_CONFIGURED
) -> Outage:
    """A lease is lost when it ends and nothing else was granted. Each seed shifts the looks in it a little."""
    stage = Stage(seed, lease=ttl, environ=environ)
    stage.client.get_database_dynamic_secret("db-demo-dynamic")
    between_looks = pause or SETTINGS.database_dynamic.refresh_interval
    stage.clock.pass_time(between_looks * seed / len(SEEDS))
    stage.cut_off(deaf=deaf)
    stage.read("database_dynamic", ttl, pause)
    return Outage([at for at in stage.line.tries if at < ttl])


def kv_outage(seed: int, *, deaf: bool) -> Outage:
    """A cached KV value is lost when it is older than max_stale."""
    stage = Stage(seed)
    stage.client.get_kv_secret("database")
    stage.cut_off(deaf=deaf)
    stage.read("kv_secret", SETTINGS.kv_secret.max_stale)
    return Outage(stage.line.tries)


def static_outage(rotation: int, seed: int, *, deaf: bool, environ: Environ = AS_CONFIGURED) -> Outage:
    """A static password is lost `max_stale` after its rotation is due: what it is from then on only Vault knows."""
    stage = Stage(seed, static_ttl=rotation, environ=environ)
    stage.client.get_database_static_secret("db-demo-static")
    stage.cut_off(deaf=deaf)
    stage.read("database_static", rotation + stage.client.engines["database_static"].settings.max_stale)
    return Outage(stage.line.tries)


# ── The worst of many runs, as text ──────────────────────────────────────────────────────────────────────────────────


def worst(run: Callable[[int], Outage]) -> tuple[float, list[str]]:
    """Of all seeds: the first try; as text the fewest tries, and the shortest outages."""
    outages = [run(seed) for seed in SEEDS]
    fewest = min(len(outage.tries) for outage in outages)
    if not fewest:
        return 0.0, ["0", "none"]
    tries = str(fewest) if fewest < MANY_TRIES else f"over {MANY_TRIES}"
    at_worst = duration(min(outage.at_worst for outage in outages))
    at_best = duration(min(outage.at_best for outage in outages))
    return min(outage.tries[0] for outage in outages), [tries, f"{at_worst} to {at_best}"]


def duration(seconds: float) -> str:
    """The two largest units, rounded down: days from two on, tenths of a second below a minute."""
    if seconds < MINUTE:
        return f"{math.floor(seconds * 10 + ROUNDING_ERROR) / 10:g} s"
    units = ((DAY, "d"), (HOUR, "h"), (MINUTE, "min"), (1, "s"))
    left = math.floor(seconds + ROUNDING_ERROR)
    parts: list[tuple[int, str]] = []
    for length, unit in units if seconds >= 2 * DAY else units[1:]:
        count, left = divmod(left, length)
        if count or parts:
            parts.append((count, unit))
    return " ".join(f"{count} {unit}" for count, unit in parts[:2] if count)


def table(head: str, rows: Iterable[Sequence[str]]) -> str:
    lines = [head, "|" + "---|" * (head.count("|") - 1), *(f"| {' | '.join(row)} |" for row in rows)]
    return "\n".join(lines)


def token_row(ttl: int) -> list[str]:
    first, refused = worst(lambda seed: token_outage(ttl, seed, deaf=False))
    _, deaf = worst(lambda seed: token_outage(ttl, seed, deaf=True))
    return [duration(ttl), duration(first), *refused, *deaf]


def lease_row(ttl: int, environ: Environ = AS_CONFIGURED) -> list[str]:
    outage = partial(lease_outage, ttl, environ=environ)
    _, worker = worst(lambda seed: outage(seed, deaf=False))
    first, reader = worst(lambda seed: outage(seed, deaf=False, pause=READER_PAUSE_SECONDS))
    _, deaf = worst(lambda seed: outage(seed, deaf=True, pause=READER_PAUSE_SECONDS))
    return [duration(ttl), f"{ttl - first:.0f} s left", *worker, *reader, *deaf]


def cache_row(what: str, run: Callable[..., Outage]) -> list[str]:
    first, refused = worst(partial(run, deaf=False))
    _, deaf = worst(partial(run, deaf=True))
    return [what, duration(first), *refused, *deaf]


INTRODUCTION = """\
Each row tells, for a TTL that Vault granted, when the client asks for more, how many tries fit if no answer comes, and
how long an outage is survived with nothing lost. Of the two durations the first is for an outage that begins at the
worst moment, just before the first try, the second for one that begins just after the last answer."""

ONE_KIND = "| Refused: tries | outage survived | Deaf: tries | outage survived |"

TOKEN_HEAD = f"| Token TTL | Renewed after {ONE_KIND}"
TOKEN_NOTE = """\
Nothing lost: the token stays the same, and with it the leases under it. No try waits longer for its answer, and no
pause between tries is longer, than half of what the token has left."""

LEASE_HEAD = (
    "| Lease TTL | Replaced with | Refused, the application: tries | outage survived"
    " | Refused, a busy reader: tries | outage survived | Deaf, a busy reader: tries | outage survived |"
)
LEASE_NOTE = """\
Nothing lost: new credentials were there before the old ones ended. The application looks every `refresh_interval`, a
busy reader ten times a second. *None*: even without an outage the lease may end between two looks. A request to a deaf
server takes the whole `[http] timeout`. A `[database_dynamic] ttl_threshold` of more than twice that leaves time for
another one, where a fifth of the lease is as long."""

RENEWAL_HEAD = LEASE_HEAD.replace("Replaced", "Renewed")
RENEWAL_NOTE = """\
With `[database_dynamic] on_expiry = renew`, while max TTL is far. Nothing lost: the user stays the same. A renewal may
be repeated, and so waits for its answer no longer than half of what the lease has left: a deaf server is survived for
as long as one that refuses."""

CACHE_HEAD = f"| Cached | Asked again after {ONE_KIND}"
CACHE_NOTE = """\
Nothing lost: no read raised an error. A KV value serves for `max_stale` after the last answer. A static password serves
until its rotation is due, however far off that is: what it is from then on only Vault knows. With `[database_static]
max_stale` it serves for so much longer, marked stale, and is right if Vault could not rotate it either."""

ASSUMPTIONS = f"""\
- The settings are those of `config.ini`. Vault grants the full TTL each time: no max TTL is near.
- *Refused*: no connection; a try fails at once. *Deaf*: a request that leaves during the outage never gets an answer,
  and ends with its timeout.
- A try is one request of the client. The HTTP session repeats a connection that is refused twice, within a second.
- The back-off is jittered, and the looks come at other points of the lease in each run: a figure is the worst of
  {len(SEEDS)} runs. After {MANY_TRIES} tries, when the pauses grow no more, a run goes on a few minutes before the end.
- Leases are under a token that outlives them.
- Durations are rounded down."""


def page() -> str:
    """The document, the same at each call."""
    static = [cache_row(f"static, rotation in {duration(each)}", partial(static_outage, each)) for each in ROTATIONS]
    stale = cache_row("static, rotation in 1 h, `max_stale = 3600`", partial(static_outage, HOUR, environ=SERVES_STALE))
    renewals = (lease_row(ttl, RENEWS) for ttl in RENEWED_TTLS)
    return "\n\n".join(
        [
            f"# How long an outage of Vault may last\n\n{INTRODUCTION}",
            f"## Tokens\n\n{table(TOKEN_HEAD, map(token_row, TTLS))}\n\n{TOKEN_NOTE}",
            f"## Leases of dynamic credentials\n\n{table(LEASE_HEAD, map(lease_row, TTLS))}\n\n{LEASE_NOTE}",
            f"## Leases that are renewed\n\n{table(RENEWAL_HEAD, renewals)}\n\n{RENEWAL_NOTE}",
            f"## KV and static\n\n{table(CACHE_HEAD, [cache_row('KV', kv_outage), *static, stale])}\n\n{CACHE_NOTE}",
            f"## Assumptions\n\n{ASSUMPTIONS}",
            "The figures come from the code, under simulated time: `make timing` writes this page.\n",
        ]
    )


def main() -> None:
    CommandLine(
        prog="python -m tests.timing", example="python -m tests.timing", description=str(__doc__).splitlines()[0]
    ).parse_args()
    logging.disable()  # thousands of outages, each told of
    PAGE.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
