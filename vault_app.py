"""The application: one thread per secret engine, one that watches the token, and a console.

The threads decide *when*; the client decides *whether to ask Vault*. Everything that happens is announced to listeners.
Start it with `python vault_app.py`; `--help` shows the options.
"""

from __future__ import annotations

import signal

if __name__ == "__main__":
    # As long as there is nothing to end in order: Ctrl+C ends the program without a traceback of its imports.
    signal.signal(signal.SIGINT, signal.SIG_DFL)

import argparse
import io
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, NamedTuple

from config_loader import DEFAULT_PATH, VaultConfig
from console import Console, wants_colour
from secret_cache import SecretEngine
from shield import log_unexpected
from vault_client import VaultClient
from vault_errors import ConfigurationError, LoginRefused, VaultError
from vault_events import (
    Announcer,
    Event,
    HealthChecked,
    HealthCheckFailed,
    Listener,
    SecretRead,
    Stopping,
    TurnFailed,
    TurnTaken,
    WorkerStuck,
)
from vault_http import printable
from vault_secret import Secret
from worker import Worker

if TYPE_CHECKING:
    from login_check import LoginCheck

__version__ = "0.1.0"

OK, FAILED, MISCONFIGURED = 0, 1, 2
"""The exit statuses."""

JOIN_SECONDS = 2.5
"""How long all threads together may take to end; with the revocation's 2 s the exit stays below 5 s (X1)."""

SIGNALS = (signal.SIGINT, signal.SIGTERM)
SAME_SIGNAL_SECONDS = 0.2
"""`timeout` and others signal a process and then its group: what comes so close together is one signal."""

SHORTEST_TURN_SECONDS = 0.1
MOST_FAILURES_TOLD = 5
"""In one turn; the others are counted."""
FIRST_TURN_SECONDS = 0.8
"""How long into its first turn one engine waits for those before it, so that the first blocks come in order."""

log = logging.getLogger("vault_app")


class Ending(NamedTuple):
    """Why the application ends, and with what exit status."""

    reason: str
    status: int


class VaultApplication:
    """Keeps a token and the enabled secrets current until it is told to stop.

    With `once`, every secret is read once, and then it stops by itself.
    """

    def __init__(self, config: VaultConfig, *, listeners: Sequence[Listener] = (), once: bool = False) -> None:
        self._announcer = Announcer(listeners)
        self.client = VaultClient(config, listeners=listeners)
        self._once = once
        self._stop = threading.Event()
        # Not the event: a signal handler may interrupt its wait() and would then hang in its set().
        self._endings: SimpleQueue[Ending] = SimpleQueue()
        self._token_watcher = self._worker("token-watcher", self._watch_token, self.client.seconds_to_next_look)
        self._engines = [
            self._engine_worker(engine) for engine in self.client.engines.values() if engine.settings.enabled
        ]
        self._first_turns = {worker.name: threading.Event() for worker in self._engines}
        self._checked_health = False
        self._status = OK

    # ── Running and stopping ─────────────────────────────────────────────────────────────────────────────────────────

    def run(self) -> int:
        """Run until `stop` is called or a login is refused; return the exit status."""
        self._token_watcher.start()
        try:
            ending = self._endings.get()
            self._stop.set()
            self._announcer.announce(Stopping(ending.reason))
        finally:
            self._shut_down()
        return max(self._status, ending.status)

    def stop(self, reason: str, status: int = OK) -> None:
        """Make `run` return. May be called from any thread and from a signal handler."""
        self._endings.put(Ending(reason, status))

    def _shut_down(self) -> None:
        """End every thread, revoke the token, forget the secrets; in bounded time (X1)."""
        self._stop.set()
        deadline = time.monotonic() + JOIN_SECONDS
        for worker in (self._token_watcher, *self._engines):
            if not worker.join(deadline - time.monotonic()):
                self._announcer.announce(WorkerStuck(worker.name))
        self.client.close()

    # ── What the workers do ──────────────────────────────────────────────────────────────────────────────────────────

    def _watch_token(self) -> None:
        """One look of the token watcher. The first one brings everything else to life."""
        if not self._checked_health:
            self._check_health()
        if self._once:
            self.client.login()
        else:
            self.client.keep_token_alive()
        if self.client.logged_in and not self._stop.is_set():
            for worker in self._engines:
                worker.start()

    def _check_health(self) -> None:
        self._checked_health = True
        try:
            health = self.client.health_check()
        except VaultError as error:
            self._announcer.announce(HealthCheckFailed(error))
        else:
            self._announcer.announce(HealthChecked(**vars(health)))

    def _engine_worker(self, engine: SecretEngine[Any]) -> Worker:
        name = engine.section.replace("_", "-")
        held: dict[str, Secret] = {}

        def take_turn() -> None:
            nonlocal held
            held = self._read_all(name, engine, held)
            self._had_its_turn(name)

        return self._worker(name, take_turn, partial(seconds_to_next_turn, engine))

    def _read_all(self, worker: str, engine: SecretEngine[Any], held: Mapping[str, Secret]) -> dict[str, Secret]:
        """A turn: read what config.ini names, and announce what is not as it was `held`. Returns what is held now."""
        now: dict[str, Secret] = {}
        kept: list[Secret] = []
        failures: list[VaultError] = []
        patience_ends = time.monotonic() + FIRST_TURN_SECONDS
        for outcome in engine.read_all(self._stop):
            self._let_those_before_me(worker, patience_ends)
            if isinstance(outcome, VaultError):
                failures.append(outcome)
                continue
            now[outcome.name] = outcome
            if outcome.name in held and outcome.data is held[outcome.name].data:
                kept.append(outcome)
            else:
                self._announcer.announce(SecretRead(outcome))
        if now and not self._stop.is_set():
            self._announcer.announce(TurnTaken(engine.section, read=len(now) - len(kept), kept=kept))
        self._report_failures(worker, failures)
        return now

    def _worker(self, name: str, action: Callable[[], None], interval: Callable[[], float]) -> Worker:
        return Worker(
            name,
            action,
            interval=lambda: None if self._once else interval(),
            stop=self._stop,
            on_error=partial(self._turn_failed, name),
        )

    def _turn_failed(self, worker: str, error: Exception) -> None:
        if not isinstance(error, VaultError):
            log_unexpected(worker, error)
            error = VaultError(f"unexpected {type(error).__name__}; the log says where")
        self._report_failures(worker, [error])
        if self._once and worker == self._token_watcher.name:
            self.stop("without a login there is nothing to read")
        self._had_its_turn(worker)

    def _report_failures(self, worker: str, errors: Sequence[VaultError]) -> None:
        """Announce the first few, and how many more of thousands of secrets have failed with the last of these."""
        told = errors[:MOST_FAILURES_TOLD]
        for number, error in enumerate(told, start=1):
            more = len(errors) - len(told) if number == len(told) else 0
            self._announcer.announce(TurnFailed(worker, error, 1 + more))
        if any(isinstance(error, LoginRefused) for error in errors):
            self.stop("Vault refused the login", FAILED)
        elif errors and self._once:
            self._status = FAILED

    def _let_those_before_me(self, worker: str, until: float) -> None:
        """All read at the same time, but a first screen in a fixed order is easier to read."""
        for name, had_its_turn in self._first_turns.items():
            if name == worker:
                return
            had_its_turn.wait(max(0.0, until - time.monotonic()))

    def _had_its_turn(self, worker: str) -> None:
        """Note the first turn of a secret. With `once`, the last of them is the end."""
        if worker not in self._first_turns:
            return
        self._first_turns[worker].set()
        if self._once and all(turn.is_set() for turn in self._first_turns.values()):
            self.stop("every secret was read once" if self._status == OK else "not every secret could be read")


def seconds_to_next_turn(engine: SecretEngine[Any]) -> float:
    """An interval, or less if the secret is due before: leases may be shorter than an interval."""
    interval: float = engine.settings.refresh_interval
    return max(SHORTEST_TURN_SECONDS, min(interval, engine.seconds_until_due()))


# ── The command line ─────────────────────────────────────────────────────────────────────────────────────────────────


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program; return its exit status: 0 done, 1 refused or not read, 2 configuration."""
    options = parse_arguments(arguments)
    configure_logging(options.log_level)
    try:
        config = VaultConfig.load(options.config)
        with_logins = login_check() if config.database_dynamic.check_login else None
    except ConfigurationError as error:
        report(error)
        return MISCONFIGURED
    if options.show_secrets:
        config = replace(config, console=replace(config.console, show_secrets=True))

    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # not every terminal has every sign
    console = Console(config, sys.stdout, colour=wants_colour(sys.stdout) and not options.no_color)
    screen = with_logins(console) if with_logins else console
    application = VaultApplication(config, listeners=[screen, log_event], once=options.once)
    console.on_closed = partial(application.stop, "nobody reads the output any more")
    stop_on_signals(application)
    console.banner()
    status = application.run()
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)  # all is done: a late one shall not change the exit status
    if not console.close():
        os._exit(status)  # the usual end would wait for a stdout that takes nothing
    return status


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="vault_app.py",
        description="Keeps a Vault token and the secrets of config.ini current, and shows how.",
        epilog="example: VAULT_SECRET_ID=475a6500-... python vault_app.py --once --show-secrets",
    )
    parser.add_argument("--config", metavar="PATH", default=DEFAULT_PATH, help="the settings [config.ini beside me]")
    parser.add_argument("--once", action="store_true", help="read every enabled secret once, print, revoke the token")
    parser.add_argument("--show-secrets", action="store_true", help="show values instead of a mask")
    parser.add_argument("--no-color", action="store_true", help="no colour, as with NO_COLOR=1")
    levels = ("debug", "info", "warning", "error")
    parser.add_argument("--log-level", choices=levels, default="warning", help="what to log to stderr [%(default)s]")
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    return parser.parse_args(arguments)


def configure_logging(level: str) -> None:
    """Log to stderr. The console tells of retries, so urllib3's own warnings are for --log-level debug."""
    logging.basicConfig(
        level=level.upper(), stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s [%(threadName)s] %(message)s"
    )
    if level != "debug":
        logging.getLogger("urllib3").setLevel(logging.ERROR)


def login_check() -> type[LoginCheck]:
    """The listener of [database_dynamic] check_login. Raises: ConfigurationError, without a database driver."""
    try:
        from login_check import LoginCheck  # not at the top: nothing else needs psycopg
    except ImportError as error:
        problem = "[database_dynamic] check_login: found true, expected false: psycopg is not installed"
        raise ConfigurationError([f"{problem}; pip install 'psycopg[binary]'"]) from error
    return LoginCheck


def log_event(event: Event) -> None:
    """A listener: every event, for the log. Its repr shows no secret (P1)."""
    log.info("%s", event)


def report(error: ConfigurationError) -> None:
    count = len(error.problems)
    print(f"vault_app.py: {count} problem{'s' if count > 1 else ''} in the configuration:", file=sys.stderr)
    for problem in error.problems:
        print(f"  {printable(problem)}", file=sys.stderr)


def stop_on_signals(application: VaultApplication) -> None:
    """SIGINT and SIGTERM stop the application; a second one ends the process at once (X1)."""
    first: float | None = None

    def stop(number: int, _frame: object) -> None:
        nonlocal first
        if first is None:
            first = time.monotonic()
            application.stop(f"received {signal.Signals(number).name}")
        elif time.monotonic() - first > SAME_SIGNAL_SECONDS:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)

    for number in SIGNALS:
        signal.signal(number, stop)


if __name__ == "__main__":
    sys.exit(main())
