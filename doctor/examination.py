"""The order in which things are looked at: that of a request; and what is of no use after a fault."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from config_loader import ALL_SECTIONS, VaultConfig
from vaultkit.errors import ConfigurationError
from vaultkit.settings import read_sections
from vaultkit.transport.connection import ConnectionSettings, HttpSettings, connection_problems

from .database import look_at_database
from .findings import Findings
from .login import logged_in
from .secrets import look_at_secrets
from .server import Server, look_at_server
from .token import look_at_token
from .way import look_at_way

LONGEST_REQUEST_SECONDS = 5.0
"""Of each request, where [http] timeout says more: whoever calls a doctor stands there and waits."""


def examine(path: str | Path, environ: Mapping[str, str], findings: Findings | None = None) -> Findings:
    """Look at everything from the settings to the secrets; each finding is told of as it is made.

    Raises: nothing of `vaultkit.errors`. What goes wrong is a finding.
    """
    findings = Findings() if findings is None else findings
    config = settings(Path(path), environ, findings)
    connection = config.vault if config else connection_alone(Path(path), environ)
    if connection is None:
        findings.warn("connection", "not looked at, nor what follows: first the settings of [vault] and [http]")
        return findings
    http = config.http if config else HttpSettings()
    http = dataclasses.replace(http, timeout=min(http.timeout, LONGEST_REQUEST_SECONDS))
    if not look_at_way(connection, http, environ, findings):
        findings.warn("health", "not looked at, nor what follows: first the way to the server")
        return findings
    with Server(connection, http) as server:
        if not look_at_server(server, findings):
            findings.warn("login", "not tried, nor what follows: first the server")
        elif config is None:
            findings.warn("login", "not tried, nor what follows: first the settings")
        else:
            behind_the_login(config, server, environ, findings)
    return findings


def settings(path: Path, environ: Mapping[str, str], findings: Findings) -> VaultConfig | None:
    """The settings of the application; None, if there is something wrong with them."""
    try:
        config = VaultConfig.load(path, environ)
    except ConfigurationError as error:
        for problem in error.problems:
            findings.fault("settings", problem, f"{editor(environ)} {path}    # or the variable: docs/SETTINGS.md")
        return None
    findings.ok("settings", f"{path.name} and the environment: {config.vault.auth_method} at {config.vault.where}")
    return config


def connection_alone(path: Path, environ: Mapping[str, str]) -> ConnectionSettings | None:
    """Where the server is, if of all settings at least these are right."""
    values, problems = read_sections(path, ALL_SECTIONS, environ)
    problems += connection_problems(values["vault"], environ)
    names = [each.name for each in dataclasses.fields(ConnectionSettings)]
    theirs = tuple(f"[vault] {name}:" for name in names)
    if not path.is_file() or any(problem.startswith((*theirs, "HTTP_", "HTTPS_", "VAULT_")) for problem in problems):
        return None
    found: dict[str, Any] = {name: values["vault"][name] for name in names if name in values["vault"]}
    return ConnectionSettings(**found)


def editor(environ: Mapping[str, str]) -> str:
    return environ.get("EDITOR") or "vi"


def behind_the_login(config: VaultConfig, server: Server, environ: Mapping[str, str], findings: Findings) -> None:
    """What can be seen with a token alone."""
    with logged_in(config, server, environ, findings) as token:
        if token is None:
            findings.warn("token", "not looked at, nor the secrets: first the login")
            return
        capabilities = look_at_token(config, token, findings)
        roles = look_at_secrets(config, token.api, capabilities, findings)
        if config.database_dynamic.enabled and config.database_dynamic.check_login:
            look_at_database(config, token.api, roles, findings)
