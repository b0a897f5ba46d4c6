"""What the page shows: gathered from the application's feed, the server's audit log and the faults; told to streams.

Any thread may tell it something; `state` is the whole of it, as JSON has it.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from live.counting import Counting

MOST_RECENT = 50
"""So many things that happened, and so many requests, are told to who comes later."""
PAST_SECONDS = 3.0
"""An application that has said nothing for so long is one of the past."""


class Message(NamedTuple):
    """One message of the stream: its event, and its data."""

    event: str
    data: Mapping[str, Any]


VAULT_WORDS = {
    "active": "Vault answers",
    "standby": "Vault answers, as a standby",
    "sealed": "Vault is sealed",
    "away": "Vault is away: there is no connection",
    "hangs": "Vault hangs: what is sent gets no answer",
    "unusable": "What answers gives no usable answer",
}
ANSWERING = ("active", "standby")

Hear = Callable[[Message | None], object]
"""What is called with each message, and with None when the state has changed. It must not wait."""


@dataclass
class Process:
    """The application as a process."""

    running: bool = False
    pid: int | None = None
    since: float = 0.0
    starts: int = 0
    heard: float = 0.0
    """When it last said how it stands, by the wall clock; 0: never."""
    refused: bool = False
    """Whether it told of a login that was refused for good, which is its end (T7)."""


@dataclass
class Vault:
    """The server as it is seen from here."""

    url: str
    state: str = "away"
    """One of VAULT_WORDS."""
    version: str = ""


@dataclass
class Board:
    """All that is known. `counting` reckons the requests, where there is an audit log to count them by."""

    url: str
    counting: Counting | None = None
    faults: Callable[[], list[dict[str, Any]]] = lambda: []
    """Tells of the faults, and which of them is under way."""
    fault: Callable[[], str | None] = lambda: None
    """The name of the fault that is under way."""
    _process: Process = field(default_factory=Process)
    _snapshot: Mapping[str, Any] = field(default_factory=dict)
    _ids: dict[str, int] = field(default_factory=dict)
    _hear: Hear = lambda message: None
    _lock: threading.RLock = field(default_factory=threading.RLock)

    def __post_init__(self) -> None:
        self._vault = Vault(self.url)
        self._recent: dict[str, deque[Message]] = {
            event: deque(maxlen=MOST_RECENT) for event in ("happened", "request")
        }

    def told_to(self, hear: Hear) -> None:
        """Tell everything to this one, from now on."""
        self._hear = hear

    def recent(self) -> list[Message]:
        """What happened last, and the last requests."""
        with self._lock:
            return [message for messages in self._recent.values() for message in messages]

    # ── What is heard ────────────────────────────────────────────────────────────────────────────────────────────────

    def heard(self, message: Mapping[str, Any]) -> None:
        """A message of the application's feed."""
        if message.get("type") == "snapshot":
            with self._lock:
                self._snapshot = message
                self._process.heard = time.time()
                self._count()
        elif message.get("type") == "happened":
            with self._lock:
                if self.counting is not None:
                    self.counting.hear(message)
                self._process.refused |= (message["kind"], message["rule"]) == ("TurnFailed", "T7")
            shown = {key: message[key] for key in ("at", "kind", "level", "text", "rule")}
            self._tell("happened", {**shown, "fault": self.fault()})

    def happened(self, kind: str, text: str, *, level: str = "info", rule: str | None = None) -> None:
        """Something that the application did not see itself, such as its own end."""
        told = {"at": time.time(), "kind": kind, "level": level, "text": text, "rule": rule, "fault": self.fault()}
        self._tell("happened", told)

    def requested(self, request: Mapping[str, Any]) -> None:
        """A request that the server has answered."""
        with self._lock:
            if self.counting is not None and request["ours"]:
                self.counting.requested(request["kind"])
        self._tell("request", request)

    def started(self, pid: int) -> None:
        with self._lock:
            starts = self._process.starts + 1
            self._process = Process(running=True, pid=pid, since=time.time(), starts=starts, heard=self._process.heard)
            if self.counting is not None:
                self.counting.start()
        self.happened("ApplicationStarted", "The application is started" + (" again" if starts > 1 else ""))

    def ended(self, status: int, *, meant: bool) -> None:
        """The application's process is gone; `meant` where it was told to."""
        with self._lock:
            self._process.running = False
            rule = "T7" if self._process.refused else None
        how = f"was ended by signal {-status}" if status < 0 else f"has ended with status {status}"
        self.happened("ApplicationEnded", f"The application {how}", level="info" if meant else "warning", rule=rule)

    def vault_is(self, state: str, version: str = "") -> None:
        with self._lock:
            changed = state != self._vault.state
            self._vault.state, self._vault.version = state, version or self._vault.version
        if changed:
            self.happened("VaultState", VAULT_WORDS[state], level="info" if state in ANSWERING else "warning")

    # ── What is told ─────────────────────────────────────────────────────────────────────────────────────────────────

    def state(self) -> dict[str, Any]:
        """All of it; of a past application as it was when it last said something."""
        now = time.time()
        with self._lock:
            process, vault = self._process, self._vault
            past = self._is_past(now)
            age = 0.0 if past else now - process.heard
            return {
                "at": now,
                "show_secrets": self._snapshot.get("show_secrets", False),
                "application": {
                    "running": process.running,
                    "pid": process.pid,
                    "since": process.since,
                    "starts": process.starts,
                    "past": past,
                    "heard": process.heard,
                },
                "vault": {"url": vault.url, "state": vault.state, "version": vault.version},
                "token": aged(self._snapshot.get("token", NO_TOKEN), age),
                "secrets": [aged(secret, age) for secret in self._snapshot.get("secrets", [])],
                "secrets_beyond": self._snapshot.get("secrets_beyond", 0),
                "threads": self._snapshot.get("threads", []),
                "pool": self._snapshot.get("pool"),
                "requests": None if self.counting is None else self.counting.facts(process.since),
                "faults": self.faults(),
            }

    def _is_past(self, now: float) -> bool:
        """Whether what is known is that of a process that has ended, or that says nothing any more."""
        process = self._process
        return not process.running or process.heard < process.since or now - process.heard > PAST_SECONDS

    def _count(self) -> None:
        """Let the time that has passed count, in which Vault could be asked."""
        if self.counting is not None:
            self.counting.advance(self._snapshot, answering=self._vault.state in ANSWERING)

    def _tell(self, event: str, data: Mapping[str, Any]) -> None:
        with self._lock:
            self._ids[event] = self._ids.get(event, 0) + 1
            message = Message(event, {"id": self._ids[event], **data})
            self._recent[event].append(message)
            self._hear(message)
        self._hear(None)


NO_TOKEN: Mapping[str, Any] = {
    "state": "none", "generation": 0, "ttl": 0.0, "granted": None, "renewed": 0, "renewable": True, "last": False,
}  # fmt: skip


def aged(facts: Mapping[str, Any], seconds: float) -> dict[str, Any]:
    """The facts, with so much less of their TTL left."""
    ttl = facts["ttl"]
    return {**facts, "ttl": None if ttl is None else round(max(0.0, ttl - seconds), 2)}
