"""The console: puts into words what the client and the workers announce; the screen writes them.

What is new stays on the screen; that nothing is new is one line, and on a terminal the next such line replaces it.
Values of secrets are shown only if [console] show_secrets says so; else a mask stands there that tells no length (P1).
"""

from __future__ import annotations

import io
import json
import os
import sys
import threading
import time
from dataclasses import dataclass, field
from functools import singledispatchmethod
from typing import TextIO

from colorama import Fore, Style

from config_loader import VaultConfig
from listeners.screen import Screen, can_overwrite, wants_colour
from listeners.streams import FAILED, cannot_write, complain
from listeners.words import credentials, engine_named, facts, seconds, state
from vaultkit.engines import ENGINES
from vaultkit.events import (
    DatabaseLoginChecked,
    Event,
    HealthChecked,
    HealthCheckFailed,
    LeaseRenewed,
    LeaseUnusable,
    LoggedIn,
    LoginFailed,
    NoLeaseRenewal,
    NoScan,
    NoVersionQuery,
    PrefixChanged,
    PrefixStale,
    RenewalFailed,
    SecretChanged,
    SecretRead,
    StaleServed,
    Stopping,
    TokenLeft,
    TokenLost,
    TokenRenewed,
    TokenRevoked,
    TurnFailed,
    TurnTaken,
    WorkerStuck,
)
from vaultkit.secret import Secret
from vaultkit.settings import is_prefix
from vaultkit.transport.answers import printable

MASK = "********"
BANNER = "🚀 Starting Vault Python Client Application"
MOST_BLOCKS = 5
"""How many secrets of an engine are shown in one turn; the others are counted."""

PURPOSE = """\
📖 Example Purpose and Usage Scenarios
A reference for programs that get their secrets from Vault themselves, through its API.
Needed at start-up alone, they are read once and then come from the cache (try --once).
In a program that runs on they are kept current, at as few requests as each kind allows."""

OTHER_FEATURES = ("Automatic Token Renewal", "Entity-based Permission Management")


@dataclass
class Seen:
    """What the console has heard of one engine."""

    held: list[Secret] = field(default_factory=list)
    """What was read or kept in the last turn."""
    read: list[Secret] = field(default_factory=list)
    """What was read since."""
    changes: int = 0
    """How many secrets have changed since."""


class Console:
    """A listener that puts every event into words: a handler each, found by the event's class."""

    def __init__(self, config: VaultConfig, stream: TextIO, *, colour: bool, in_place: bool = False) -> None:
        self._config = config
        self._colour = colour
        self.screen = Screen(stream, in_place=in_place)
        self._lock = threading.Lock()  # threads announce at once; held for an event to be put into words, and queued
        self._version = "unknown"
        self._seen = {engine: Seen() for engine in ENGINES}
        self._pause = shortest_interval(config)
        self._next_line = 0.0
        """When the next line may say that nothing is new, by the monotonic clock."""

    @classmethod
    def on_stdout(cls, config: VaultConfig, *, colour: bool, in_place: bool) -> Console:
        """With colour, and lines that are replaced, if these are wanted and stdout can do it."""
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="replace")  # not every terminal has every sign
        return cls(
            config,
            sys.stdout,
            colour=colour and wants_colour(sys.stdout),
            in_place=in_place and can_overwrite(sys.stdout),
        )

    @classmethod
    def silent(cls, config: VaultConfig) -> Console:
        """Shows nothing: where the log is for machines, it tells all that there is to tell."""
        return cls(config, open(os.devnull, "w", encoding="utf-8"), colour=False)

    def __call__(self, event: Event) -> None:
        with self._lock:
            words = self._words(event)
            if words:
                self._show(words, passing=isinstance(event, TurnTaken) and event.read == 0)

    def banner(self) -> None:
        self._show(self._paint(Style.BRIGHT, BANNER))

    def end(self, status: int) -> int:
        """Write what is still to be shown; return the exit status, which is not 0 if that was impossible."""
        if not self.screen.close():
            os._exit(status)  # the usual end would wait for a stdout that takes nothing
        if self.screen.failure is None:
            return status
        complain(cannot_write(self.screen.failure))
        return status or FAILED

    def _show(self, words: str, *, passing: bool = False) -> None:
        self.screen.show(f"{time.strftime('%H:%M:%S')} {words}", passing=passing)

    # ── The server and the token ─────────────────────────────────────────────────────────────────────────────────────

    @singledispatchmethod
    def _words(self, event: Event) -> str:
        return ""

    @_words.register
    def health_checked(self, event: HealthChecked) -> str:
        self._version = printable(event.health.version)
        if not event.health.initialized:
            return self._warn("🩺 Vault is not initialised: an operator must initialise and unseal it")
        if event.health.sealed:
            return self._warn("🩺 Vault is sealed: an operator must unseal it")
        return self._warn("🩺 This is a standby node of Vault") if event.health.standby else ""

    @_words.register
    def health_check_failed(self, event: HealthCheckFailed) -> str:
        return self._warn(f"🩺 Health check failed: {event.error}")

    @_words.register
    def logged_in(self, event: LoggedIn) -> str:
        ttl = seconds(event.ttl)
        if event.generation > 1:
            return self._good(f"🔑 Logged in anew: token generation {event.generation} (TTL: {ttl})")
        return "\n".join(
            [
                self._good("✅ Vault login successful"),
                self._settings(),
                "",
                PURPOSE,
                "",
                "🔧 Supported Features:",
                *(f"- {engine.feature}" for engine in ENGINES.values()),
                *(f"- {feature}" for feature in OTHER_FEATURES),
                "",
                self._paint(Style.BRIGHT, "🔄 Starting secret renewal... (Press Ctrl+C to exit)"),
            ]
        )

    def _settings(self) -> str:
        enabled = {engine.title: getattr(self._config, section).enabled for section, engine in ENGINES.items()}
        return "\n".join(
            [
                "⚙️ Current Configuration:",
                f"- Entity: {self._config.vault.entity}",
                f"- Vault URL: {self._config.vault.url}",
                *(f"- {title} Enabled: {str(value).lower()}" for title, value in enabled.items()),
                f"- Server Version: {self._version}",
            ]
        )

    @_words.register
    def login_failed(self, event: LoginFailed) -> str:
        return self._warn(f"⏳ Login failed: {event.error}; no other try for {seconds(event.retry_in)}")

    @_words.register
    def token_renewed(self, event: TokenRenewed) -> str:
        near_the_end = "; max TTL is near, a login is next" if event.last else ""
        return self._good(f"🔑 Token renewed (TTL: {seconds(event.ttl)}){near_the_end}")

    @_words.register
    def renewal_failed(self, event: RenewalFailed) -> str:
        left, pause = seconds(event.ttl), seconds(event.retry_in)
        return self._warn(f"⏳ Token not renewed: {event.error}; it lives for {left}, next try in {pause}")

    @_words.register
    def token_lost(self, event: TokenLost) -> str:
        return self._warn(f"🔑 Token lost: {event.reason}; logging in anew")

    @_words.register
    def token_revoked(self, event: TokenRevoked) -> str:
        if event.error is None:
            return self._good("🔓 Token revoked, and its leases with it")
        return self._warn(f"🔓 Token not revoked: {event.error}; it ends by itself in {seconds(event.ttl)}")

    @_words.register
    def token_left(self, event: TokenLeft) -> str:
        return self._good(f"🔓 Token left alone, for it was handed to us (TTL: {seconds(event.ttl)})")

    # ── The secrets ──────────────────────────────────────────────────────────────────────────────────────────────────

    @_words.register
    def secret_read(self, event: SecretRead) -> str:
        secret, seen = event.secret, self._seen_of(event.secret.engine)
        seen.read.append(secret)
        if len(seen.read) > MOST_BLOCKS:
            return ""
        return self._block(secret, self._good(f"✅ {self._title(secret)} secret fetch successful {facts(secret)}"))

    @_words.register
    def database_login_checked(self, event: DatabaseLoginChecked) -> str:
        which = f" ({printable(event.secret.name)})" if self._is_one_of_several(event.secret) else ""
        if event.error is not None:
            return self._bad(f"❌ No login to the database{which}: {event.error}")
        user = printable(event.user or "") if self._config.console.show_secrets else MASK
        return self._good(f"👤 The database takes us for {user}{which}")

    @_words.register
    def turn_taken(self, event: TurnTaken) -> str:
        read = self._seen_of(event.engine).read
        self._seen[event.engine] = Seen(held=[*read, *event.kept])
        if event.read == 0:
            return self._nothing_new()
        not_shown = event.read - MOST_BLOCKS
        title = engine_named(event.engine).title
        return self._good(f"✅ {title}: {not_shown:,} more secrets fetched") if not_shown > 0 else ""

    def _seen_of(self, engine: str) -> Seen:
        return self._seen.setdefault(engine, Seen())

    def _nothing_new(self) -> str:
        """One line for the turns of all engines, which come at about the same time; the next an interval later."""
        now = time.monotonic()
        if now < self._next_line:
            return ""
        self._next_line = now + self._pause
        held = {engine: seen.held for engine, seen in self._seen.items() if seen.held}
        words = ", ".join(state(engine, secrets) for engine, secrets in held.items())
        stale = any(secret.stale for secrets in held.values() for secret in secrets)
        return self._warn(f"⚠️ {words}") if stale else self._good(f"✅ {words}")

    def _block(self, secret: Secret, outcome: str) -> str:
        engine = engine_named(secret.engine)
        heading = self._paint(Fore.CYAN, f"=== {engine.title} Secret Refresh ===")
        shown = secret.data if self._config.console.show_secrets else dict.fromkeys(secret.data, MASK)
        if secret.ttl is None:
            return (
                f"{heading}\n{outcome}\n{engine.icon} {engine.title} Secret Data:\n{json.dumps(dict(shown), indent=2)}"
            )
        ttl = seconds(secret.ttl)
        return f"{heading}\n{outcome}\n{engine.icon} {engine.title} Secret (TTL: {ttl}):\n{credentials(shown)}"

    def _title(self, secret: Secret) -> str:
        """What kind of secret it is and, where there are several of the kind, which."""
        title: str = engine_named(secret.engine).title
        return f"{title} {printable(secret.name)}" if self._is_one_of_several(secret) else title

    def _is_one_of_several(self, secret: Secret) -> bool:
        """Whether config.ini names more than one of its engine, or a prefix."""
        section = getattr(self._config, secret.engine, None)
        return section is None or len(section.names) > 1 or is_prefix(section.names[0])

    @_words.register
    def secret_changed(self, event: SecretChanged) -> str:
        if event.previous is None:
            return ""
        secret, seen = event.secret, self._seen_of(event.secret.engine)
        seen.changes += 1
        if seen.changes > MOST_BLOCKS:
            return ""
        words = engine_named(secret.engine).words_of_change(event.previous, secret)
        return self._good(f"🔁 {self._title(secret)} {words}")

    @_words.register
    def prefix_changed(self, event: PrefixChanged) -> str:
        return self._good(f"🔁 KV {event.prefix}: {len(event.came):,} came, {len(event.went):,} went")

    @_words.register
    def prefix_stale(self, event: PrefixStale) -> str:
        serve = f"{event.secrets:,} cached secrets serve on"
        return self._warn(f"⏳ KV {event.prefix} not refreshed: {event.error}; {serve}")

    @_words.register
    def stale_served(self, event: StaleServed) -> str:
        return self._warn(
            f"⏳ {self._title(event.secret)} secret not refreshed: {event.error}; the cached one serves on"
        )

    @_words.register
    def lease_renewed(self, event: LeaseRenewed) -> str:
        near_the_end = "; max TTL is near, new credentials are next" if event.last else ""
        return self._good(f"🔁 {self._title(event.secret)} lease renewed {facts(event.secret)}{near_the_end}")

    @_words.register
    def no_lease_renewal(self, event: NoLeaseRenewal) -> str:
        return self._warn(f"⚠️ No lease renewal, so credentials are replaced when their time is up: {event.error}")

    @_words.register
    def lease_unusable(self, event: LeaseUnusable) -> str:
        lease = "the lease was given back" if event.given_back else f"leases left behind so far: {event.left_behind}"
        return self._warn(f"⚠️ Issued and of no use: {event.error}; {lease}")

    @_words.register
    def no_version_query(self, event: NoVersionQuery) -> str:
        return self._warn(f"⚠️ No KV version query, so the values are read each time: {event.error}")

    @_words.register
    def no_scan(self, event: NoScan) -> str:
        return self._warn(f"⚠️ No KV scan, so each secret below {event.prefix} is asked for its version: {event.error}")

    # ── The workers ──────────────────────────────────────────────────────────────────────────────────────────────────

    @_words.register
    def turn_failed(self, event: TurnFailed) -> str:
        self._seen_of(event.worker.replace("-", "_")).held = []
        more = event.secrets - 1
        others = f" (and {more:,} more secret{'s' if more > 1 else ''})" if more else ""
        return self._bad(f"❌ {event.worker}: {event.error}{others}")

    @_words.register
    def stopping(self, event: Stopping) -> str:
        return self._paint(Style.BRIGHT, f"🛑 Stopping: {event.reason}")

    @_words.register
    def worker_stuck(self, event: WorkerStuck) -> str:
        return self._warn(f"⚠️ {event.worker} is stuck in a request; ending without it")

    # ── Colour ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def _good(self, text: str) -> str:
        return self._paint(Fore.GREEN, text)

    def _warn(self, text: str) -> str:
        return self._paint(Fore.YELLOW, text)

    def _bad(self, text: str) -> str:
        return self._paint(Fore.RED, text)

    def _paint(self, colour: str, text: str) -> str:
        return f"{colour}{text}{Style.RESET_ALL}" if self._colour else text


def shortest_interval(config: VaultConfig) -> float:
    """Of the engines that are used."""
    engines = [getattr(config, section) for section in ENGINES]
    return min((engine.refresh_interval for engine in engines if engine.enabled), default=0.0)
