"""Hears what happens, and keeps figures of it for Prometheus: the token, the secrets, and what went wrong.

No figure holds a value, a token or an accessor, and every label comes from a closed set (P1): the engines, the kinds of
`vaultkit.errors`, and the names of secrets as config.ini has them (`metrics_of_secrets.py`).
"""

from __future__ import annotations

import time
from functools import partial, singledispatchmethod

from prometheus_client import CollectorRegistry, Counter, Gauge, Info

import vaultkit.errors
from config_loader import ENGINE_SECTIONS, VaultConfig
from listeners.metrics_of_secrets import OTHER, EngineFigures, SecretsCollector
from listeners.metrics_server import Checks, MetricsServer
from vaultkit.errors import VaultError
from vaultkit.events import (
    DatabaseLoginChecked,
    Event,
    HealthCheckFailed,
    LeaseRenewed,
    LeaseUnusable,
    LoggedIn,
    LoginFailed,
    NoLeaseRenewal,
    NoVersionQuery,
    PrefixStale,
    RenewalFailed,
    SecretChanged,
    SecretRead,
    StaleServed,
    TokenLeft,
    TokenLost,
    TokenRenewed,
    TokenRevoked,
    TurnFailed,
    TurnTaken,
)
from vaultkit.lifetime import LONG_AGO, Clock, Moment

KINDS = frozenset(
    name for name, thing in vars(vaultkit.errors).items() if isinstance(thing, type) and issubclass(thing, VaultError)
)
WORKERS = frozenset({"token-watcher", *(section.replace("_", "-") for section in ENGINE_SECTIONS)})
OPERATIONS: dict[type[Event], str] = {
    HealthCheckFailed: "health",
    LoginFailed: "login",
    RenewalFailed: "renewal",
    StaleServed: "refresh",
    PrefixStale: "refresh",
    NoLeaseRenewal: "lease",
    NoVersionQuery: "version",
}
"""What it was that failed, of the events that tell of a failure and nothing else. NoScan is none: no Vault scans."""


def kind_of(error: Exception) -> str:
    name = type(error).__name__
    return name if name in KINDS else OTHER


class MetricsListener:
    """Keeps figures in a registry. Call it with the events of `vaultkit.events`, from any thread."""

    def __init__(self, config: VaultConfig, registry: CollectorRegistry, *, version: str, clock: Clock = time) -> None:
        self._clock = clock
        self._token_ends = LONG_AGO
        enabled = [section for section in ENGINE_SECTIONS if getattr(config, section).enabled]
        self._engines = {section: EngineFigures(getattr(config, section).names, clock) for section in enabled}
        Info("vault_app", "What runs.", registry=registry).info({"version": version})
        counter, gauge = partial(Counter, registry=registry), partial(Gauge, registry=registry)
        gauge("vault_app_token_expiry_seconds", "What is left of the token's life; 0: there is none.").set_function(
            lambda: self._token_ends.left(self._clock)
        )
        self._token_ttl = gauge("vault_app_token_ttl_seconds", "How long the token was granted last; 0: there is none.")
        self._generation = gauge("vault_app_token_generation", "How many logins there were; each has its own leases.")
        self._logins = counter("vault_app_logins", "Logins that succeeded.")
        self._renewals = counter("vault_app_token_renewals", "Renewals of the token that succeeded.")
        self._lost = counter("vault_app_tokens_lost", "Tokens that ran out, or were revoked behind our back.")
        self._failures = counter("vault_app_failures", "Requests that failed, by kind.", ["operation", "kind"])
        self._worker_failures = counter("vault_app_worker_failures", "Secrets not read.", ["worker", "kind"])
        self._turns = counter("vault_app_turns", "Turns of the workers in which a secret was read.", ["engine"])
        self._changes = counter("vault_app_secret_changes", "Secrets that were replaced by others.", ["engine"])
        self._lease_renewals = counter("vault_app_lease_renewals", "Leases that were renewed.", ["engine"])
        self._left_behind = counter("vault_app_leases_left_behind", "Leases that nobody can use or revoke.", ["engine"])
        self._checks = counter("vault_app_database_login_checks", "Logins of [database_dynamic].", ["outcome"])
        for section in enabled:
            for figure in (self._turns, self._changes, self._lease_renewals, self._left_behind):
                figure.labels(section)  # from 0 on, for the first one to be an increase
        registry.register(SecretsCollector(self._engines))

    def ready(self) -> Checks:
        """Whether there is a token, and each engine has been read; for /readyz."""
        token = self._token_ends.left(self._clock) > 0 or "there is none"
        return {"token": token} | {
            section: bool(engine.held) or "nothing was read yet" for section, engine in self._engines.items()
        }

    @singledispatchmethod
    def __call__(self, event: Event) -> None:
        operation, error = OPERATIONS.get(type(event)), getattr(event, "error", None)
        if operation and isinstance(error, Exception):
            self._failures.labels(operation, kind_of(error)).inc()

    # ── The token ────────────────────────────────────────────────────────────────────────────────────────────────────

    def _granted(self, ttl: float) -> None:
        """It counts from before the request (T1), we from when we hear of it: too much by what the request took."""
        self._token_ends = Moment.now(self._clock).after(ttl)
        self._token_ttl.set(ttl)

    def _ended(self) -> None:
        self._token_ends = LONG_AGO
        self._token_ttl.set(0)

    @__call__.register
    def _(self, event: LoggedIn) -> None:
        self._granted(event.ttl)
        self._generation.set(event.generation)
        self._logins.inc()

    @__call__.register
    def _(self, event: TokenRenewed) -> None:
        self._granted(event.ttl)
        self._renewals.inc()

    @__call__.register
    def _(self, event: TokenLost) -> None:
        self._ended()
        self._lost.inc()

    @__call__.register
    def _(self, event: TokenRevoked) -> None:
        self._ended()
        if event.error is not None:
            self._failures.labels("revocation", kind_of(event.error)).inc()

    @__call__.register
    def _(self, event: TokenLeft) -> None:
        self._ended()

    # ── The secrets ──────────────────────────────────────────────────────────────────────────────────────────────────

    @__call__.register
    def _(self, event: SecretChanged) -> None:
        if event.secret.engine in self._engines and event.previous is not None:
            self._changes.labels(event.secret.engine).inc()

    @__call__.register
    def _(self, event: SecretRead) -> None:
        if event.secret.engine in self._engines:
            self._engines[event.secret.engine].read(event.secret)

    @__call__.register
    def _(self, event: TurnTaken) -> None:
        if event.engine in self._engines:
            self._engines[event.engine].end_turn(event)
            self._turns.labels(event.engine).inc()

    @__call__.register
    def _(self, event: TurnFailed) -> None:
        worker = event.worker if event.worker in WORKERS else OTHER
        self._worker_failures.labels(worker, kind_of(event.error)).inc(event.secrets)

    @__call__.register
    def _(self, event: LeaseRenewed) -> None:
        if event.secret.engine in self._engines:
            self._lease_renewals.labels(event.secret.engine).inc()

    @__call__.register
    def _(self, event: LeaseUnusable) -> None:
        self._failures.labels("lease", kind_of(event.error)).inc()
        if event.engine in self._engines and not event.given_back:
            self._left_behind.labels(event.engine).inc()

    @__call__.register
    def _(self, event: DatabaseLoginChecked) -> None:
        self._checks.labels("failed" if event.error else "ok").inc()


# ── All of it together ───────────────────────────────────────────────────────────────────────────────────────────────


def serve(config: VaultConfig, version: str) -> tuple[MetricsListener, MetricsServer]:
    """A listener, and a server that has begun to show its figures. Raises: ConfigurationError, if it cannot listen."""
    registry = CollectorRegistry()
    listener = MetricsListener(config, registry, version=version)
    return listener, MetricsServer(config.metrics.host, config.metrics.port, registry, listener.ready).start()
