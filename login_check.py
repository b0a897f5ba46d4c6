"""Shows that dynamic credentials work: logs in to PostgreSQL with them and asks who we are there.

For [database_dynamic] check_login, which the demo turns on. It needs psycopg; nothing else in the program does. Where
the database is, libpq's own variables say: PGHOST, PGPORT, PGDATABASE.
"""

from __future__ import annotations

import threading
from dataclasses import replace
from queue import Empty, SimpleQueue

import psycopg

from vault_events import Event, Listener, SecretRead
from vault_http import printable

TIMEOUT_SECONDS = 3


class LoginCheck:
    """A listener in front of another: completes the news of new credentials with what the database says to them."""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener

    def __call__(self, event: Event) -> None:
        if isinstance(event, SecretRead) and event.secret.lease_id is not None:
            event = within_time(event)
        self._listener(event)


def within_time(event: SecretRead) -> SecretRead:
    """`checked_by_login`, without waiting longer for a database that lets us in and then says nothing."""
    checked: SimpleQueue[SecretRead] = SimpleQueue()
    threading.Thread(target=lambda: checked.put(checked_by_login(event)), name="login-check", daemon=True).start()
    try:
        return checked.get(timeout=TIMEOUT_SECONDS)
    except Empty:
        return replace(event, login_error=f"no answer within {TIMEOUT_SECONDS} s")


def checked_by_login(event: SecretRead) -> SecretRead:
    """The event with `database_user`, or with `login_error`, which does not name the user (P1)."""
    username, password = (str(event.secret.data.get(key, "unknown")) for key in ("username", "password"))
    try:
        with psycopg.connect(user=username, password=password, connect_timeout=TIMEOUT_SECONDS) as connection:
            row = connection.execute("SELECT current_user").fetchone()
    except psycopg.Error as error:
        reason = printable(" ".join(str(error).replace(username, "…").split()))
        return replace(event, login_error=reason)
    return replace(event, database_user=str(row[0]) if row else "")
