"""What happens, in one line each, with the rule of docs/RULES.md that is at work. No value of a secret in it (P1)."""

from __future__ import annotations

from functools import singledispatch
from typing import NamedTuple

from listeners.words import engine_named, facts, seconds
from vaultkit.errors import LoginRefused, NoAnswer, PermissionDenied, SecretDeleted
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
    StaleServed,
    Stopping,
    TokenLeft,
    TokenLost,
    TokenRenewed,
    TokenRevoked,
    TurnFailed,
    WorkerStuck,
)
from vaultkit.secret import Secret
from vaultkit.token import RUN_OUT
from vaultkit.transport.answers import printable


class Told(NamedTuple):
    """An event in words, and the rule that it shows."""

    text: str
    rule: str | None = None


RULES_OF_ENGINES = {"kv_secret": "K1", "database_dynamic": "D1", "database_static": "S1", "pki": "P2"}
RULES_OF_ERRORS: tuple[tuple[type[Exception], str], ...] = (
    (SecretDeleted, "K3"),
    (LoginRefused, "T7"),
    (PermissionDenied, "T9"),
    (NoAnswer, "C2"),
)


@singledispatch
def told(event: Event) -> Told | None:
    """How to tell of it; None of what is not worth a line, such as a turn in which nothing was new."""
    return None


def named(secret: Secret) -> str:
    return f"{engine_named(secret.engine).title} {printable(secret.name)}"


# ── The server and the token ─────────────────────────────────────────────────────────────────────────────────────────


@told.register
def _(event: HealthChecked) -> Told:
    health = event.health
    state = "sealed" if health.sealed else "standby" if health.standby else "active"
    return Told(f"Vault {printable(health.version)} is {state if health.initialized else 'not initialised'}")


@told.register
def _(event: HealthCheckFailed) -> Told:
    return Told(f"Health check failed: {event.error}", "E1")


@told.register
def _(event: LoggedIn) -> Told:
    ttl = seconds(event.ttl)
    if event.generation == 1:
        return Told(f"Logged in (TTL: {ttl})", "T1")
    return Told(f"Logged in anew: token generation {event.generation} (TTL: {ttl})", "T8")


@told.register
def _(event: LoginFailed) -> Told:
    return Told(f"Login failed: {event.error}; next try in {seconds(event.retry_in)}", "T7")


@told.register
def _(event: TokenRenewed) -> Told:
    if event.last:
        return Told(f"Token renewed (TTL: {seconds(event.ttl)}); max TTL is near, a login is next", "T4")
    return Told(f"Token renewed (TTL: {seconds(event.ttl)})", "T3")


@told.register
def _(event: RenewalFailed) -> Told:
    left = f"it lives for {seconds(event.ttl)}, next try in {seconds(event.retry_in)}"
    return Told(f"Token not renewed: {event.error}; {left}", "T6")


@told.register
def _(event: TokenLost) -> Told:
    rule = "T1" if event.reason == RUN_OUT else "T7" if "renew" in event.reason else "T9"
    return Told(f"Token lost: {event.reason}; logging in anew", rule)


@told.register
def _(event: TokenRevoked) -> Told:
    if event.error is None:
        return Told("Token revoked, and its leases with it", "X1")
    return Told(f"Token not revoked: {event.error}; it ends by itself in {seconds(event.ttl)}", "X1")


@told.register
def _(event: TokenLeft) -> Told:
    return Told(f"Token left alone, for it was handed to us (TTL: {seconds(event.ttl)})", "X1")


# ── The secrets ──────────────────────────────────────────────────────────────────────────────────────────────────────


@told.register
def _(event: SecretChanged) -> Told:
    secret, rule = event.secret, RULES_OF_ENGINES.get(event.secret.engine)
    if event.previous is None:
        return Told(f"{named(secret)} read {facts(secret)}", rule)
    return Told(f"{named(secret)}: {engine_named(secret.engine).words_of_change(event.previous, secret)}", rule)


@told.register
def _(event: StaleServed) -> Told:
    return Told(f"{named(event.secret)} not refreshed: {event.error}; the cached one serves on", "K4")


@told.register
def _(event: LeaseRenewed) -> Told:
    near_the_end = "; max TTL is near, new credentials are next" if event.last else ""
    return Told(f"{named(event.secret)} lease renewed {facts(event.secret)}{near_the_end}", "D1")


@told.register
def _(event: NoLeaseRenewal) -> Told:
    return Told(f"No lease renewal, so credentials are replaced when their time is up: {event.error}", "D3")


@told.register
def _(event: LeaseUnusable) -> Told:
    lease = "the lease was given back" if event.given_back else f"leases left behind so far: {event.left_behind}"
    return Told(f"Issued and of no use: {event.error}; {lease}", "D3")


@told.register
def _(event: NoVersionQuery) -> Told:
    return Told(f"No KV version query, so the values are read each time: {event.error}", "K2")


@told.register
def _(event: NoScan) -> Told:
    return Told(f"No KV scan, so each secret below {event.prefix} is asked for its version: {event.error}", "K5")


@told.register
def _(event: PrefixChanged) -> Told:
    return Told(f"KV {event.prefix}: {len(event.came):,} came, {len(event.went):,} went", "K5")


@told.register
def _(event: PrefixStale) -> Told:
    return Told(f"KV {event.prefix} not refreshed: {event.error}; {event.secrets:,} cached secrets serve on", "K4")


@told.register
def _(event: DatabaseLoginChecked) -> Told:
    if event.error is not None:
        return Told(f"No login to the database: {event.error}")
    return Told("The database lets us in with the new credentials")


# ── The workers ──────────────────────────────────────────────────────────────────────────────────────────────────────


@told.register
def _(event: TurnFailed) -> Told:
    more = f" (and {event.secrets - 1:,} more)" if event.secrets > 1 else ""
    rule = next((rule for kind, rule in RULES_OF_ERRORS if isinstance(event.error, kind)), None)
    return Told(f"{event.worker}: {event.error}{more}", rule)


@told.register
def _(event: Stopping) -> Told:
    return Told(f"Stopping: {event.reason}", "X1")


@told.register
def _(event: WorkerStuck) -> Told:
    return Told(f"{event.worker} is stuck in a request; ending without it", "X1")
