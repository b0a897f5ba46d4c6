"""Faults that happen to the process: its clock is set, it is suspended, it is told to end at the worst moment."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime, timezone

from devserver.openbao import HOST, free_port
from devserver.proxy import Proxy, say_nothing
from tests.backends import until
from tests.e2e.conftest import Program
from tests.faults.tenant import Tenant
from tests.faults.trial import EXIT_SECONDS, QUICK

WATCHED_SECONDS = 8.0
LONGEST_GAP_SECONDS = 5.0
"""Between two requests for the version of a KV secret that is asked for each half second; on a busy machine."""
SUSPENDED_SECONDS = 5.0
BEFORE_SWITCH_SECONDS = 20.0
AN_HOUR = 3600.0
ZONE = "Europe/Berlin"
SUMMER_BEGINS = datetime(2027, 3, 28, 1, tzinfo=timezone.utc).timestamp()
SUMMER_ENDS = datetime(2026, 10, 25, 1, tzinfo=timezone.utc).timestamp()


@dataclass
class Scene:
    """A process of the application behind a proxy, and what was noticed about it."""

    tenant: Tenant
    proxy: Proxy
    stack: ExitStack
    complaints: list[str] = field(default_factory=list)
    output: str = ""
    requests: int = 0

    def start(self, *command: str, **environ: str) -> Program:
        environ = {
            **QUICK.settings,
            "HTTP_TIMEOUT": "30",
            "VAULT_URL": self.proxy.url,
            **self.tenant.application,
            **environ,
        }
        program = Program([sys.executable, *(command or ["vault_app.py"])], environ)
        self.stack.callback(program.kill)
        return program

    def end(self, program: Program) -> float:
        """Send SIGTERM; return how long the end took."""
        self.requests = self.requests or len(self.proxy.requests)
        status, took = program.stop(signal.SIGTERM)
        self.output += program.out + program.err
        if status != 0:
            self.complaints.append(f"ended with status {status}")
        if took > EXIT_SECONDS + 2:
            self.complaints.append(f"took {took:.1f} s to end")
        return took

    def count(self, since: float) -> None:
        self.requests = self.proxy.count(since, time.monotonic())

    def wait_for_request(self, path: str) -> None:
        until(lambda: any(path in asked for _, asked in self.proxy.requests), f"the request for {path}")


@dataclass(frozen=True)
class ProcessFault:
    """One row of the table. `act` makes it happen and returns how long it took until all was well, or ended."""

    name: str
    how: str
    says: str
    act: Callable[[Scene], float]
    token: str = "5m"


# ── The clock ────────────────────────────────────────────────────────────────────────────────────────────────────────


def jump(seconds: float) -> Callable[[Scene], float]:
    def act(scene: Scene) -> float:
        program = scene.start("-m", "tests.faults.jumping_clock", "0", str(seconds))
        program.wait_for("KV secret unchanged", times=3)
        program.send(signal.SIGUSR1)
        return watch(scene, program, time.monotonic())

    return act


def cross(switch: float) -> Callable[[Scene], float]:
    def act(scene: Scene) -> float:
        at = time.monotonic() + BEFORE_SWITCH_SECONDS
        offset = switch - BEFORE_SWITCH_SECONDS - time.time()
        program = scene.start("-m", "tests.faults.jumping_clock", str(offset), "0", TZ=ZONE)
        program.wait_for("KV secret unchanged", times=3)
        if time.monotonic() > at:
            raise TimeoutError("the program was not ready before the switch")
        time.sleep(at - time.monotonic())
        return watch(scene, program, at)

    return act


def watch(scene: Scene, program: Program, since: float) -> float:
    """Whether the version goes on being asked for, as often as before; and a new one is seen."""
    scene.tenant.write_secret()
    time.sleep(max(0.0, since + WATCHED_SECONDS - time.monotonic()))
    asked = [at for at, path in scene.proxy.requests if "/metadata/" in path and at >= since]
    gaps = [later - earlier for earlier, later in zip([since, *asked], [*asked, time.monotonic()], strict=True)]
    if max(gaps) > LONGEST_GAP_SECONDS:
        scene.complaints.append(f"did not ask for {max(gaps):.1f} s")
    scene.count(since)
    program.wait_for("KV secret changed")
    scene.end(program)
    return gaps[0]


# ── Suspended ────────────────────────────────────────────────────────────────────────────────────────────────────────


def suspend(scene: Scene) -> float:
    program = scene.start()
    program.wait_for("KV secret unchanged")
    program.send(signal.SIGSTOP)
    time.sleep(SUSPENDED_SECONDS)
    scene.tenant.write_secret()
    program.send(signal.SIGCONT)
    began = time.monotonic()
    program.wait_for("KV secret changed")
    program.wait_for("Database Dynamic credentials replaced")
    took = time.monotonic() - began
    scene.count(began)
    scene.end(program)
    return took


# ── Told to end ──────────────────────────────────────────────────────────────────────────────────────────────────────


def end_in(path: str) -> Callable[[Scene], float]:
    """SIGTERM while a request for this path waits for an answer that never comes."""

    def act(scene: Scene) -> float:
        scene.proxy.misbehave(say_nothing, only=path)
        program = scene.start()
        scene.wait_for_request(path)
        return scene.end(program)

    return act


def end_in_backoff(scene: Scene) -> float:
    program = scene.start(VAULT_URL=f"http://{HOST}:{free_port(0)}")
    program.wait_for("⏳ Login failed", times=2)
    return scene.end(program)


STEADY = "Asks on at the same pace."
ENDED = "Ends with status 0; names the thread that is stuck."
SET = "The wall clock (a stand-in) is set"
CROSSED = f"TZ={ZONE}, a stand-in for the clock"
UNANSWERED = "Never answered, timeout 30 s"
PROCESS_FAULTS: Sequence[ProcessFault] = [
    ProcessFault("clock an hour forward", SET, f"{STEADY} Logs in, for the token may have ended.", jump(AN_HOUR)),
    ProcessFault("clock an hour back", SET, STEADY, jump(-AN_HOUR)),
    ProcessFault("summer time begins", CROSSED, STEADY, cross(SUMMER_BEGINS)),
    ProcessFault("summer time ends", CROSSED, STEADY, cross(SUMMER_ENDS)),
    ProcessFault(
        "suspended past the token's life", "SIGSTOP, and SIGCONT after 5 s", "Logs in anew and reads everything.",
        suspend, token="3s",
    ),
    ProcessFault("SIGTERM in a login", UNANSWERED, ENDED, end_in("auth/approle/login")),
    ProcessFault("SIGTERM in a renewal", UNANSWERED, ENDED, end_in("renew-self"), token="3s"),
    ProcessFault("SIGTERM in a fetch", UNANSWERED, ENDED, end_in("/creds/")),
    ProcessFault("SIGTERM in a back-off", "Nobody listens", "Ends with status 0.", end_in_backoff),
]  # fmt: skip
