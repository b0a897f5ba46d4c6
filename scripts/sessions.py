"""Ends sessions in a PostgreSQL through Vault's own connection to it, which reaches the database where we may not.

A session outlives its user: who opened one before the user was dropped goes on. Vault runs the statements of a database
role when credentials of it are read; so a role of ours, which is taken away again, runs what ends them.
"""

from __future__ import annotations

from collections.abc import Iterable

import hvac

from vaultkit.errors import RequestRejected

ROLE = "break-glass-sessions"
PLUGIN = "postgresql-database-plugin"
WAIT_MILLISECONDS = 5000
STATEMENT = """DO $$
DECLARE
  pids integer[];
  target integer;
BEGIN
  -- First found, then ended: in one query PostgreSQL may call a function before it looks at the conditions beside it.
  SELECT array_agg(pid) INTO pids FROM pg_stat_activity
    WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()
      AND ((usename IS NULL AND usesysid IS NOT NULL) OR usename IN ({names}));
  FOREACH target IN ARRAY coalesce(pids, '{{}}') LOOP
    IF NOT pg_terminate_backend(target, {milliseconds}) THEN
      RAISE EXCEPTION 'a session is still open';
    END IF;
  END LOOP;
END $$;"""


def statement(users: Iterable[str]) -> str:
    """What ends the sessions of users that are gone, and of these (PostgreSQL 14 or newer)."""
    names = ", ".join(map(quoted, users)) or "NULL"
    return STATEMENT.format(names=names, milliseconds=WAIT_MILLISECONDS)


def quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def end_sessions(api: hvac.Client, mount: str, connection: str, users: Iterable[str]) -> None:
    """End the sessions of dropped users and of `users`. Raises: RequestRejected for another database than PostgreSQL;
    what a request raises, also if a session is still open afterwards.
    """
    plugin = api.read(f"{mount}config/{connection}")["data"]["plugin_name"]
    if plugin != PLUGIN:
        raise RequestRejected(f"it is served by {plugin}, expected {PLUGIN}; end them in the database itself")
    role = {"db_name": connection, "default_ttl": "1m", "creation_statements": statement(users)}
    api.write_data(f"{mount}roles/{ROLE}", data=role)
    try:
        lease = api.read(f"{mount}creds/{ROLE}")["lease_id"]
        api.write_data("sys/leases/revoke", data={"lease_id": lease, "sync": True})  # of a user that was never made
    finally:
        api.delete(f"{mount}roles/{ROLE}")
