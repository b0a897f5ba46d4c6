"""An issuer on the real server, as setup/issuer prepares it for an entity of its own, and services that take tokens."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import hvac

from config_loader import VaultConfig
from issuer import IssuerSettings, VaultTokenIssuer
from issuer.handover import Delivery
from tests.backends import Backend
from vault_client import VaultClient

ENTITY = "token-issuer"
ROLE = f"{ENTITY}-issuer"
TENANTS = ("shop", "bank")
"""Those of setup/issuer."""
PREPARED = {"SETUP_ROOMS": "issuer", "VAULT_ENTITY": ENTITY, "VAULT_ROLE_ID": ENTITY, "ISSUER_MAX_TTL": "2h"}


class ShiftedClock:
    """The machine's clocks, set forward: for what would take an hour."""

    def __init__(self, by: float = 0.0) -> None:
        self._by = by

    def set_forward(self, seconds: float) -> None:
        self._by += seconds

    def time(self) -> float:
        return time.time() + self._by

    def monotonic(self) -> float:
        return time.monotonic() + self._by


def prepare(backend: Backend) -> dict[str, str]:
    """What an issuer needs in its environment. What tests of another file have issued on this server is revoked."""
    secret_id = backend.setup(**PREPARED)
    environ = {
        "VAULT_URL": backend.url, "VAULT_ENTITY": ENTITY, "VAULT_ROLE_ID": ENTITY, "VAULT_SECRET_ID": secret_id
    }  # fmt: skip
    with client_of(environ) as client:
        for tenant in TENANTS:
            issuer_of(client).revoke_all(tenant)
    return environ


def issuer_of(client: VaultClient, settle_after: float = 0.0, **options: Any) -> VaultTokenIssuer:
    """An issuer that takes whatever it finds half done for left behind; settings with other names are given to it."""
    names = {name: options.pop(name) for name in ("wrap_ttl", "ttl") if name in options}
    settings = replace(IssuerSettings.load(ENTITY, environ={}), settle_after=settle_after, **names)
    return VaultTokenIssuer(client, settings, **options)


def client_of(environ: dict[str, str]) -> VaultClient:
    return VaultClient(VaultConfig.load(environ=environ))


def unwrap(delivery: Delivery, url: str) -> hvac.Client:
    """What a service does with what was handed over to it: the token is its own then."""
    api = hvac.Client(url=url, token=delivery.wrapping_token)
    api.token = api.sys.unwrap()["auth"]["client_token"]
    return api


def take(delivery: Delivery, url: str) -> hvac.Client:
    """Unwrap the token and renew it, by which the issuer sees that it is in use."""
    api = unwrap(delivery, url)
    api.auth.token.renew_self()
    return api


def is_alive(api: hvac.Client) -> bool:
    try:
        api.auth.token.lookup_self()
    except hvac.exceptions.Forbidden:
        return False
    return True


def alive_on_server(root: hvac.Client) -> dict[str, str]:
    """The issue of each token of the role, by accessor, as the server's operator sees them."""
    found = {}
    for accessor in root.adapter.list("/v1/auth/token/accessors")["data"]["keys"]:
        try:
            facts = root.auth.token.lookup_accessor(accessor)["data"]
        except hvac.exceptions.VaultError:  # over, just now
            continue
        if facts.get("role") == ROLE:
            found[accessor] = facts["meta"]["issue"]
    return found


def in_ledger(issuer: VaultTokenIssuer) -> dict[str, str]:
    return {issue.accessor: issue.id for _, issue in issuer.issued()}
