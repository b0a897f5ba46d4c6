"""What the pools of this folder share: which connection was opened under which credentials, and when it has to go.

A database looks at a password when a connection is opened, and never again. So a pool that only hands out new
credentials keeps its old connections, until Vault drops their user in the middle of a query. Here each connection
carries the credentials that it was opened with. When Vault gives others, the old connections go one after the other, as
they are taken out of the pool: no query is cut, and the database does not see them all come back at once.

After a fork make the client and the pool anew: threads and locks do not come along.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable
from typing import Protocol, TypeVar
from weakref import WeakKeyDictionary

import psycopg

from vault_client import VaultClient
from vault_errors import VaultError
from vault_secret import Secret
from worker import Worker

LONGEST_LOOK_SECONDS = 1.0
SHORTEST_LOOK_SECONDS = 0.1
LOOKS_PER_TTL = 10
PACE_SECONDS = 0.02
"""Between two connections that are replaced, so that a pool of 50 is through within a second."""
REPLACING_SECONDS = 2.0
"""How long after a change the keeper hurries."""
URGENT_SECONDS = 0.2
"""With so little of a lease left, nothing waits for its turn."""
REFUSED = "password authentication failed"
"""PostgreSQL's words for a wrong password and for a user that is gone; a failed connect carries no SQLSTATE."""

log = logging.getLogger(__name__)


class Connection(Protocol):
    """What is asked of a driver's connection."""

    @property
    def closed(self) -> bool: ...
    def close(self) -> None: ...


ConnectionT = TypeVar("ConnectionT", bound=Connection)


class Rotation:
    """Keeps one pool on the credentials that Vault gives now, from `start` to `stop`.

    `credentials` asks the client for them, such as `partial(vault.get_database_static_secret, "db-demo-static")`.
    `cycle` takes the idle connections out of the pool and puts them back: a pool that nobody uses must let go, too.
    """

    def __init__(self, vault: VaultClient, credentials: Callable[[], Secret], cycle: Callable[[], object]) -> None:
        self._vault = vault
        self._credentials = credentials
        self._cycle = cycle
        self._generation = 0
        self._changed = 0.0
        self._pause = SHORTEST_LOOK_SECONDS
        self._reported: type[Exception] | None = None
        self._opened: WeakKeyDictionary[Connection, Secret] = WeakKeyDictionary()
        self._lock = threading.Lock()  # held to change any of these, never during a request
        self._next_turn = 0.0
        self._stop = threading.Event()
        self._keeper = Worker(
            "pool-keeper", self._keep, interval=self._seconds_to_next_look, stop=self._stop, on_error=self._report
        )

    def start(self) -> None:
        self._keeper.start()

    def stop(self) -> None:
        self._stop.set()
        self._keeper.join(LONGEST_LOOK_SECONDS)

    # ── Opening a connection ─────────────────────────────────────────────────────────────────────────────────────────

    def connect(self, open_with: Callable[[Secret], ConnectionT]) -> ConnectionT:
        """Open a connection under the credentials of now. Raises: psycopg.OperationalError, or a VaultError.

        One that was on its way while the credentials changed is not kept: whoever looked for old connections just then
        has missed it (HikariCP #1836). Should they have changed again, the second one goes like any other.
        """
        secret, connection = self._open(open_with)
        try:
            changed = self._look().generation > secret.generation
        except VaultError:
            connection.close()
            raise
        if changed:
            connection.close()
            secret, connection = self._open(open_with)
        with self._lock:
            self._opened[connection] = secret
        return connection

    def _open(self, open_with: Callable[[Secret], ConnectionT]) -> tuple[Secret, ConnectionT]:
        secret = self._look()
        try:
            return secret, open_with(secret)
        except psycopg.OperationalError as error:
            if REFUSED not in str(error):
                raise
        # A static password rotates, and an operator revokes a lease, before we hear of it: ask Vault anew, once.
        secret = self._vault.get_instead_of(secret)
        return secret, open_with(secret)

    def _look(self) -> Secret:
        secret = self._credentials()
        with self._lock:
            if secret.generation > self._generation:  # a slower thread may come with an older one
                self._generation, self._changed = secret.generation, time.monotonic()
        return secret

    # ── Letting go of it ─────────────────────────────────────────────────────────────────────────────────────────────

    def must_go(self, connection: Connection, *, patient: bool = False) -> bool:
        """Whether to close this connection, which is just being taken out of the pool, and to open another.

        At the latest when its lease has ended; `patient` means not before.
        """
        with self._lock:
            secret = self._opened.get(connection)
            if secret is None or not self._is_old(secret):
                return False
            now = time.monotonic()
            early = patient or (now < self._next_turn and lease_left(secret) > URGENT_SECONDS)
            if early and lease_left(secret) > 0:
                return False
            self._next_turn = now + PACE_SECONDS
            return True

    def _is_old(self, secret: Secret) -> bool:
        return secret.generation < self._generation or lease_left(secret) == 0

    # ── The keeper ───────────────────────────────────────────────────────────────────────────────────────────────────

    def _keep(self) -> None:
        """Ask for the credentials, so that no query has to wait for that, and replace idle connections."""
        self._pause = LONGEST_LOOK_SECONDS  # if there is no answer
        try:
            ttl = self._look().ttl or 0.0
            self._pause = min(LONGEST_LOOK_SECONDS, max(SHORTEST_LOOK_SECONDS, ttl / LOOKS_PER_TTL))
        finally:
            if self._has_old_connections():
                self._cycle()
        self._reported = None

    def _has_old_connections(self) -> bool:
        with self._lock:
            return any(self._is_old(secret) for connection, secret in self._opened.items() if not connection.closed)

    def _seconds_to_next_look(self) -> float:
        """Soon, for a while after a change; what is old later is in use, and is looked at when it comes back."""
        is_recent = time.monotonic() < self._changed + REPLACING_SECONDS
        return PACE_SECONDS if is_recent and self._has_old_connections() else self._pause

    def _report(self, error: Exception) -> None:
        if type(error) is self._reported:  # an outage is told of once
            return
        self._reported = type(error)
        # The kind is enough: the text of a database's error names the user.
        log.warning("pool-keeper: %s", error if isinstance(error, VaultError) else type(error).__name__)


def lease_left(secret: Secret) -> float:
    """Seconds until Vault drops the user; `inf` for a static one, whose sessions go on under a rotated password."""
    return math.inf if secret.lease_id is None or secret.ttl is None else secret.ttl
