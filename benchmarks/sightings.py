"""Who held which secret since when: ours by a listener, `bao agent` by the files that it renders."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from benchmarks.bench import Bench, alongside
from benchmarks.contenders import TEMPLATES, Agent, new_login, running
from config_loader import VaultConfig
from vault_app import VaultApplication
from vaultkit.events import Event, SecretChanged

LOOK_SECONDS = 0.002
"""The pause between two looks at the agent's files."""
OURS, AGENT = "ours", "bao agent"
BOTH = (OURS, AGENT)
AGENT_ROLE_NAME = "bao-agent"
KINDS = {"kv_secret": "kv", "database_dynamic": "dynamic", "database_static": "static"}
"""The engines, by the names that the agent's files have."""

Samples = Mapping[str, list[float]]
"""By contender."""


@dataclass
class Sightings:
    """What each contender held, and since when, by the monotonic clock.

    What it held is known by the part that changes: a version, a lease, or the time of a rotation.
    """

    lease_left: Callable[[str], float]
    """Tells how many seconds a lease has left."""
    since: dict[tuple[str, str], dict[str, float]] = field(
        default_factory=lambda: {(whose, kind): {} for whose in BOTH for kind in TEMPLATES}
    )
    """By contender and kind, in order."""
    left: Samples = field(default_factory=lambda: {whose: [] for whose in BOTH})
    """How long each old lease would have lived on, in seconds, when the new credentials were there."""

    def note(self, whose: str, kind: str, what: str) -> None:
        """This contender holds this now, perhaps as before."""
        held = self.since[whose, kind]
        if what in held:
            return
        before = next(reversed(held), None)
        held[what] = time.monotonic()
        if kind == "dynamic" and before is not None:
            self.left[whose].append(self.lease_left(before))

    def are_complete(self) -> bool:
        """Whether both have held all three."""
        return all(self.since.values())

    def seen_by_both(self, kind: str, what: str) -> bool:
        return all(what in self.since[whose, kind] for whose in BOTH)

    def delays(self, kind: str, moments: Mapping[str, float]) -> Samples:
        """From the moment when something came into being until each contender held it."""
        return {
            whose: [at - moments[what] for what, at in self.since[whose, kind].items() if what in moments]
            for whose in BOTH
        }


@contextmanager
def watched_application(bench: Bench, kv_interval: float, sightings: Sightings) -> Iterator[None]:
    """Ours, in a thread; `kv_interval` in seconds."""

    def listen(event: Event) -> None:
        if isinstance(event, SecretChanged):
            secret = event.secret
            sightings.note(OURS, KINDS[secret.engine], secret.lease_id or secret.last_rotation or f"{secret.version}")

    settings = {**bench.server.application, "KV_SECRET_REFRESH_INTERVAL": f"{kv_interval}"}
    application = VaultApplication(VaultConfig.load(environ=settings), listeners=[listen])
    thread = threading.Thread(target=application.run)
    thread.start()
    try:
        yield
    finally:
        application.stop("all was seen")
        thread.join()


@contextmanager
def watched_agent(bench: Bench, kv_interval: float, sightings: Sightings) -> Iterator[None]:
    """`bao agent`, and a thread that looks at its files."""

    def look(stop: threading.Event) -> None:
        while not stop.wait(LOOK_SECONDS):
            for kind in TEMPLATES:
                words = agent.words(kind)
                if words:
                    sightings.note(AGENT, kind, words[0])

    with running(Agent(bench, new_login(bench, AGENT_ROLE_NAME), kv_interval)) as agent, alongside(look):
        yield
