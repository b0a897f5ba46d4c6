"""The server: what state it is in, and what time it has."""

from __future__ import annotations

import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from functools import partial
from types import TracebackType
from typing import Any

import hvac
import requests

from vaultkit.errors import UnexpectedResponse, VaultError
from vaultkit.transport.adapter import VaultAdapter
from vaultkit.transport.connection import ConnectionSettings, HttpSettings, connection_of
from vaultkit.transport.health import health_of
from vaultkit.transport.session import new_session

from .findings import Findings

NOTICED_SECONDS, TOO_MUCH_SECONDS = 5.0, 60.0
"""From the first on a skew is told of; from the second on, JWTs and certificates are refused for it."""


class Server:
    """Makes API clients, as the application does, and notes how the server's clock compares with ours."""

    def __init__(self, connection: ConnectionSettings, bounds: HttpSettings) -> None:
        self.url, self.where = connection.url, connection.where
        self.skew: float | None = None
        """By how many seconds the server's clock is ahead; None, where its answers have no date."""
        self._asked = time.time()
        self._session = new_session(connection_of(connection), bounds)
        self._session.hooks["response"].append(self._note_date)
        self.timeout = bounds.timeout
        namespace = connection.namespace or None
        self._new_api = partial(
            hvac.Client, url=self.url, namespace=namespace, adapter=VaultAdapter, session=self._session
        )

    def connect(self, token: str = "", timeout: float | None = None) -> hvac.Client:
        return self._new_api(token=token, timeout=timeout or self.timeout)

    def start_clock(self) -> None:
        self._asked, self.skew = time.time(), None

    def _note_date(self, response: requests.Response, *_: Any, **__: Any) -> None:
        if self.skew is None:
            self.skew = skew_of(response.headers, self._asked, time.time())

    def __enter__(self) -> Server:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._session.close()


def skew_of(headers: Mapping[str, str], asked: float, answered: float) -> float | None:
    """How far the server's clock is ahead of ours, for sure: its Date is a whole second, and was set in between."""
    try:
        date = parsedate_to_datetime(headers["Date"]).timestamp()
    except (KeyError, ValueError, TypeError):
        return None
    if date > answered:
        return date - answered
    return min(0.0, date + 1 - asked)


def look_at_server(server: Server, findings: Findings) -> bool:
    """Whether it is worth while to log in."""
    server.start_clock()
    try:
        health = health_of(server.connect())
    except UnexpectedResponse as error:
        findings.fault("health", f"what answers is no Vault: {error}", f"curl -si {server.url}/v1/sys/health")
        return False
    except VaultError as error:
        findings.fault("health", str(error), f"curl -si {server.url}/v1/sys/health")
        return False
    if not health.initialized:
        findings.fault("health", f"{health.version}, not initialised", f"vault operator init -address={server.url}")
    elif health.sealed:
        findings.fault("health", f"{health.version}, sealed", f"vault operator unseal -address={server.url}")
    elif health.standby:
        findings.warn("health", f"{health.version}, a standby, which forwards to the active node, or redirects there")
    else:
        findings.ok("health", f"{health.version}, initialised, unsealed, active")
    look_at_clock(server.skew, findings)
    return health.initialized and not health.sealed


def look_at_clock(skew: float | None, findings: Findings) -> None:
    if skew is None:
        findings.warn("clock", "not compared: the answer has no date")
        return
    seen = f"the server's is {abs(skew):.0f} s {'ahead of' if skew > 0 else 'behind'} ours"
    if abs(skew) >= TOO_MUCH_SECONDS:
        findings.fault("clock", f"{seen}: JWTs and certificates are refused", "timedatectl set-ntp true    # on both")
    elif abs(skew) >= NOTICED_SECONDS:
        findings.warn("clock", seen, "timedatectl status")
    else:
        findings.ok("clock", "the server's and ours agree, to some seconds")
