"""What the pools of this folder share: which connection was opened under which credentials, and when it has to go.

A database looks at a password when a connection is opened, and never again. So a pool that only hands out new
credentials keeps its old connections, until Vault drops their user in the middle of a query. Here each connection
carries the credentials that it was opened with. When Vault gives others, the old connections go one after the other, as
they are taken out of the pool: no query is cut, and the database does not see them all come back at once.

A pool that comes along into a child, as with gunicorn's preload or multiprocessing, is an empty one there: it logs in
for itself when it is first used, and what the parent had opened goes on as the parent's alone (T10).
"""

from __future__ import annotations

import logging
import math
import os
import socket
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from operator import methodcaller
from typing import Any, Protocol, TypeVar
from weakref import WeakKeyDictionary

import psycopg

from vault_client import VaultClient
from vaultkit.errors import VaultError
from vaultkit.events import Event, SecretChanged
from vaultkit.secret import Secret
from vaultkit.worker import Worker

LONGEST_LOOK_SECONDS = 10.0
STOP_SECONDS = 1.0
SHORTEST_LOOK_SECONDS = 0.1
LOOKS_PER_TTL = 10
PACE_SECONDS = 0.02
"""Between two connections that are replaced, so that a pool of 50 is through within a second."""
REPLACING_SECONDS = 2.0
"""How long after a change the keeper hurries."""
URGENT_SECONDS = 0.2
"""With so little of a lease left, nothing waits for its turn."""
IN_VAIN_SECONDS = 60.0
"""Where other credentials did not help, how long until it is worth a lease to try that again."""

REFUSALS = (
    "authentication failed",  # the password is wrong or expired, or the user is gone
    "is not permitted to log in",
    "pg_hba.conf",  # it admits the members of a group, and so not a user that is gone
    'FATAL:  role "',  # … does not exist
    "no such user",  # PgBouncer
)
OTHER_TROUBLE = (
    "too many",
    "connection slots",
    "no more connections",
    'database "',  # … does not exist, or is closed to this user
    "starting up",
    "shutting down",
    "not yet accepting connections",
    "closed the connection",
)
"""What a server may say to anybody, also after it has asked for a password."""

log = logging.getLogger(__name__)


class Connection(Protocol):
    """What is asked of a driver's connection."""

    @property
    def closed(self) -> bool: ...
    def close(self) -> Any: ...
    def fileno(self) -> int: ...


ConnectionT = TypeVar("ConnectionT", bound=Connection)


class Rotation:
    """Keeps one pool on the credentials that Vault gives now, from `start` to `stop`.

    Whoever makes one hands it to `start_anew_in_children`, once its pool is complete.

    `credentials` asks the client for them, such as `partial(vault.get_database_static_secret, "db-demo-static")`.
    `cycle` takes the idle connections out of the pool and puts them back: a pool that nobody uses must let go, too.
    `empty` makes it a pool without connections and with new locks, in a child; it must neither block nor close any.
    `close` closes a connection that nobody uses, at once, in whatever thread.
    """

    def __init__(
        self,
        vault: VaultClient,
        credentials: Callable[[], Secret],
        *,
        cycle: Callable[[], object],
        empty: Callable[[], object],
        close: Callable[[Any], object] = methodcaller("close"),
    ) -> None:
        self._vault = vault
        self._credentials = credentials
        self._cycle = cycle
        self._empty = empty
        self._close = close
        self._leave: Callable[[], object] = lambda: None
        self._inherited: list[Connection] = []
        """The parent's. Kept, for drivers warn of an open connection that is forgotten."""
        self._set_up()

    def _set_up(self) -> None:
        self._revision = 0
        self._name = ""
        """Of the credentials, once they have been seen: a role."""
        self._changed = 0.0
        self._pause = SHORTEST_LOOK_SECONDS
        self._reported: type[Exception] | None = None
        self._opened: WeakKeyDictionary[Connection, Secret] = WeakKeyDictionary()
        self._lock = threading.Lock()  # held to change any of these, never during a request
        self._next_turn = 0.0
        self._in_vain_until = 0.0
        self._stop = threading.Event()
        self._keeper = Worker(
            "pool-keeper", self._keep, interval=self._seconds_to_next_look, stop=self._stop, on_error=self._report
        )

    def start(self) -> None:
        """Start the keeper, unless it was started before; in a child, when the pool is first used."""
        with self._lock:
            self._leave()
            self._leave = self._vault.listen(self._hear)
            self._keeper.start()

    def stop(self) -> None:
        self._leave()
        self._stop.set()
        self._keeper.join(STOP_SECONDS)

    def _hear(self, event: Event) -> None:
        """Whoever learned that the credentials have changed: the keeper need not find out by itself."""
        if isinstance(event, SecretChanged) and event.secret.name == self._name:
            self._keeper.wake()

    def start_anew(self) -> None:
        """In the child of a fork: no connection, no credentials, no thread, and locks of its own (T10)."""
        opened = list(self._opened)
        cut_off(opened)
        self._inherited += opened
        self._set_up()
        self._empty()

    def is_inherited(self, connection: Connection) -> bool:
        """Whether it was opened by the parent, and is good for nothing here."""
        return connection in self._inherited

    # ── Opening a connection ─────────────────────────────────────────────────────────────────────────────────────────

    def connect(self, open_with: Callable[[Secret], ConnectionT]) -> ConnectionT:
        """Open a connection under the credentials of now. Raises: psycopg.OperationalError, or a VaultError.

        One that was on its way while the credentials changed is not kept: whoever looked for old connections just then
        has missed it (HikariCP #1836). Should they have changed again, the second one goes like any other.
        """
        secret, connection = self._open(open_with)
        try:
            changed = self._look().revision > secret.revision
        except VaultError:
            self._close(connection)
            raise
        if changed:
            self._close(connection)
            secret, connection = self._open(open_with)
        with self._lock:
            self._opened[connection] = secret
        return connection

    def _open(self, open_with: Callable[[Secret], ConnectionT]) -> tuple[Secret, ConnectionT]:
        secret = self._look()
        try:
            return secret, open_with(secret)
        except psycopg.OperationalError as error:
            if not is_refusal(error) or time.monotonic() < self._in_vain_until:
                raise
        # A static password rotates, and an operator revokes a lease, before we hear of it: ask Vault anew, once.
        return self._open_instead_of(secret, open_with)

    def _open_instead_of(
        self, refused: Secret, open_with: Callable[[Secret], ConnectionT]
    ) -> tuple[Secret, ConnectionT]:
        secret = self._vault.get_instead_of(refused)
        try:
            return secret, open_with(secret)
        except psycopg.OperationalError:
            # Others were refused as well, so it is not for them. (A static password may have rotated again, and to ask
            # for it costs nothing.)
            if secret.lease_id is not None and secret.revision > refused.revision:
                self._in_vain_until = time.monotonic() + IN_VAIN_SECONDS
            raise

    def _look(self) -> Secret:
        secret = self._credentials()
        with self._lock:
            self._name = secret.name
            self._prolong(secret)
            if secret.revision > self._revision:  # a slower thread may come with an older one
                self._revision, self._changed = secret.revision, time.monotonic()
        return secret

    def _prolong(self, renewed: Secret) -> None:
        """Connections were opened under these credentials, whose lease may have been renewed since."""
        for connection, secret in list(self._opened.items()):
            if secret.lease_id == renewed.lease_id and lease_left(secret) < lease_left(renewed):
                self._opened[connection] = renewed

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
        return secret.revision < self._revision or lease_left(secret) == 0

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


def is_refusal(error: psycopg.OperationalError) -> bool:
    """Whether a database said no to the user or the password. Other credentials may help then, and then only.

    A failed connect carries no SQLSTATE, and libpq offers no way to ask for it: there are words, in the language of the
    server. What tells in any language is that it had asked for the password; what it says then is taken for a refusal,
    unless it is known to be something else.
    """
    if error.sqlstate is not None:
        return error.sqlstate.startswith("28")
    said = str(error)
    if any(words in said for words in REFUSALS):
        return True
    asked_for_password = error.pgconn is not None and error.pgconn.used_password
    return asked_for_password and not any(words in said for words in OTHER_TROUBLE)


def cut_off(inherited: Iterable[Connection]) -> None:
    """Have the sockets of these connections lead nowhere in this process; in the parent they go on.

    Whoever still holds such a connection gets an error at the first query, and to close it says goodbye to nobody. Left
    as they were, two processes would talk on one connection, and the child's end would end the parent's session.
    """
    nowhere, other_end = socket.socketpair()
    other_end.close()
    with nowhere:
        for connection in inherited:
            with suppress(psycopg.Error):  # it is closed
                os.dup2(nowhere.fileno(), connection.fileno(), inheritable=False)


def lease_left(secret: Secret) -> float:
    """Seconds until Vault drops the user; `inf` for a static one, whose sessions go on under a rotated password."""
    return math.inf if secret.lease_id is None or secret.ttl is None else secret.ttl
