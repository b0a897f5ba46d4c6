"""What happens in the client and in the application, as small typed objects for whoever listens.

The client and the threads know nothing of their listeners: the console is one, a log another; metrics or a database
pool can be the next. A `repr` of an event shows no secret (P1), so events may be logged.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass, field
from functools import partial

from shield import log_unexpected, shielded
from vault_secret import Secret


@dataclass(frozen=True)
class Event:
    """Something happened."""


@dataclass(frozen=True)
class HealthChecked(Event):
    """The server was asked how it is, before the first login."""

    version: str
    initialized: bool
    sealed: bool
    standby: bool


@dataclass(frozen=True)
class HealthCheckFailed(Event):
    """The server did not say how it is; a login is tried all the same."""

    error: Exception


@dataclass(frozen=True)
class LoggedIn(Event):
    """A login succeeded. `ttl` in seconds; a `generation` above 1 is a new login, with leases of its own (T8)."""

    generation: int
    ttl: float


@dataclass(frozen=True)
class LoginFailed(Event):
    """A login found no server; the next one is due in `retry_in` seconds (T7)."""

    error: Exception
    retry_in: float


@dataclass(frozen=True)
class TokenRenewed(Event):
    """The token was renewed for `ttl` seconds; `last` when it cannot live much longer, and a login is next (T4)."""

    ttl: float
    last: bool


@dataclass(frozen=True)
class RenewalFailed(Event):
    """A renewal got no answer; the token lives on for `ttl` seconds, the next try is due in `retry_in` (T6)."""

    error: Exception
    ttl: float
    retry_in: float


@dataclass(frozen=True)
class TokenLost(Event):
    """The token is no longer valid, for this reason; a login follows."""

    reason: str


@dataclass(frozen=True)
class SecretChanged(Event):
    """A secret is not what it was; `previous` is None if nothing was cached, as at the first read or after an error."""

    secret: Secret
    previous: Secret | None


@dataclass(frozen=True)
class StaleServed(Event):
    """A refresh got no answer; the cached secret serves on, and nobody asks Vault again for `retry_in` seconds."""

    secret: Secret
    error: Exception
    retry_in: float


@dataclass(frozen=True)
class NoVersionQuery(Event):
    """The version of a KV secret cannot be asked for; from now on its values are read each time (K2)."""

    error: Exception


@dataclass(frozen=True)
class NoScan(Event):
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
class PrefixStale(Event):
    """What is below a KV prefix got no answer; so many cached secrets serve on, for `retry_in` seconds unasked for."""

    prefix: str
    secrets: int
    error: Exception
    retry_in: float


@dataclass(frozen=True)
class SecretRead(Event):
    """A worker's turn came and it holds this secret, which is not the one that it had before.

    With [database_dynamic] check_login a listener adds who the database takes us for, or why it does not let us in.
    """

    secret: Secret
    database_user: str | None = field(default=None, repr=False)
    login_error: str | None = None


@dataclass(frozen=True)
class TurnTaken(Event):
    """A worker's turn is over: so many secrets of this engine were read, each a `SecretRead`, the others kept."""

    engine: str
    read: int
    kept: Sequence[Secret] = field(repr=False)


@dataclass(frozen=True)
class TurnFailed(Event):
    """A worker's turn failed, or so many secrets in it, of which this is the first; the next turn tries again."""

    worker: str
    error: Exception
    secrets: int = 1


@dataclass(frozen=True)
class Stopping(Event):
    """The application ends, for this reason."""

    reason: str


@dataclass(frozen=True)
class WorkerStuck(Event):
    """This worker did not end in time; the process ends without it (X1)."""

    worker: str


@dataclass(frozen=True)
class TokenRevoked(Event):
    """The token and its leases are revoked or, with an error, live on until they expire in `ttl` seconds."""

    error: Exception | None
    ttl: float


Listener = Callable[[Event], object]


class Announcer:
    """Brings events to the listeners.

    An event is posted where it happens, perhaps under a lock, and delivered where no lock is held, so that a listener
    may call the client. A listener that raises harms nobody else.
    """

    def __init__(self, listeners: Sequence[Listener] = ()) -> None:
        self._listeners = tuple(listeners)
        self._posted: deque[Event] = deque()

    def post(self, event: Event) -> None:
        self._posted.append(event)

    def deliver(self) -> None:
        while self._posted:
            try:
                event = self._posted.popleft()
            except IndexError:  # another thread was faster
                return
            for listener in self._listeners:
                shielded(partial(listener, event), partial(log_unexpected, "a listener"))

    def announce(self, event: Event) -> None:
        """Post and deliver at once."""
        self.post(event)
        self.deliver()
