"""What the threads of the application do.

A worker does not tell when its next turn is, but it asks, at the end of a turn, the same function that is asked here as
the turn is announced. What other threads are for is said by their names.
"""

from __future__ import annotations

import threading
import time
from typing import Any

from vault_app import seconds_to_next_turn
from vault_client import VaultClient
from vaultkit.auth.grant import RENEW_AT_SHARE_OF_TTL
from vaultkit.events import Event, LoggedIn, RenewalFailed, TokenRenewed, TurnFailed, TurnTaken

WATCHER = "token-watcher"
WORK = (
    ("MainThread", "waits for the end"),
    (WATCHER, "logs in"),
    ("screen", "writes to the terminal"),
    ("live-outbox", "sends to this page"),
    ("live-feed", "gathers for this page"),
    ("query", "queries the database"),
    ("login-check", "logs in to the database"),
    ("pool-keeper", "follows the credentials"),
    ("pool-", "opens connections"),
    ("revoke-token", "revokes the token"),
)
"""What a thread is for, by the beginning of its name; the first that fits."""
MOMENT_SECONDS = 0.1
"""So soon after its time a turn counts as not yet begun."""


class Threads:
    """Hears when the workers' turns end, and reckons when the next ones begin."""

    def __init__(self) -> None:
        self.client: VaultClient | None = None
        self._next: dict[str, float] = {}
        """By the worker's name, by the monotonic clock; of the token watcher, when its next step is due."""

    def hear(self, event: Event) -> None:
        now = time.monotonic()
        if isinstance(event, TurnTaken):
            self._turn_ended(event.engine.replace("_", "-"), event.engine)
        elif isinstance(event, TurnFailed):
            self._turn_ended(event.worker, event.worker.replace("-", "_"))
        elif isinstance(event, (LoggedIn, TokenRenewed)):
            self._next[WATCHER] = now + event.ttl * RENEW_AT_SHARE_OF_TTL
        elif isinstance(event, RenewalFailed):
            self._next[WATCHER] = now + event.retry_in

    def _turn_ended(self, worker: str, engine: str) -> None:
        if self.client is not None and engine in self.client.engines:
            self._next[worker] = time.monotonic() + seconds_to_next_turn(self.client.engines[engine])

    def facts(self) -> list[dict[str, Any]]:
        return [self._facts_of(thread.name) for thread in threading.enumerate()]

    def _facts_of(self, name: str) -> dict[str, Any]:
        due = self._next.get(name)
        if due is None:
            return {"name": name, "doing": work_of(name), "next": None}
        left = due - time.monotonic()
        if name == WATCHER:
            return {"name": name, "doing": self._watching(left), "next": round(max(0.0, left), 1)}
        if left > -MOMENT_SECONDS:
            return {"name": name, "doing": f"waits {max(0.0, left):.1f} s", "next": round(max(0.0, left), 1)}
        return {"name": name, "doing": f"in its turn for {-left:.1f} s", "next": None}

    def _watching(self, left: float) -> str:
        look = self.client.seconds_to_next_look() if self.client is not None else 0.0
        step = f"due in {left:.1f} s" if left > 0 else "under way"
        return f"looks every {look:.1f} s; the token's next step is {step}"


def work_of(name: str) -> str:
    return next((work for beginning, work in WORK if name.startswith(beginning)), "runs")
