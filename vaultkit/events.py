"""What happens in the client and in the application, as small typed objects for whoever listens.

The client and the threads know nothing of their listeners: the console is one; metrics or a database pool can be the
next. A `repr` of an event shows no secret (P1), so every event is logged, too: by `logging`, under the name "vaultkit",
what calls for attention as a warning and the rest at level INFO.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass, field
from typing import ClassVar

from .secret import Secret


@dataclass(frozen=True)
class Event:
    """Something happened."""

    level: ClassVar[int] = logging.INFO
    """How loud the log tells of it."""


Listener = Callable[[Event], object]


class Trouble(Event):
    """Something that calls for attention, though the program goes on."""

    level = logging.WARNING


# ── The server and the token ─────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Health:
    """What `sys/health` says of the server."""

    initialized: bool
    sealed: bool
    standby: bool
    version: str


@dataclass(frozen=True)
class HealthChecked(Event):
    """The server was asked how it is, before the first login."""

    health: Health


@dataclass(frozen=True)
class HealthCheckFailed(Trouble):
    """The server did not say how it is; a login is tried all the same."""

    error: Exception


@dataclass(frozen=True)
class LoggedIn(Event):
    """A login succeeded. `ttl` in seconds; a `generation` above 1 is a new login, with leases of its own (T8)."""

    generation: int
    ttl: float


@dataclass(frozen=True)
class LoginFailed(Trouble):
    """A login found no server; the next one is due in `retry_in` seconds (T7)."""

    error: Exception
    retry_in: float


@dataclass(frozen=True)
class TokenRenewed(Event):
    """The token was renewed for `ttl` seconds; `last` when it cannot live much longer, and a login is next (T4)."""

    ttl: float
    last: bool


@dataclass(frozen=True)
class RenewalFailed(Trouble):
    """A renewal got no answer; the token lives on for `ttl` seconds, the next try is due in `retry_in` (T6)."""

    error: Exception
    ttl: float
    retry_in: float


@dataclass(frozen=True)
class TokenLost(Trouble):
    """The token is no longer valid, for this reason; a login follows."""

    reason: str


@dataclass(frozen=True)
class TokenRevoked(Event):
    """The token and its leases are revoked or, with an error, live on until they expire in `ttl` seconds."""

    error: Exception | None
    ttl: float


@dataclass(frozen=True)
class TokenLeft(Event):
    """The token was handed to us, so it is not revoked; it ends by itself in `ttl` seconds, and its leases with it."""

    ttl: float


# ── Secrets ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class SecretChanged(Event):
    """A secret is not what it was; `previous` is None if nothing was cached, as at the first read or after an error."""

    secret: Secret
    previous: Secret | None


@dataclass(frozen=True)
class StaleServed(Trouble):
    """A refresh got no answer; the cached secret serves on, and nobody asks Vault again for `retry_in` seconds."""

    secret: Secret
    error: Exception
    retry_in: float


@dataclass(frozen=True)
class LeaseRenewed(Event):
    """A secret is good for longer; `last` when max TTL is near, so that another one will take its place (D1)."""

    secret: Secret
    last: bool


@dataclass(frozen=True)
class NoLeaseRenewal(Trouble):
    """Leases may not be renewed, for this reason: from now on what they are of is replaced (D3)."""

    error: Exception


@dataclass(frozen=True)
class LeaseUnusable(Trouble):
    """Credentials were issued that cannot be used here, for this reason (D3).

    Their lease was given back to Vault; or else it lives on, as one of so many that were `left_behind` so far.
    """

    engine: str
    name: str
    error: Exception
    given_back: bool
    left_behind: int


@dataclass(frozen=True)
class NoVersionQuery(Trouble):
    """The version of a KV secret cannot be asked for; from now on its values are read each time (K2)."""

    error: Exception


# ── Prefixes ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class NoScan(Trouble):
    """The versions below a KV prefix are not to be had in one request: each secret is asked for its own (K5).

    So it is on every Vault, and on an OpenBao whose policy does not allow to scan. It is tried again now and then.
    """

    prefix: str
    error: Exception


@dataclass(frozen=True)
class PrefixChanged(Event):
    """These paths came below a KV prefix, and these went. They are listed; the new ones are not read yet."""

    prefix: str
    came: Set[str] = field(repr=False)
    went: Set[str] = field(repr=False)


@dataclass(frozen=True)
class PrefixStale(Trouble):
    """What is below a KV prefix got no answer; so many cached secrets serve on, for `retry_in` seconds unasked for."""

    prefix: str
    secrets: int
    error: Exception
    retry_in: float


# ── Workers ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class SecretRead(Event):
    """A worker's turn came and it holds this secret, which is not the one that it had before."""

    secret: Secret


@dataclass(frozen=True)
class DatabaseLoginChecked(Event):
    """The database was asked who these credentials are: it took us for this user or, with an error, did not let us in.

    So with [database_dynamic] check_login.
    """

    secret: Secret
    user: str | None = field(repr=False)
    error: str | None


@dataclass(frozen=True)
class TurnTaken(Event):
    """A worker's turn is over: so many secrets of this engine were read, each a `SecretRead`, the others kept."""

    engine: str
    read: int
    kept: Sequence[Secret] = field(repr=False)


@dataclass(frozen=True)
class TurnFailed(Trouble):
    """A worker's turn failed, or so many secrets in it, of which this is the first; the next turn tries again."""

    worker: str
    error: Exception
    secrets: int = 1


@dataclass(frozen=True)
class Stopping(Event):
    """The application ends, for this reason."""

    reason: str


@dataclass(frozen=True)
class WorkerStuck(Trouble):
    """This worker did not end in time; the process ends without it (X1)."""

    worker: str
