"""The login: what is left of what one logs in with, and what Vault says to it."""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import hvac

from config_loader import VaultConfig
from vaultkit.auth.approle import CREATION_PATH
from vaultkit.auth.grant import usable_as_token
from vaultkit.auth.login import Login
from vaultkit.auth.sources import from_file
from vaultkit.errors import LoginRefused, Refused, SecretNotFound, VaultError
from vaultkit.transport.answers import expect, printable

from .approle import AppRoleSeen, look_at_secret_id
from .findings import Findings
from .jwt import tell_of_jwt
from .server import Server


@dataclass(frozen=True, repr=False)
class Granted:
    """The token of a login. Its value is nowhere but in `api`."""

    api: hvac.Client
    auth: Mapping[str, Any]
    is_ours: bool


@contextmanager
def logged_in(
    config: VaultConfig, server: Server, environ: Mapping[str, str], findings: Findings
) -> Iterator[Granted | None]:
    """A token, revoked afterwards if it is ours; None, if there is none to be had."""
    token = log_in(config, server, environ, findings)
    try:
        yield token
    finally:
        if token is not None and token.is_ours:
            with suppress(VaultError):
                token.api.auth.token.revoke_self()


def log_in(config: VaultConfig, server: Server, environ: Mapping[str, str], findings: Findings) -> Granted | None:
    vault = config.vault
    if wrapping := wrapping_token(config, findings):
        look_at_wrapping(wrapping, server, findings)
        return None
    tell_of_jwt(config, findings)
    role = look_at_secret_id(config, server, environ, findings) if vault.auth_method == "approle" else AppRoleSeen()
    if role.spares_the_login:
        return None
    login = Login(config.login_method(), server.connect, server=vault.where, clock=time)
    try:
        api, auth, _ = login.request(server.timeout)
    except VaultError as error:
        seen = f"{role.fault}; {error}" if role.fault else str(error)
        findings.fault("login", seen, role.command or command_for(config, error))
        return None
    finally:
        login.forget()
    whose = "" if login.token_is_ours else ", and it was handed to us"
    findings.ok("login", f"by {vault.auth_method}{whose}")
    return Granted(api, auth, login.token_is_ours)


def command_for(config: VaultConfig, error: VaultError) -> str:
    """What to type where a login of this method was refused."""
    method, settings, refusal = config.vault.auth_method, config.auth, error.__cause__
    if isinstance(error, LoginRefused) and refusal is None:
        return "vault list identity/mfa/login-enforcement    # a program has no second factor"
    if not isinstance(refusal, Refused):
        return f"id; ls -l {credentials_file(config)}"
    if isinstance(refusal, SecretNotFound):
        return f"vault auth list{in_namespace(config)}    # [vault] namespace is VAULT_NAMESPACE"
    if method == "approle":
        return f"vault write -force auth/approle/role/{config.vault.entity}/secret-id    # issues another secret_id"
    if method == "token":
        return "vault token lookup    # VAULT_TOKEN; hand over another if that one has ended"
    if method == "cert":
        return f"vault list auth/{settings.mount}/certs"
    return f"vault read auth/{getattr(settings, 'mount', method)}/role/{getattr(settings, 'role', 'NAME')}"


def credentials_file(config: VaultConfig) -> str:
    """The file that this method reads, if it reads one."""
    of_vault, of_method = config.vault.secret_id_file, config.auth
    named = [getattr(of_method, key, "") for key in ("jwt_file", "token_file")]
    return next((shlex.quote(path) for path in (of_vault, *named) if path), "")


def in_namespace(config: VaultConfig) -> str:
    return f" -namespace={config.vault.namespace}" if config.vault.namespace else ""


# ── A wrapped secret_id ──────────────────────────────────────────────────────────────────────────────────────────────


def wrapping_token(config: VaultConfig, findings: Findings) -> str:
    """The token that the secret_id is wrapped in, or ""."""
    vault = config.vault
    if vault.auth_method != "approle":
        return ""
    if not vault.wrapped_secret_id_file:
        return vault.wrapped_secret_id
    try:
        return from_file(vault.wrapped_secret_id_file, "[vault] wrapped_secret_id_file")
    except VaultError:
        return ""  # the login says so


def look_at_wrapping(wrapping: str, server: Server, findings: Findings) -> None:
    """It can be unwrapped once, which is the application's to do: it is looked up, and left as it is."""
    another = "vault write -wrap-ttl=120s -force auth/approle/role/NAME/secret-id    # and find out who unwrapped it"
    try:
        usable_as_token(wrapping, "what was handed over as a wrapped secret_id is no token")
        found = server.connect().write_data("sys/wrapping/lookup", data={"token": wrapping})
        data = expect(found, "data", dict)
        made_at = expect(data, "creation_path", str)
    except VaultError as error:
        seen = f"the wrapped secret_id was unwrapped before, or its time ran out ({error})"
        findings.fault("secret_id", seen if isinstance(error, Refused) else str(error), another)
        return
    if not CREATION_PATH.fullmatch(made_at):
        findings.fault("secret_id", f"the wrapped secret_id is forged: it was made at {printable(made_at)}", another)
        return
    findings.ok("secret_id", f"wrapped, good for at most {data.get('creation_ttl')} s from {data.get('creation_time')}")
    findings.warn("login", "not tried: a wrapped secret_id can be unwrapped once, which is left to the application")
