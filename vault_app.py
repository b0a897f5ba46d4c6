"""The application: keeps a token and the enabled secrets current, and announces what happens.

`VaultApplication` has a thread for each secret engine and one that watches the token: the threads decide *when*, the
client decides *whether to ask Vault*. `EngineTurns` is what an engine's thread does, `read_once` what --once does
instead, `main` the command line. `python vault_app.py --help` shows the options.
"""

from __future__ import annotations

import signal

if __name__ == "__main__":  # Skip this: it keeps a Ctrl+C during the imports from showing a traceback.
    signal.signal(signal.SIGINT, signal.SIG_DFL)

import sys
import threading
import time
from argparse import Namespace
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from queue import SimpleQueue
from typing import Any, NamedTuple

from config_loader import VaultConfig
from doctor import consult
from listeners.command_line import (
    configure_logging,
    import_login_check,
    logs_much,
    parse_arguments,
    report,
    start_metrics,
)
from listeners.console import Console
from listeners.service_manager import ServiceManager
from listeners.signals import SignalHandler, next_of
from listeners.streams import open_missing, settled
from vault_client import VaultClient
from vaultkit.announcer import Announcer
from vaultkit.engines.cache import SecretEngine
from vaultkit.errors import ConfigurationError, LoginRefused, VaultError
from vaultkit.events import (
    HealthChecked,
    HealthCheckFailed,
    Listener,
    SecretRead,
    Stopping,
    TurnFailed,
    TurnTaken,
    WorkerStuck,
)
from vaultkit.secret import Secret
from vaultkit.shield import log_unexpected
from vaultkit.worker import Worker

__version__ = "0.1.0"

OK, FAILED, MISCONFIGURED = 0, 1, 2
"""The exit statuses."""


class Ending(NamedTuple):
    """Why the application ends, and with what exit status."""

    reason: str
    status: int = OK


Endings = SimpleQueue[Ending]
"""What the main thread waits at. A signal handler may put into it; an Event's `set` could hang there."""


class VaultApplication:
    """Keeps a token and the enabled secrets current until it is told to stop."""

    def __init__(
        self, config: VaultConfig, *, listeners: Sequence[Listener] = (), endings: Endings | None = None
    ) -> None:
        self._announcer = Announcer(listeners)
        self.client = VaultClient(config, listeners=listeners)
        self._endings = endings or SimpleQueue()
        self._stop = threading.Event()  # the queue says why, to the main thread; the event says now, to all others
        self._token_watcher = self._worker("token-watcher", self._watch_token, self.client.seconds_to_next_look)
        self._engines = [self._engine_worker(engine) for engine in enabled_engines(self.client)]
        self._checked_health = False

    def run(self) -> int:
        """Run until `stop` is called or a login is refused; return the exit status."""
        self._token_watcher.start()
        try:
            ending = next_of(self._endings)
            self._stop.set()
            self._announcer.announce(Stopping(ending.reason))
        finally:
            self._stop.set()
            shut_down(self.client, self._announcer, [self._token_watcher, *self._engines])
        return ending.status

    def stop(self, reason: str, status: int = OK) -> None:
        """Make `run` return. May be called from any thread and from a signal handler."""
        self._endings.put(Ending(reason, status))

    # ── What the workers do ──────────────────────────────────────────────────────────────────────────────────────────

    def _watch_token(self) -> None:
        """One look of the token watcher. The first login brings the engines to life."""
        if not self._checked_health:
            self._checked_health = True
            check_health(self.client, self._announcer)
        self.client.keep_token_alive()
        if self.client.logged_in and not self._stop.is_set():
            for worker in self._engines:
                worker.start()

    def _engine_worker(self, engine: SecretEngine[Any]) -> Worker:
        turns = EngineTurns(engine, self._announcer, self._stop)
        return self._worker(turns.name, partial(self._take_turn, turns), partial(seconds_to_next_turn, engine))

    def _take_turn(self, turns: EngineTurns) -> None:
        self._stop_if_refused(turns.take_one())

    def _worker(self, name: str, action: Callable[[], None], interval: Callable[[], float]) -> Worker:
        return Worker(name, action, interval=interval, stop=self._stop, on_error=partial(self._turn_failed, name))

    def _turn_failed(self, worker: str, error: Exception) -> None:
        failures = [as_vault_error(worker, error)]
        announce_failures(self._announcer, worker, failures)
        self._stop_if_refused(failures)

    def _stop_if_refused(self, failures: Sequence[VaultError]) -> None:
        """To go on with logins that are refused would lock the role (T7)."""
        if any(isinstance(error, LoginRefused) for error in failures):
            self.stop("Vault refused the login", FAILED)


SHORTEST_TURN_SECONDS = 0.1


def seconds_to_next_turn(engine: SecretEngine[Any]) -> float:
    """An interval, or less if the secret is due before: leases may be shorter than an interval."""
    interval: float = engine.settings.refresh_interval
    return max(SHORTEST_TURN_SECONDS, min(interval, engine.seconds_until_due()))


def enabled_engines(client: VaultClient) -> list[SecretEngine[Any]]:
    return [engine for engine in client.engines.values() if engine.settings.enabled]


class EngineTurns:
    """The turns of one engine: each reads what config.ini names, and announces what is new in it."""

    def __init__(self, engine: SecretEngine[Any], announcer: Announcer, stop: threading.Event) -> None:
        self.name = engine.section.replace("_", "-")
        self.held: dict[str, Secret] = {}
        """The secrets of the turn before, by name."""
        self._engine, self._announcer, self._stop = engine, announcer, stop

    def take_one(self) -> list[VaultError]:
        """Read all, and announce how it went. Returns what went wrong."""
        now: dict[str, Secret] = {}
        kept: list[Secret] = []
        failures: list[VaultError] = []
        for outcome in self._engine.read_all(self._stop):
            if isinstance(outcome, VaultError):
                failures.append(outcome)
                continue
            now[outcome.name] = outcome
            if self._is_kept(outcome):
                kept.append(outcome)
            else:
                self._announcer.announce(SecretRead(outcome))
        announce_failures(self._announcer, self.name, failures)
        if now and not self._stop.is_set():
            self._announcer.announce(TurnTaken(self._engine.section, read=len(now) - len(kept), kept=kept))
        self.held = now
        return failures

    def _is_kept(self, secret: Secret) -> bool:
        """Whether it says the same as in the turn before: confirmed by Vault, or from the cache. Else it is new."""
        return secret.says_the_same_as(self.held.get(secret.name))


MOST_FAILURES_TOLD = 5
"""In one turn; the others are counted."""


def announce_failures(announcer: Announcer, worker: str, failures: Sequence[VaultError]) -> None:
    """Announce the first few, and how many more of thousands of secrets have failed with the last of these."""
    told = failures[:MOST_FAILURES_TOLD]
    for number, error in enumerate(told, start=1):
        more = len(failures) - len(told) if number == len(told) else 0
        announcer.announce(TurnFailed(worker, error, 1 + more))


def as_vault_error(worker: str, error: Exception) -> VaultError:
    """What nobody planned for is logged with its place, and announced by its type: its text may quote a secret (P1)."""
    if isinstance(error, VaultError):
        return error
    log_unexpected(worker, error)
    return VaultError(f"unexpected {type(error).__name__}; the log says where")


def check_health(client: VaultClient, announcer: Announcer) -> None:
    """Announce how the server is. Whatever it says, a login is tried."""
    try:
        announcer.announce(HealthChecked(client.health_check()))
    except VaultError as error:
        announcer.announce(HealthCheckFailed(error))


JOIN_SECONDS = 2.5
"""How long all threads together may take to end; with the revocation's 2 s the exit stays below 5 s (X1)."""


def shut_down(client: VaultClient, announcer: Announcer, workers: Sequence[Worker]) -> None:
    """Wait for the threads, which were told to stop, revoke the token, forget the secrets; in bounded time (X1)."""
    for worker in workers:
        worker.wake()
    deadline = time.monotonic() + JOIN_SECONDS
    for worker in workers:
        if not worker.join(deadline - time.monotonic()):
            announcer.announce(WorkerStuck(worker.name))
    client.close()


# ── The application for --once ───────────────────────────────────────────────────────────────────────────────────────


def read_once(config: VaultConfig, *, listeners: Sequence[Listener], endings: Endings) -> int:
    """Log in, read every enabled secret once, revoke the token; return the exit status.

    A thread does the reading: a signal need not wait for Vault's answer.
    """
    announcer, stop = Announcer(listeners), threading.Event()
    client = VaultClient(config, listeners=listeners)
    reader = Worker(
        "reader",
        lambda: endings.put(read_each(client, announcer, stop)),
        interval=lambda: None,
        stop=stop,
        on_error=lambda error: endings.put(Ending(str(as_vault_error("reader", error)), FAILED)),
    )
    reader.start()
    ending = next_of(endings)
    stop.set()
    announcer.announce(Stopping(ending.reason))
    shut_down(client, announcer, [reader])
    return ending.status


def read_each(client: VaultClient, announcer: Announcer, stop: threading.Event) -> Ending:
    """One engine after the other, in their order."""
    check_health(client, announcer)
    try:
        client.login()
    except VaultError as error:
        announce_failures(announcer, "login", [error])
        return Ending("without a login there is nothing to read", FAILED)
    failures = [EngineTurns(engine, announcer, stop).take_one() for engine in enabled_engines(client)]
    return Ending("not every secret could be read", FAILED) if any(failures) else Ending("every secret was read once")


# ── The command line ─────────────────────────────────────────────────────────────────────────────────────────────────


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program; return its exit status, as --help explains it."""
    open_missing()
    try:
        status = run(parse_arguments(arguments, __version__))
    except SystemExit as told:  # by argparse: --help, --version, options that it does not know
        status = int(told.code or OK)
    return settled(status)


def run(options: Namespace) -> int:
    """From the configuration to the end of the application; return its exit status."""
    configure_logging(options.log_level, options.log_format)
    if options.doctor:
        return consult(options.config, as_json=options.json)
    try:
        config = VaultConfig.load(options.config)
        login_check = import_login_check() if config.database_dynamic.check_login else None
        metrics = start_metrics(config, __version__) if config.metrics.port and not options.once else None
    except ConfigurationError as error:
        report(error)
        return MISCONFIGURED
    if options.show_secrets:
        config = replace(config, console=replace(config.console, show_secrets=True))
    console = console_for(config, options)
    listeners: list[Listener] = [console, ServiceManager()]
    if login_check is not None:
        listeners.append(login_check(Announcer([console]), wait=options.once))
    if metrics is None:
        return console.end(run_until_told(config, options, console, listeners))
    listener, server = metrics
    with closing(server):
        return console.end(run_until_told(config, options, console, [*listeners, listener]))


def console_for(config: VaultConfig, options: Namespace) -> Console:
    if options.log_format == "json":
        return Console.silent(config)
    return Console.on_stdout(config, colour=not options.no_color, in_place=not logs_much(options.log_level))


def run_until_told(config: VaultConfig, options: Namespace, console: Console, listeners: Sequence[Listener]) -> int:
    """Run until a signal comes, nobody reads the output any more, or the application ends by itself."""
    endings: Endings = SimpleQueue()
    console.screen.on_closed = lambda reason: endings.put(Ending(reason))
    signals = SignalHandler(lambda name: endings.put(Ending(f"received {name}")))
    console.banner()
    if options.once:
        status = read_once(config, listeners=listeners, endings=endings)
    else:
        status = VaultApplication(config, listeners=listeners, endings=endings).run()
    signals.ignore()
    return status


if __name__ == "__main__":
    sys.exit(main())
