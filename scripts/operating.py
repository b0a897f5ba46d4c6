"""What the scripts share: an administrator's client, what is printed, and the status with which a script ends."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from typing import Any

import hvac

from config_loader import VaultConfig
from listeners.signals import SignalHandler
from vault_client import VaultClient
from vaultkit.errors import ConfigurationError, LoginUnavailable, NoAnswer, SecretNotFound, VaultError
from vaultkit.settings import variable

OK, REFUSED, USAGE, AWAY = range(4)
"""All is well; Vault said no, or something is not as it must be; called wrongly; no answer from Vault."""
LONGEST_ANSWER = 2**26
"""Bytes, for the lists of a whole server."""


def administrators_token() -> str:
    """The token in VAULT_TOKEN or BAO_TOKEN, or "" if there is none."""
    return os.environ.get("VAULT_TOKEN") or os.environ.get("BAO_TOKEN") or ""


def administrator() -> hvac.Client:
    """An API client with the administrator's token. Raises: ConfigurationError without one; what a request raises."""
    token = administrators_token()
    if not token:
        raise ConfigurationError(["VAULT_TOKEN is not set; it takes the token of an administrator"])
    handed_over = {"token": token, "token_file": "", "role": ""}
    environ = {variable("token_auth", key): value for key, value in handed_over.items()}
    environ |= {variable("http", key): str(LONGEST_ANSWER) for key in ("max_response_size", "max_listing_size")}
    return log_in({**os.environ, "VAULT_AUTH_METHOD": "token", **environ})


def log_in(environ: dict[str, str]) -> hvac.Client:
    """An API client with a token of its own, as the application logs in with these variables."""
    api: hvac.Client = VaultClient(VaultConfig.load(environ=environ)).ask(lambda api: api)
    return api


def keys_at(api: hvac.Client, path: str) -> list[str]:
    """What is listed at a path; nothing where Vault knows of nothing (404)."""
    try:
        answer: dict[str, Any] = api.list(path)
    except SecretNotFound:
        return []
    return list(answer["data"]["keys"])


def keys_below(api: hvac.Client, path: str) -> list[str]:
    """All that is listed at a path that ends with a slash, and in its folders."""
    found = []
    for key in keys_at(api, path):
        found += keys_below(api, path + key) if key.endswith("/") else [path + key]
    return found


def tell(line: str) -> None:
    print(line, flush=True)


# ── The end ──────────────────────────────────────────────────────────────────────────────────────────────────────────


class Interruption:
    """Remembers a signal until a step is done, so that nothing is issued that nobody then gives back.

    A second signal ends the script at once.
    """

    def __init__(self) -> None:
        self._names: list[str] = []
        SignalHandler(self._names.append)

    def check(self) -> None:
        """Raises: SystemExit, if a signal came."""
        if self._names:
            raise SystemExit(128 + signal.Signals[self._names[0]])


def status_of(error: VaultError) -> int:
    """With which status a script ends that had this error."""
    if isinstance(error, ConfigurationError):
        return USAGE
    if isinstance(error, NoAnswer) and not isinstance(error, LoginUnavailable):
        return AWAY
    return REFUSED


def ending(main: Callable[[], int], program: str) -> int:
    """The status of `main`; that of the error that it raised, after its words."""
    try:
        return main()
    except VaultError as error:
        print(f"{program}: {error}", file=sys.stderr)
        return status_of(error)
