"""Shows that dynamic credentials work: logs in to PostgreSQL with them and asks who we are there.

For [database_dynamic] check_login, which the demo turns on. It needs psycopg; nothing else in the program does. Where
the database is, libpq's own variables say: PGHOST, PGPORT, PGDATABASE.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from queue import Empty, SimpleQueue

import psycopg

from vaultkit.announcer import Announcer
from vaultkit.events import DatabaseLoginChecked, Event, SecretRead
from vaultkit.secret import Secret
from vaultkit.transport.answers import printable

ENGINE = "database_dynamic"
TIMEOUT_SECONDS = 3


class LoginCheck:
    """A listener that announces, of new dynamic credentials, what the database says to them.

    It does so from a thread of its own, so that no worker waits for a database. With `wait` it waits all the same, no
    longer than TIMEOUT_SECONDS: where the program is about to end, and the credentials with it.
    """

    def __init__(self, announcer: Announcer, *, wait: bool = False) -> None:
        self._announcer = announcer
        self._wait = wait

    def __call__(self, event: Event) -> None:
        if not isinstance(event, SecretRead) or event.secret.engine != ENGINE:
            return
        if self._wait:
            self._check(event.secret)
        else:
            in_background(partial(self._check, event.secret))

    def _check(self, secret: Secret) -> None:
        self._announcer.announce(within_time(secret))


def within_time(secret: Secret) -> DatabaseLoginChecked:
    """`checked_by_login`, without waiting longer for a database that lets us in and then says nothing."""
    answers: SimpleQueue[DatabaseLoginChecked] = SimpleQueue()
    in_background(lambda: answers.put(checked_by_login(secret)))
    try:
        return answers.get(timeout=TIMEOUT_SECONDS)
    except Empty:
        return DatabaseLoginChecked(secret, user=None, error=f"no answer within {TIMEOUT_SECONDS} s")


def in_background(action: Callable[[], object]) -> None:
    threading.Thread(target=action, name="login-check", daemon=True).start()


def checked_by_login(secret: Secret) -> DatabaseLoginChecked:
    """Who the database takes us for; or why it does not let us in, which does not name the user (P1)."""
    username, password = (str(secret.data.get(key, "unknown")) for key in ("username", "password"))
    try:
        with psycopg.connect(user=username, password=password, connect_timeout=TIMEOUT_SECONDS) as connection:
            row = connection.execute("SELECT current_user").fetchone()
    except psycopg.Error as error:
        reason = printable(" ".join(str(error).replace(username, "…").split()))
        return DatabaseLoginChecked(secret, user=None, error=reason)
    return DatabaseLoginChecked(secret, user=str(row[0]) if row else "", error=None)
