"""The console: shows on a terminal what the client and the workers announce.

One event is one block of text and one write, so that threads which announce at once never garble each other. Values of
secrets are shown only if [console] show_secrets says so; else a mask stands there that betrays no length (P1).
"""

from __future__ import annotations

import json
import math
import os
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import singledispatchmethod
from queue import SimpleQueue
from typing import Any, TextIO

from colorama import Fore, Style

from config_loader import VaultConfig, is_prefix
from vault_events import (
    Event,
    HealthChecked,
    HealthCheckFailed,
    LoggedIn,
    LoginFailed,
    NoScan,
    NoVersionQuery,
    PrefixChanged,
    PrefixStale,
    RenewalFailed,
    SecretChanged,
    SecretRead,
    StaleServed,
    Stopping,
    TokenLost,
    TokenRenewed,
    TokenRevoked,
    TurnFailed,
    TurnTaken,
    WorkerStuck,
)
from vault_http import printable
from vault_secret import Secret

MASK = "********"
BANNER = "🚀 Starting Vault Python Client Application"
PATIENCE_SECONDS = 0.5
MOST_WAITING = 1000
"""How many events may wait for a terminal that is stopped; what comes then is not shown."""
MOST_BLOCKS = 5
"""How many secrets of an engine are shown in one turn; the others are counted."""

TITLES = {
    "kv_secret": "KV",
    "database_dynamic": "Database Dynamic",
    "database_static": "Database Static",
}
ICONS = {"database_dynamic": "🗄️", "database_static": "🔒"}

PURPOSE = """\
📖 Example Purpose and Usage Scenarios
A reference for programs that get their secrets from Vault themselves, through its API.
Needed at start-up alone, they are read once and then come from the cache (try --once).
In a program that runs on they are kept current, at as few requests as each kind allows."""

FEATURES = """\
🔧 Supported Features:
- KV v2 Secret Engine (version-based caching)
- Database Dynamic Secret Engine (TTL-based renewal)
- Database Static Secret Engine (time-based caching)
- Automatic Token Renewal
- Entity-based Permission Management"""


def wants_colour(stream: TextIO) -> bool:
    """Colour is for terminals, and for people who have not set NO_COLOR (https://no-color.org)."""
    return stream.isatty() and not os.environ.get("NO_COLOR")


class Console:
    """A listener that puts every event into words, and a thread that writes them.

    Whoever announces never waits for the terminal: one that is stopped with Ctrl+S stops no renewal.
    """

    def __init__(self, config: VaultConfig, stream: TextIO, *, colour: bool) -> None:
        self._config = config
        self._stream = stream
        self._colour = colour
        self._version = "unknown"
        self._blocks: Counter[str] = Counter()
        """How many secrets of each engine were shown since its last turn."""
        self._changes: Counter[str] = Counter()
        """How many changes."""
        self.on_closed: Callable[[], object] = lambda: None
        """Called when nobody reads the stream any more."""
        self._texts: SimpleQueue[str | None] = SimpleQueue()
        self._writer = threading.Thread(target=self._write, name="console", daemon=True)
        self._writer.start()

    def __call__(self, event: Event) -> None:
        text = self._text(event)
        if text and self._texts.qsize() < MOST_WAITING:
            self._texts.put(text)

    def banner(self) -> None:
        self._texts.put(self._paint(Style.BRIGHT, BANNER))

    def close(self) -> bool:
        """Write what is still waiting; False if the stream does not take it."""
        self._texts.put(None)
        self._writer.join(PATIENCE_SECONDS)
        return not self._writer.is_alive()

    def _write(self) -> None:
        """Write one event after the other; a block of several lines stands apart from what surrounds it."""
        previous: str | None = None
        while (text := self._texts.get()) is not None:
            apart = previous is not None and BANNER not in previous and "\n" in previous + text
            previous = text
            try:
                self._stream.write("\n" * apart + text + "\n")
                self._stream.flush()
            except OSError:  # a closed pipe, a terminal that is gone, a full disk
                self.on_closed()
                return

    # ── The server and the token ─────────────────────────────────────────────────────────────────────────────────────

    @singledispatchmethod
    def _text(self, event: Event) -> str:
        return ""

    @_text.register
    def _(self, event: HealthChecked) -> str:
        self._version = printable(event.version)
        if not event.initialized:
            return self._warn("🩺 Vault is not initialised: an operator must initialise and unseal it")
        if event.sealed:
            return self._warn("🩺 Vault is sealed: an operator must unseal it")
        return self._warn("🩺 This is a standby node of Vault") if event.standby else ""

    @_text.register
    def _(self, event: HealthCheckFailed) -> str:
        return self._warn(f"🩺 Health check failed: {event.error}")

    @_text.register
    def _(self, event: LoggedIn) -> str:
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
                FEATURES,
                "",
                self._paint(Style.BRIGHT, "🔄 Starting secret renewal... (Press Ctrl+C to exit)"),
            ]
        )

    def _settings(self) -> str:
        config = self._config
        return "\n".join(
            [
                "⚙️ Current Configuration:",
                f"- Entity: {config.vault.entity}",
                f"- Vault URL: {config.vault.url}",
                f"- KV Enabled: {str(config.kv_secret.enabled).lower()}",
                f"- Database Dynamic Enabled: {str(config.database_dynamic.enabled).lower()}",
                f"- Database Static Enabled: {str(config.database_static.enabled).lower()}",
                f"- Server Version: {self._version}",
            ]
        )

    @_text.register
    def _(self, event: LoginFailed) -> str:
        return self._warn(f"⏳ Login failed: {event.error}; no other try for {seconds(event.retry_in)}")

    @_text.register
    def _(self, event: TokenRenewed) -> str:
        near_the_end = "; max TTL is near, a login is next" if event.last else ""
        return self._good(f"🔑 Token renewed (TTL: {seconds(event.ttl)}){near_the_end}")

    @_text.register
    def _(self, event: RenewalFailed) -> str:
        left, pause = seconds(event.ttl), seconds(event.retry_in)
        return self._warn(f"⏳ Token not renewed: {event.error}; it lives for {left}, next try in {pause}")

    @_text.register
    def _(self, event: TokenLost) -> str:
        return self._warn(f"🔑 Token lost: {event.reason}; logging in anew")

    @_text.register
    def _(self, event: TokenRevoked) -> str:
        if event.error is None:
            return self._good("🔓 Token revoked, and its leases with it")
        return self._warn(f"🔓 Token not revoked: {event.error}; it ends by itself in {seconds(event.ttl)}")

    # ── The secrets ──────────────────────────────────────────────────────────────────────────────────────────────────

    @_text.register
    def _(self, event: SecretRead) -> str:
        secret = event.secret
        self._blocks[secret.engine] += 1
        if self._blocks[secret.engine] > MOST_BLOCKS:
            return ""
        outcome = self._good(f"✅ {self._title(secret)} secret fetch successful {facts(secret)}")
        return "\n".join([self._block(secret, outcome), *self._login(event)])

    @_text.register
    def _(self, event: TurnTaken) -> str:
        self._blocks[event.engine] = self._changes[event.engine] = 0
        title = TITLES.get(event.engine, event.engine)
        not_shown = event.read - MOST_BLOCKS
        counts = [self._good(f"✅ {title}: {not_shown:,} more secrets fetched")] if not_shown > 0 else []
        blocks: list[str] = []
        if len(event.kept) > MOST_BLOCKS:
            counts.append(self._kept_together(title, event.kept))
        else:
            blocks = [self._block(secret, self._kept(secret)) for secret in event.kept]
        return "\n\n".join(filter(None, ["\n".join(counts), *blocks]))

    def _kept(self, secret: Secret) -> str:
        if secret.stale:
            return self._warn(
                f"⚠️ {self._title(secret)} secret from the cache, stale: Vault gives no answer {facts(secret)}"
            )
        how = "unchanged" if secret.ttl is None else "from the cache"
        return self._good(f"✅ {self._title(secret)} secret {how} {facts(secret)}")

    def _kept_together(self, title: str, secrets: Sequence[Secret]) -> str:
        stale = sum(secret.stale for secret in secrets)
        if stale:
            return self._warn(f"⚠️ {title}: {stale:,} of {len(secrets):,} secrets stale: Vault gives no answer")
        return self._good(f"✅ {title}: {len(secrets):,} secrets unchanged")

    def _block(self, secret: Secret, outcome: str) -> str:
        title = TITLES.get(secret.engine, secret.engine)
        heading = self._paint(Fore.CYAN, f"=== {title} Secret Refresh ===")
        shown = secret.data if self._config.console.show_secrets else dict.fromkeys(secret.data, MASK)
        if secret.ttl is None:
            return f"{heading}\n{outcome}\n📦 {title} Secret Data:\n{json.dumps(dict(shown), indent=2)}"
        icon = ICONS.get(secret.engine, "🔒")
        return f"{heading}\n{outcome}\n{icon} {title} Secret (TTL: {seconds(secret.ttl)}):\n{credentials(shown)}"

    def _title(self, secret: Secret) -> str:
        """What kind of secret it is and, where there are several of the kind, which."""
        title = TITLES.get(secret.engine, secret.engine)
        first, *others = getattr(self._config, secret.engine).names
        return f"{title} {printable(secret.name)}" if others or is_prefix(first) else title

    def _login(self, event: SecretRead) -> list[str]:
        """What the database said to the credentials, if it was asked."""
        if event.login_error is not None:
            return [self._bad(f"❌ No login to the database: {event.login_error}")]
        if event.database_user is None:
            return []
        shown = printable(event.database_user) if self._config.console.show_secrets else MASK
        return [self._good(f"👤 The database takes us for {shown}")]

    @_text.register
    def _(self, event: SecretChanged) -> str:
        if event.previous is None:
            return ""
        self._changes[event.secret.engine] += 1
        if self._changes[event.secret.engine] > MOST_BLOCKS:
            return ""
        title = self._title(event.secret)
        if event.secret.version is not None:
            return self._good(f"🔁 {title} secret changed: version {event.previous.version} → {event.secret.version}")
        if event.secret.lease_id is not None:
            return self._good(f"🔁 {title} credentials replaced: a new user with a lease of its own")
        return self._good(f"🔁 {title} password rotated")

    @_text.register
    def _(self, event: PrefixChanged) -> str:
        return self._good(f"🔁 KV {event.prefix}: {len(event.came):,} came, {len(event.went):,} went")

    @_text.register
    def _(self, event: PrefixStale) -> str:
        serve = f"{event.secrets:,} cached secrets serve on"
        return self._warn(f"⏳ KV {event.prefix} not refreshed: {event.error}; {serve}")

    @_text.register
    def _(self, event: StaleServed) -> str:
        return self._warn(
            f"⏳ {self._title(event.secret)} secret not refreshed: {event.error}; the cached one serves on"
        )

    @_text.register
    def _(self, event: NoVersionQuery) -> str:
        return self._warn(f"⚠️ No KV version query, so the values are read each time: {event.error}")

    @_text.register
    def _(self, event: NoScan) -> str:
        return self._warn(f"⚠️ No KV scan, so each secret below {event.prefix} is asked for its version: {event.error}")

    # ── The workers ──────────────────────────────────────────────────────────────────────────────────────────────────

    @_text.register
    def _(self, event: TurnFailed) -> str:
        more = event.secrets - 1
        others = f" (and {more:,} more secret{'s' if more > 1 else ''})" if more else ""
        return self._bad(f"❌ {event.worker}: {event.error}{others}")

    @_text.register
    def _(self, event: Stopping) -> str:
        return self._paint(Style.BRIGHT, f"🛑 Stopping: {event.reason}")

    @_text.register
    def _(self, event: WorkerStuck) -> str:
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


def seconds(duration: float) -> str:
    """Whole seconds, as a TTL is read: 60s while the sixtieth second runs."""
    return "no end" if math.isinf(duration) else f"{math.ceil(duration)}s"


def facts(secret: Secret) -> str:
    return f"(version {secret.version})" if secret.ttl is None else f"(TTL: {seconds(secret.ttl)})"


def credentials(values: Mapping[str, Any]) -> str:
    """The values one a line, the username first."""
    ordered = sorted(values, key=lambda key: (key != "username", key))
    return "\n".join(f"  {key}: {printable(str(values[key]))}" for key in ordered)
