"""Passwords of PostgreSQL roles. Two roles take turns, NAME_a and NAME_b: so the old one is good until nobody has it.

Both are yours to make, with the same grants. The administrator's login is libpq's: PGHOST, PGUSER, PGPASSWORD and the
like; it needs no more than ADMIN OPTION on the two (and pg_signal_backend, to end the sessions of the old one).
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg import sql

from catalogue.providers import ProviderError, Values

TURNS = {"_a": "_b", "_b": "_a"}
CONNECT_SECONDS = 10


class PostgresProvider:
    """The label is the role's name. The secret has `username` and `password`."""

    def __init__(self, **place: Any) -> None:
        self._place = {"connect_timeout": CONNECT_SECONDS, **place}
        """What is not given here says the environment."""

    def label(self, values: Values) -> str:
        return values.get("username", "")

    def next(self, label: str) -> str:
        if label[-2:] not in TURNS:
            raise ProviderError(f"found the username {label or '(none)'}, expected one that ends with _a or _b")
        return label[:-2] + TURNS[label[-2:]]

    def make(self, label: str) -> dict[str, str]:
        """A statement may be logged by the server: so it is told a SCRAM verifier, and never the password."""
        password = secrets.token_urlsafe(32)
        with self._connection() as connection:
            verifier = connection.pgconn.encrypt_password(password.encode(), label.encode(), b"scram-sha-256").decode()
            statement = sql.SQL("ALTER ROLE {} LOGIN PASSWORD {}")
            connection.execute(statement.format(sql.Identifier(label), sql.Literal(verifier)))
        return {"username": label, "password": password}

    def test(self, values: Values) -> None:
        with self._connection(user=values.get("username", ""), password=values.get("password", "")) as connection:
            connection.execute("SELECT 1")

    def retire(self, label: str) -> None:
        """No login, and no session that was opened before."""
        with self._connection() as connection:
            if not connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [label]).fetchone():
                return
            connection.execute(sql.SQL("ALTER ROLE {} NOLOGIN PASSWORD NULL").format(sql.Identifier(label)))
            connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = %s", [label])

    @contextmanager
    def _connection(self, **user: str) -> Iterator[psycopg.Connection[Any]]:
        try:
            with psycopg.connect(**{**self._place, **user}, autocommit=True) as connection:
                yield connection
        except psycopg.Error as error:
            said = error.diag.message_primary or str(error).strip().splitlines()[0]
            raise ProviderError(f"PostgreSQL: {said}") from None
