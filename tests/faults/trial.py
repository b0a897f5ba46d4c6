"""One application under one fault, watched from all sides: what it serves, asks, says, and how soon it is well again.

The application is the real one, in a thread of its own. Readers ask it for each secret all the time, as a program does,
and hold what they get against the rules.
"""

from __future__ import annotations

import io
import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import psycopg

from config_loader import VaultConfig
from devserver.proxy import Proxy
from listeners.console import Console
from tests.faults.tenant import Tenant
from vault_app import VaultApplication
from vaultkit.errors import NoAnswer, VaultError
from vaultkit.events import Event
from vaultkit.lifetime import Moment
from vaultkit.secret import Secret

START_SECONDS = 30.0
EXIT_SECONDS = 5.0
PATIENT = "30"
"""[http] timeout where every request is answered: at a short one, a machine that stands still is a fault as well."""
LAST_MOMENT_SECONDS = 0.5
"""A credential with so little left may be gone before a reader that saw it looks again."""


@dataclass(frozen=True)
class Pace:
    """How fast everything goes: as config.ini has it, or scaled down for a test that shall not take two minutes."""

    name: str
    outage: float
    refresh: float
    """The longest refresh interval, seconds."""
    backoff_max: float
    lease: str
    short_token: str
    """The TTL of a token that shall end during the outage."""
    probe: float
    """How often a reader asks, seconds."""
    at_once: int
    """How many faults are tried at the same time."""
    most_requests: int
    """Of the whole program during a fault. The first seconds cost most, so a short one is no sixth of a long one."""
    settings: Mapping[str, str]

    @property
    def bound(self) -> float:
        """How soon all must be well again, seconds: one refresh interval and the longest back-off."""
        return self.refresh + self.backoff_max


DEFAULTS = Pace("the settings of config.ini", 60.0, 10.0, 30.0, "1m", "30s", 0.2, 60, 60, {})
QUICK = Pace(
    "scaled down",
    outage=4.0,
    refresh=0.5,
    backoff_max=2.0,
    lease="3s",
    short_token="3s",
    probe=0.1,
    at_once=16,
    most_requests=40,
    settings={
        "KV_SECRET_REFRESH_INTERVAL": "0.5",
        "DATABASE_DYNAMIC_REFRESH_INTERVAL": "0.5",
        "DATABASE_STATIC_REFRESH_INTERVAL": "0.5",
        "DATABASE_STATIC_CACHE_TIME": "1",
        "TOKEN_CHECK_INTERVAL": "1",
        "TOKEN_BACKOFF_MAX": "2",
        "HTTP_TIMEOUT": "1",
    },
)


class Watchers(logging.Handler):
    """Everything that any part of any application logs, and how often urllib3 opened a connection to which port."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.lines: list[str] = []
        self.connections: list[tuple[float, int]] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage() + (self.format(record) if record.exc_info else ""))
        if record.msg.startswith("Starting new HTTP") and isinstance(record.args, tuple):
            self.connections.append((time.monotonic(), int(str(record.args[2]))))


@dataclass
class Reader:
    """Asks for one secret all the time, and notes whatever the rules do not allow."""

    get: Callable[[], Secret]
    token: Callable[[], Any]
    """The client's, or None."""
    last: Secret | None = None
    error: VaultError | None = None
    errors: set[type[VaultError]] = field(default_factory=set)
    """The kinds of errors that it got."""
    stale: int = 0
    values: set[str] = field(default_factory=set)
    """What was served: it must be in no output."""
    breaches: list[str] = field(default_factory=list)

    def look(self) -> None:
        asked = Moment.now(time)  # by which it is judged: it may end between being handed out and being looked at
        token = self.token()
        try:
            secret = self.get()
        except VaultError as error:
            self._judge_error(error, token)
            self.errors.add(type(error))
            self.error = error
        else:
            if secret.expires is not None and has_come(secret.expires, by=asked):
                self.breaches.append(f"served {secret!r}, which had expired before it was asked for")
            self.stale += secret.stale
            self.values |= {str(value) for key, value in secret.data.items() if key != "username"}
            self.last, self.error = secret, None

    def _judge_error(self, error: VaultError, token: Any) -> None:
        """While Vault says nothing, what is cached must be served (K4, T6), unless it died with the token (T8)."""
        if isinstance(error, NoAnswer) and self.error is None and self.last is not None and self._lives(token):
            left = self.last.ttl
            if left is None or left > LAST_MOMENT_SECONDS:
                self.breaches.append(f"raised {type(error).__name__} and not served {self.last!r}")

    def _lives(self, token: Any) -> bool:
        """Whether this token, under which was asked, is still the client's, and has not ended."""
        return token is not None and token is self.token() and token.expires.left(time) > LAST_MOMENT_SECONDS


def has_come(moment: Moment, *, by: Moment) -> bool:
    """Whether either clock said so, as in T1."""
    return moment.monotonic <= by.monotonic or moment.wall <= by.wall


class Trial:
    """The application of one tenant, behind a proxy."""

    def __init__(self, tenant: Tenant, proxy: Proxy, pace: Pace, watchers: Watchers, **environ: str) -> None:
        self.tenant, self.proxy, self.pace, self._watchers = tenant, proxy, pace, watchers
        environ = {"VAULT_URL": proxy.url, **tenant.application, **pace.settings, **environ}
        config = VaultConfig.load(environ=environ)
        self.screen = io.StringIO()
        self.events: list[Event] = []
        self.tokens: set[str] = set()
        self._console = Console(config, self.screen, colour=False)
        self.app = VaultApplication(config, listeners=[self.events.append, self._console])
        client = self.app.client
        self.readers = {
            engine: Reader(get, token=lambda: client._token._token)
            for engine, get in {
                "kv_secret": partial(client.get_kv_secret, tenant.name),
                "database_dynamic": partial(client.get_database_dynamic_secret, tenant.name),
                "database_static": partial(client.get_database_static_secret, tenant.static_role),
            }.items()
        }
        self.status: int | None = None
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, daemon=True)]
        self._threads += [threading.Thread(target=self._read, args=(r,), daemon=True) for r in self.readers.values()]

    @property
    def kv(self) -> Reader:
        return self.readers["kv_secret"]

    def start(self) -> None:
        """Start, and wait until every secret is there. Raises: TimeoutError."""
        for thread in self._threads:
            thread.start()
        self.wait_until(self.is_well, START_SECONDS, "the application did not become well before the fault")

    def _run(self) -> None:
        self.status = self.app.run()

    def _read(self, reader: Reader) -> None:
        while not self._stop.wait(self.pace.probe):
            if not self.app.client.logged_in and reader.last is None:
                continue  # the first login is the application's
            reader.look()
            token = self.app.client._token._token
            if token is not None:
                self.tokens.add(token.api.token)

    # ── Watching ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def is_well(self, value: str | None = None) -> bool:
        """Whether every secret is served, current, and good: KV with this value, and the database lets us in."""
        readers = self.readers.values()
        if any(reader.last is None or reader.error is not None or reader.last.stale for reader in readers):
            return False
        if value is not None and self.kv.last is not None and self.kv.last.data["value"] != value:
            return False
        return all(self._lets_in(self.readers[engine]) for engine in ("database_dynamic", "database_static"))

    def _lets_in(self, reader: Reader) -> bool:
        """Whether the database takes these credentials; if not, Vault hears of it, as from a pool."""
        secret = reader.last
        if secret is None:
            return False
        try:
            self.tenant.database.connect(secret.data["username"], secret.data["password"]).close()
        except psycopg.OperationalError:
            try:
                reader.last = self.app.client.get_instead_of(secret)
            except VaultError as error:
                reader.error = error
            return False
        return True

    def wait_until(self, condition: Callable[[], Any], seconds: float, what: str) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                readers = {name: (reader.last, reader.error) for name, reader in self.readers.items()}
                raise TimeoutError(f"{what}: {readers}; {self.screen.getvalue()[-1500:]}")
            time.sleep(self.pace.probe)

    def requests(self, since: float, until: float) -> int:
        """What the whole program asked: counted by the proxy, or, where that is not reached, by the attempts."""
        attempts = sum(since <= at <= until and port == self.proxy.port for at, port in self._watchers.connections)
        return max(attempts, self.proxy.count(since, until))

    # ── The end ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def stop(self) -> float:
        """Stop everything; return how long the application took, seconds."""
        self._stop.set()
        running, *reading = self._threads
        for thread in reading:
            thread.join(START_SECONDS)
        began = time.monotonic()
        self.app.stop("the trial is over")
        running.join(START_SECONDS)
        took = time.monotonic() - began
        self._console.screen.close()
        return took

    def output(self) -> str:
        """All that was shown and announced."""
        return "\n".join([self.screen.getvalue(), *map(repr, self.events)])

    def secrets(self) -> set[str]:
        """What must be in no output."""
        values = set().union(*(reader.values for reader in self.readers.values()))
        given = self.tenant.login.given if self.tenant.login else []
        return {*values, *self.tokens, *given, self.tenant.secret_id}
