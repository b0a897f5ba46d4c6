"""Database credentials on request, given back when done: a user of its own for a piece of work.

When to use it: in a job that needs the database for minutes, such as a migration, a report, or a request that must be
told from all others in the database's log. It costs a request to Vault, a user made, and a user dropped, each time.
For connections that stay, see `vault_pool`.

    with credentials(vault, "db-demo-dynamic") as login:
        with psycopg.connect("host=db.example.com dbname=shop", **conninfo(login)) as connection:
            connection.execute("SELECT current_user")

The user lives until the end of the block, also where that is an exception, and no longer than its lease.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager

from vault_client import VaultClient
from vaultkit.errors import ClientClosed, NoAnswer, VaultError
from vaultkit.secret import Secret

log = logging.getLogger("recipes")


@contextmanager
def credentials(vault: VaultClient, role: str) -> Iterator[Secret]:
    """Credentials of the caller's own, revoked at the end of the block. Raises: an error of `vaultkit.errors`.

    `login.ttl` says how many seconds are left: nobody renews them, so that the lease must last for the work.
    """
    login = issue(vault, role)
    owner = os.getpid()
    try:
        yield login
    finally:
        if os.getpid() == owner:  # a child that was forked in the block leaves to its parent what is the parent's (T10)
            give_back(vault, login.lease_id, role)


def issue(vault: VaultClient, role: str) -> Secret:
    """Past the cache, which has the same ones for all. The engine sees to it that the token lives as long (D2)."""
    try:
        return vault.engines["database_dynamic"].fetch(role, None).secret
    except NoAnswer as error:
        give_back(vault, error.lease_id, role)  # what was issued and cannot be read (D3)
        raise


def give_back(vault: VaultClient, lease_id: str | None, role: str) -> None:
    """Have the user dropped now. That it cannot be is a warning: the work is done, and the lease ends by itself."""
    if not lease_id:
        return
    try:
        vault.ask(lambda api: api.sys.revoke_lease(lease_id))
    except ClientClosed:
        pass  # it revoked its token, and with that its leases
    except VaultError as error:
        log.warning("credentials of %s were not given back, and live to the end of their lease: %s", role, error)


def conninfo(login: Secret) -> dict[str, str]:
    """Who to connect as, in the words of psycopg and libpq."""
    return {"user": login.data["username"], "password": login.data["password"]}
