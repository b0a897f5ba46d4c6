"""What an administrator sees of an AppRole and its secret_id; Vault tells nobody else.

So this is looked at only where VAULT_TOKEN (or BAO_TOKEN) is set, as it is for who prepares a server. To everybody else
Vault says "invalid role or secret ID", whatever is wrong.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

import hvac

from config_loader import VaultConfig
from vaultkit.auth.grant import usable_as_token
from vaultkit.auth.sources import from_file
from vaultkit.errors import SecretNotFound, VaultError

from .findings import Findings
from .server import Server

NEVER = "0001-01-01"
"""How Go writes a time that was never set."""


@dataclass(frozen=True)
class AppRoleSeen:
    """What was seen that explains a refused login, with the command; or that a login is not to be tried."""

    fault: str = ""
    command: str = ""
    spares_the_login: bool = False


def look_at_secret_id(
    config: VaultConfig, server: Server, environ: Mapping[str, str], findings: Findings
) -> AppRoleSeen:
    """What is left of the secret_id. Says nothing where VAULT_TOKEN is none of an administrator's."""
    token = environ.get("VAULT_TOKEN") or environ.get("BAO_TOKEN") or ""
    role = f"auth/approle/role/{config.vault.entity}"
    if not token:
        findings.ok("secret_id", f"there; how long it is good, Vault tells who may read {role}, by VAULT_TOKEN")
        return AppRoleSeen()
    try:
        api = server.connect(token=usable_as_token(token, "VAULT_TOKEN is no token"))
        return seen_by(api, role, config, findings)
    except VaultError as error:
        findings.warn("secret_id", f"there; how long it is good cannot be asked with this VAULT_TOKEN: {error}")
        return AppRoleSeen()


def seen_by(api: hvac.Client, role: str, config: VaultConfig, findings: Findings) -> AppRoleSeen:
    """Raises: an error of `vaultkit.errors`, where it may not be looked at."""
    try:
        role_id = api.adapter.get(f"/v1/{role}/role-id")["data"]["role_id"]
    except SecretNotFound:
        return AppRoleSeen(f"there is no AppRole {config.vault.entity} ([vault] entity)", "./setup-vault.sh")
    if role_id != config.vault.role_id:
        seen = f"[vault] role_id is not that of the AppRole {config.vault.entity}"
        return AppRoleSeen(seen, f'export VAULT_ROLE_ID="$(vault read -field=role_id {role}/role-id)"')
    vault = config.vault
    secret_id = from_file(vault.secret_id_file, "[vault] secret_id_file") if vault.secret_id_file else vault.secret_id
    found = api.adapter.post(f"/v1/{role}/secret-id/lookup", json={"secret_id": secret_id})
    if not found:
        seen = "the role_id is right; the secret_id is not one of it: expired, used up, destroyed, or never issued"
        return AppRoleSeen(seen, f'export VAULT_SECRET_ID="$(vault write -force -field=secret_id {role}/secret-id)"')
    return left_of(found["data"], findings)


def left_of(data: Mapping[str, Any], findings: Findings) -> AppRoleSeen:
    """How long, and for how many logins, a secret_id is good."""
    uses = int(data.get("secret_id_num_uses") or 0)
    logins = f"{uses} login{'s' if uses > 1 else ''}" if uses else "any number of logins"
    findings.ok("secret_id", f"good for {logins}, {time_left(str(data.get('expiration_time', NEVER)))}")
    if uses == 1:
        findings.warn("login", "not tried: the secret_id is good for one, which is left to the application")
    return AppRoleSeen(spares_the_login=uses == 1)


def time_left(expiration_time: str) -> str:
    """Of a time as Go writes it, cut to its seconds."""
    if expiration_time.startswith(NEVER):
        return "without an end"
    ends = datetime.strptime(expiration_time[:19], "%Y-%m-%dT%H:%M:%S").replace(tzinfo=timezone.utc)
    return f"for {(ends - datetime.now(timezone.utc)).total_seconds():.0f} s"
