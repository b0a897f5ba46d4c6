"""What is left of a JWT, by its own claim `exp`. It is read, not checked: that is Vault's to do."""

from __future__ import annotations

import base64
import json
import time

from config_loader import VaultConfig
from vaultkit.auth.sources import from_file
from vaultkit.errors import VaultError

from .findings import Findings


def tell_of_jwt(config: VaultConfig, findings: Findings) -> None:
    """Of a JWT that stands in a file or in the settings; what an address or a command gives is asked for once alone."""
    jwt = jwt_of(config)
    if not jwt:
        return
    ends = end_of(jwt)
    if ends is None:
        findings.warn("JWT", "its end cannot be read: is it a JWT at all?")
        return
    left = ends - time.time()
    if left > 0:
        findings.ok("JWT", f"good for {left:.0f} s")
    else:
        findings.fault("JWT", f"expired {-left:.0f} s ago, by this machine's clock", "date; ls -l    # who writes it?")


def jwt_of(config: VaultConfig) -> str:
    settings = config.auth
    try:
        if config.vault.auth_method == "kubernetes":
            return from_file(settings.token_file, "[kubernetes_auth] token_file")
        if config.vault.auth_method == "jwt" and settings.jwt_file:
            return from_file(settings.jwt_file, "[jwt_auth] jwt_file")
    except VaultError:
        return ""  # the login says so
    return str(settings.jwt) if config.vault.auth_method == "jwt" else ""


def end_of(jwt: str) -> float | None:
    """The claim `exp`, in seconds since 1970; None, if there is none to be read."""
    part = [*jwt.split("."), ""][1]
    try:
        claims = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
        return float(claims["exp"])
    except (ValueError, LookupError, TypeError, RecursionError):
        return None
