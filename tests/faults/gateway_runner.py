"""Runs the gateway's faults: each has a process, a proxy and an identity provider of its own, and callers that ask on.

Of the callers one reads a secret that is cached; others ask for what Vault must be asked for, an old version, or write;
and one watches the health. What each of them is told, and how soon, is held against the catalogue.
"""

from __future__ import annotations

import http.client
import logging
import re
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from devserver.openbao import HOST
from devserver.proxy import Proxy
from tests.backends import Backend
from tests.faults.gateway_catalogue import Fault, World
from tests.faults.nodes import single_node
from tests.faults.trial import PATIENT
from tests.faults.waiting import Lateness, wait_for
from tests.gateways import QUICK, Answer, Vault, gateway
from tests.identity_provider import Provider

SLACK_SECONDS = 1.5
"""What a machine with two cores, on which all faults happen at the same time, may add to an answer at once; beside
what it was seen to add."""
LONGEST_TELLING_SECONDS = 15.0
"""How much longer a fault lasts, if not everybody has been told of it."""
LONGEST_ASKING_SECONDS = 90.0
RETRY_LATER = (503, 504)
HEALTH = ("/livez", "/metrics")


@dataclass(frozen=True)
class Pace:
    """How fast everything goes: with the settings of the files, or ten times as fast."""

    name: str
    outage: float
    timeout: float
    """[http] timeout, seconds."""
    patience: float
    bound: float
    """How soon all must be well again, seconds: a refresh interval and the longest back-off."""
    probe: float
    """How long a caller pauses, seconds."""
    at_once: int
    settings: Mapping[str, str]
    end: float = 5.0
    """How soon SIGTERM must have ended it, seconds."""


DEFAULTS = Pace(
    "the settings of config.ini and gateway.ini, but for keys fetched every 10 s", 60.0, 30.0, 1.0, 35.0, 0.2, 30,
    {
        "HTTP_TIMEOUT": "30", "TOKEN_CHECK_INTERVAL": "10", "TOKEN_BACKOFF_MAX": "30",
        "GATEWAY_CACHE_REFRESH_INTERVAL": "5", "GATEWAY_CACHE_PATIENCE": "1", "GATEWAY_CACHE_BACKOFF_MAX": "30",
        "GATEWAY_IDENTITY_KEYS_REFRESH": "10", "GATEWAY_IDENTITY_KEYS_COOLDOWN": "10",
    },
)  # fmt: skip
SCALED = Pace("scaled down", 3.0, 2.0, 0.3, 2.5, 0.1, 10, {**QUICK, "HTTP_TIMEOUT": "2"}, 15.0)


@dataclass(frozen=True)
class Result:
    """What came of one fault."""

    recovery: float
    """Seconds from the end of the fault until all callers were served what is new."""
    longest_hit: float
    """The longest that a caller waited for a cached secret during the fault, seconds."""
    longest_health: float
    complaints: Sequence[str]
    """What it did and should not have done; or what it left undone."""


class Caller:
    """Asks one thing all the time, and keeps what it is told."""

    def __init__(self, ask: Callable[[], Answer], pause: float) -> None:
        self.told: list[tuple[float, Answer]] = []
        """With the moment at which each was asked for, by the monotonic clock."""
        self.failures: list[str] = []
        self._ask, self._pause = ask, pause
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._stop.wait(self._pause):
            asked = time.monotonic()
            try:
                self.told.append((asked, self._ask()))
            except (OSError, http.client.HTTPException) as error:
                self.failures.append(f"{type(error).__name__}: {error}")

    def stop(self) -> None:
        self._stop.set()

    def join(self) -> None:
        self._thread.join(LONGEST_ASKING_SECONDS)

    def during(self, since: float, until: float) -> list[Answer]:
        """What it asked and was told between these moments."""
        return [answer for asked, answer in self.told if since <= asked and asked + answer.seconds <= until]

    def heard(self, since: float, until: float) -> list[Answer]:
        """What it was told between these moments, though it may have asked before."""
        return [answer for asked, answer in self.told if since <= asked + answer.seconds <= until]

    @property
    def last(self) -> Answer | None:
        return self.told[-1][1] if self.told else None


def outcome(answer: Answer) -> str:
    """As the table has it: what was written was told no other thing than what was read."""
    if answer.status == 200 and answer.headers.get("cache-status", "").endswith("detail=stale"):
        return "200 stale"
    return "200" if answer.status == 201 else str(answer)


class Trial:
    """One gateway under one fault."""

    def __init__(self, world: World, fault: Fault, pace: Pace, lateness: Lateness) -> None:
        self.world, self.fault, self.pace = world, fault, pace
        self._lateness = lateness
        ask, provider = world.gateway.ask, world.provider
        self.token = provider.token()
        body = {"data": {"value": f"written-by-{world.vault.name}"}}
        self.cached = Caller(lambda: ask("GET", "/vault/secrets/app", self.token), pace.probe)
        # With a JWT of its own each, so that each is verified.
        asks = [lambda: ask("GET", "/vault/secrets/app?version=1", provider.token())] * fault.callers
        asks.append(lambda: ask("PUT", "/vault/secrets/written", provider.token(), body))
        self.asking = [Caller(each, 2 * pace.probe) for each in asks]
        self.health = [Caller(lambda path=path: world.gateway.health(path), 2 * pace.probe) for path in HEALTH]  # type: ignore[misc]
        self.readiness = Caller(lambda: world.gateway.health("/readyz"), 2 * pace.probe)

    @property
    def callers(self) -> list[Caller]:
        return [self.cached, *self.asking, *self.health, self.readiness]

    def run(self) -> Result:
        try:
            return self._run()
        finally:
            self._stop_callers()

    def _run(self) -> Result:
        self._wait_until(lambda: self._is_well(""), "it was not well before the fault")
        self.fault.begin(self.world)
        began = time.monotonic()
        time.sleep(self.pace.outage)
        while self._has_still_to_tell(began) and time.monotonic() < began + self.pace.outage + LONGEST_TELLING_SECONDS:
            time.sleep(self.pace.probe)
        ended = time.monotonic()
        self.fault.end(self.world)
        self.token = self.world.provider.token()
        value = self.world.vault.write()
        self._wait_until(lambda: self._is_well(value), "it did not become well again", since=ended)
        recovery = time.monotonic() - ended
        hits = self.cached.during(began, ended)
        healths = [answer for each in self.health for answer in each.during(began, ended)]
        slack = SLACK_SECONDS + self._lateness.longest(began, ended)
        complaints = [*self._complaints(began, ended), *self._slowness(hits, healths, slack), *self._end()]
        return Result(recovery, longest(hits), longest(healths), complaints)

    def _has_still_to_tell(self, began: float) -> bool:
        """Whether anything that somebody must be told of this fault was told to nobody."""
        now = time.monotonic()
        told = [
            (self.fault.cached, self.cached.during(began, now)),
            (self.fault.asks, [answer for each in self.asking for answer in each.heard(began, now)]),
            (self.fault.health, self.readiness.during(began, now)),
        ]
        return any(not {*must} <= {*map(outcome, answers)} for must, answers in told)

    def _is_well(self, value: str) -> bool:
        """Whether everybody is served, and the cached secret is this one."""
        hit = self.cached.last
        served = hit is not None and outcome(hit) == "200" and value in str(hit.json["data"])
        return served and all(each.last and each.last.status in (200, 201) for each in [*self.asking, self.readiness])

    def _wait_until(self, condition: Callable[[], bool], what: str, since: float | None = None) -> None:
        deadline = (since or time.monotonic()) + self.pace.bound + 20
        while not condition():
            if time.monotonic() > deadline:
                last = [each.last and outcome(each.last) for each in self.callers]
                raise TimeoutError(f"{what}: {last}; {self.world.gateway.err[-1500:]}")
            time.sleep(self.pace.probe)

    # ── What is held against it ──────────────────────────────────────────────────────────────────────────────────────

    def _complaints(self, began: float, ended: float) -> Iterator[str]:
        fault = self.fault
        hits = Counter(map(outcome, self.cached.during(began, ended)))
        asked = [answer for each in self.asking for answer in each.during(began, ended)]
        asks = Counter(map(outcome, asked))
        # Who asked just before the fault may be all who are told of it in its time, where no more can wait.
        heard = Counter(outcome(answer) for each in self.asking for answer in each.heard(began, ended))
        ready = Counter(str(each.status) for each in self.readiness.during(began, ended))
        yield from judged("a cached read", hits, must=fault.cached, may=("200",))
        yield from judged("what asks Vault", asks, must=fault.asks, may=fault.may, heard=heard)
        yield from judged("/readyz", ready, must=fault.health, may=("200",))
        for each in asked:
            told = int(each.headers.get("retry-after", "0"))
            if each.status in RETRY_LATER and told < 1:
                yield f"{each}: no Retry-After"
            if outcome(each) in fault.asks and told < fault.retry_after:
                yield f"{each}: Retry-After is {told}"
        yield from (failure for each in self.callers for failure in each.failures[:3])

    def _slowness(self, hits: list[Answer], healths: list[Answer], slack: float) -> Iterator[str]:
        if longest(hits) > self.pace.patience + slack:
            yield f"a cached read took {longest(hits):.1f} s"
        if longest(healths) > slack:
            yield f"/livez or /metrics took {longest(healths):.1f} s"
        busy = [answer for each in self.asking for _, answer in each.told if answer.kind == "gateway-busy"]
        if longest(busy) > slack:
            yield f"to be told that it is busy took {longest(busy):.1f} s"

    def _end(self) -> Iterator[str]:
        self._stop_callers()
        program, vault = self.world.gateway, self.world.vault
        status, took = program.stop(signal.SIGTERM)
        if status != 0 or took > self.pace.end:
            yield f"ended with status {status} after {took:.1f} s"
        output = program.out + program.err
        secret = [f"of-{vault.name}", f"written-by-{vault.name}", self.token, *vault.secret_ids]
        yield from (f"showed a secret of {len(each)} characters" for each in secret if each in output)
        yield from (f"said {word}" for word in ("Traceback", "unexpected") if word in output)

    def _stop_callers(self) -> None:
        for caller in self.callers:
            caller.stop()
        for caller in self.callers:
            caller.join()


def longest(answers: Sequence[Answer]) -> float:
    return max((answer.seconds for answer in answers), default=0.0)


def judged(
    who: str, told: Counter[str], must: Sequence[str], may: Sequence[str], heard: Counter[str] | None = None
) -> Iterator[str]:
    """What of it was not to be told, and what was not told; it is enough to have `heard` that."""
    yield from (f"{who} was told {each}" for each in told if each not in (*must, *may, "200 stale"))
    yield from (f"{who} was never told {each}, but {dict(told)}" for each in must if not (heard or told)[each])


class Runner:
    """What all trials share: the server."""

    def __init__(self, backend: Backend, folder: Path, pace: Pace) -> None:
        self._backend, self._folder, self._pace = backend, folder, pace
        self._lateness = Lateness()

    def run(self, faults: Sequence[Fault], tell: Callable[[str], object]) -> dict[str, Result]:
        """What came of each fault, by its name; `tell` hears once a second how far it is."""
        results: dict[str, Result] = {}
        waiting = iter(sorted(faults, key=lambda fault: not fault.own_server))  # which takes longest
        turn = threading.Lock()

        def try_out_all() -> None:
            while True:
                with turn:
                    fault = next(waiting, None)
                if fault is None:
                    return
                results[fault.name] = self._try_out(fault)

        threads = [threading.Thread(target=try_out_all) for _ in range(min(self._pace.at_once, len(faults)))]
        of = f"of {len(faults)} faults of the gateway tried"
        with self._lateness.noted():
            for thread in threads:
                thread.start()
            wait_for(threads, lambda passed: tell(f"{passed:.0f} s, {len(results)} {of}"))
        return results

    def _try_out(self, fault: Fault) -> Result:
        try:
            with ExitStack() as stack:
                return Trial(self._world(fault, stack), fault, self._pace, self._lateness).run()
        except Exception as error:  # a trial that breaks is one row that fails
            logging.getLogger(__name__).exception("%s", fault.name)
            return Result(0.0, 0.0, 0.0, [f"{type(error).__name__}: {error}"])

    def _world(self, fault: Fault, stack: ExitStack) -> World:
        name = "gateway-fault-" + re.sub(r"\W+", "-", fault.name).lower()
        folder = self._folder / name
        folder.mkdir()
        node = stack.enter_context(single_node(folder)) if fault.own_server else None
        vault = Vault(name, node.root if node else self._backend.root, folder / "secrets")
        vault.prepare()
        port = node.port if node else int(self._backend.url.rpartition(":")[2])
        proxy = stack.enter_context(Proxy((HOST, port)).running())
        provider = stack.enter_context(Provider().running())
        timeout = {} if fault.hangs else {"HTTP_TIMEOUT": PATIENT}
        settings = {**self._pace.settings, **timeout, **fault.settings, "VAULT_URL": proxy.url}
        return World(vault, proxy, provider, stack.enter_context(gateway(vault, provider, **settings)), node)
