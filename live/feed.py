"""A listener that tells the page what happens, and twice a second how all stands.

It asks Vault for nothing, and makes nobody wait: what is told of a secret is what the events said and `peek` shows.
Values leave the process masked, unless [console] show_secrets is true; so do the names of database users, which are
values, too.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from config_loader import ENGINE_SECTIONS, VaultConfig
from live.outbox import Message
from live.threads import Threads
from live.token_facts import TokenFacts
from live.words import told
from vault_client import VaultClient
from vaultkit.errors import Refused
from vaultkit.events import (
    Event,
    LeaseRenewed,
    PrefixChanged,
    SecretChanged,
    SecretRead,
    StaleServed,
    TokenLost,
    TurnFailed,
    TurnTaken,
)
from vaultkit.secret import Secret

MASK = "••••••••"
"""Whatever it stands for, it is as long."""
SNAPSHOT_SECONDS = 0.5
SHORTEST_PAUSE_SECONDS = 0.1
"""Between two that are told because something happened."""
REPEAT_SECONDS = 5.0
MOST_SECRETS = 50
"""So many are told of, and how many there are beyond; those of a long prefix are more than a page shows."""

PoolFacts = Callable[[], Mapping[str, Any]]


@dataclass
class Held:
    """What is known of one secret."""

    secret: Secret | None = None
    granted: float | None = None
    """The longest that it was seen to be good for, seconds."""
    error: str | None = None
    """Why there is none, or none that is fresh."""

    def take(self, secret: Secret) -> None:
        self.secret, self.error = secret, None
        if secret.ttl is not None and math.isfinite(secret.ttl):
            self.granted = max(self.granted or 0.0, round(secret.ttl, 1))


class Feed:
    """Call it with the events of `vaultkit.events`, from any thread; `send` takes the messages, and must not wait."""

    def __init__(self, config: VaultConfig, send: Callable[[Message], object]) -> None:
        self._show = config.console.show_secrets
        self._send = send
        self._secrets = {
            (section, name): Held()
            for section in ENGINE_SECTIONS
            if getattr(config, section).enabled
            for name in getattr(config, section).names
        }
        self._client: VaultClient | None = None
        self._token = TokenFacts()
        self._threads = Threads()
        self._pool: PoolFacts = dict
        self._told = 0.0
        self._said: dict[tuple[str, str], float] = {}
        """What was told of late: the event's kind and its words, and when."""
        self.hurry: Callable[[], object] = lambda: None
        """Called when something has happened, for `tell` to be called soon."""

    def follow(self, client: VaultClient, pool: PoolFacts = dict) -> None:
        """Whose events these are, and what tells of its database pool: nothing, if it has none."""
        self._client = client
        self._token.client = self._threads.client = client
        self._pool = pool

    def __call__(self, event: Event) -> None:
        self._token.hear(event)
        self._threads.hear(event)
        self._hear_of_secrets(event)
        words = told(event)
        if words is not None and not self._has_just_said(type(event).__name__, words.text):
            self._send(
                {
                    "type": "happened",
                    "at": time.time(),
                    "kind": type(event).__name__,
                    "level": "warning" if event.level >= logging.WARNING else "info",
                    "text": words.text,
                    "rule": words.rule,
                    "engine": engine_of(event),
                    "first": isinstance(event, SecretChanged) and event.previous is None,
                }
            )
            if time.monotonic() > self._told + SHORTEST_PAUSE_SECONDS:
                self.hurry()

    def _has_just_said(self, kind: str, text: str) -> bool:
        """What is the same again and again, as in an outage, is told once in REPEAT_SECONDS."""
        now = time.monotonic()
        self._said = {said: at for said, at in self._said.items() if now < at + REPEAT_SECONDS}
        return self._said.setdefault((kind, text), now) != now

    def tell(self) -> None:
        """Tell how all stands."""
        self._told = time.monotonic()
        shown = [(place, held) for place, held in list(self._secrets.items()) if held.secret or held.error]
        self._send(
            {
                "type": "snapshot",
                "show_secrets": self._show,
                "token": self._token.facts(),
                "secrets": [self._facts(engine, name, held) for (engine, name), held in shown[:MOST_SECRETS]],
                "secrets_beyond": max(0, len(shown) - MOST_SECRETS),
                "threads": self._threads.facts(),
                "pool": self._pool() or None,
            }
        )

    # ── Secrets ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def _hear_of_secrets(self, event: Event) -> None:
        if isinstance(event, (SecretChanged, SecretRead, StaleServed, LeaseRenewed)):
            self._held(event.secret).take(event.secret)
        elif isinstance(event, TurnTaken):
            for secret in event.kept:
                self._held(secret).take(secret)
        elif isinstance(event, PrefixChanged):
            for name in event.went:
                self._secrets.pop(("kv_secret", name), None)
        elif isinstance(event, TurnFailed):
            self._failed(event.worker.replace("-", "_"), event.error)
        elif isinstance(event, TokenLost):
            self._ended_with_token(event.reason)

    def _held(self, secret: Secret) -> Held:
        """Those below a prefix come as they are read."""
        return self._secrets.setdefault((secret.engine, secret.name), Held())

    def _failed(self, engine: str, error: Exception) -> None:
        """A turn tells which engine had no answer, not which secret: it is those that are not fresh.

        Where Vault has spoken, the value is gone (K3); where it did not answer, what was there may come back (K4).
        """
        for (section, name), held in list(self._secrets.items()):
            if section == engine and self._peek(section, name) is None:
                held.error = str(error)
                if isinstance(error, Refused):
                    held.secret = None

    def _ended_with_token(self, reason: str) -> None:
        for held in list(self._secrets.values()):
            if held.secret is not None and held.secret.lease_id is not None:
                held.error = f"its lease ended with the token: {reason}"

    def _peek(self, engine: str, name: str) -> Secret | None:
        return self._client.peek(name, engine) if self._client is not None else None

    def _facts(self, engine: str, name: str, held: Held) -> dict[str, Any]:
        fresh = self._peek(engine, name)
        if fresh is not None:
            held.take(fresh)
        secret = held.secret
        facts: dict[str, Any] = {"engine": engine, "name": name, "granted": held.granted, "error": held.error}
        if secret is None:
            return {**facts, "ttl": None, "version": None, "revision": 0, "stale": False, "values": {}}
        return {
            **facts,
            "ttl": finite(secret.ttl),
            "version": secret.version,
            "revision": secret.revision,
            "stale": secret.stale,
            "values": {key: str(value) if self._show else MASK for key, value in secret.data.items()},
        }


def engine_of(event: Event) -> str | None:
    secret = getattr(event, "secret", None)
    return secret.engine if isinstance(secret, Secret) else None


def finite(seconds: float | None) -> float | None:
    """JSON knows no infinity: what has no end has no number."""
    return None if seconds is None or math.isinf(seconds) else round(seconds, 2)
