"""The database's login, where [database_dynamic] check_login asks for it: the one question that costs a lease."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress

import hvac

from config_loader import VaultConfig
from listeners.command_line import import_login_check
from vaultkit.engines.database import role_must_exist
from vaultkit.errors import ConfigurationError, VaultError
from vaultkit.secret import Secret
from vaultkit.transport.answers import expect

from .findings import Findings
from .places import Place

STEP, SECTION = "database", "database_dynamic"


def look_at_database(config: VaultConfig, api: hvac.Client, good: Sequence[Place], findings: Findings) -> None:
    """Log in with credentials of each role in which no fault was found; the lease is revoked afterwards."""
    try:
        import_login_check()
    except ConfigurationError as error:
        findings.fault(STEP, str(error), "pip install 'psycopg[binary]'")
        return
    for place in good:
        if place.section == SECTION:
            look_at_login(place, api, findings)


def look_at_login(place: Place, api: hvac.Client, findings: Findings) -> None:
    try:
        with role_must_exist(place.mount, place.name):
            answer = api.adapter.get(f"/v1/{place.path}")
        secret = Secret(engine=SECTION, name=place.name, data=expect(answer, "data", dict), clock=time)
    except VaultError as error:
        findings.fault(STEP, f"{place.path}: {error}", f"vault read {place.mount}/roles/{place.name}; pg_isready")
        return
    try:
        tell_of_login(secret, findings)
    finally:
        with suppress(VaultError):  # it ends with its token, if not before
            api.sys.revoke_lease(answer.get("lease_id"))


def tell_of_login(secret: Secret, findings: Findings) -> None:
    from listeners.login_check import within_time  # not at the top: nothing else needs psycopg

    outcome = within_time(secret)
    if outcome.error is None:
        findings.ok(STEP, f"lets us in with what {secret.name} gives")
    else:
        seen = f"does not let us in with what {secret.name} gives: {outcome.error}"
        findings.fault(STEP, seen, "pg_isready    # PGHOST, PGPORT and PGDATABASE say where it is")
