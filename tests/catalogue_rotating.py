"""Rotations on the real server and database: a secret with a pair of PostgreSQL roles, and a cluster that follows."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import psycopg

from catalogue.cluster import Secret
from catalogue.entries import Environment, Place, Service, Stored
from catalogue.kv import Kv
from catalogue.providers.postgres import PostgresProvider
from catalogue.rotation import Patience, Rotator
from config_loader import VaultConfig
from tests.backends import Backend
from vault_client import VaultClient

MOUNT = "rotated-kv"
AT_ONCE = Patience(grace=0.0, wait=0.0, hold=0.0, poll=0.01)
"""Whoever comes next takes over; what is not there at once is not waited for."""


def kv_of(url: str, token: str) -> Kv:
    environ = {"VAULT_URL": url, "VAULT_AUTH_METHOD": "token", "TOKEN_AUTH_TOKEN": token}
    return Kv(VaultClient(VaultConfig.load(environ=environ)).ask, MOUNT)


@dataclass
class FollowingCluster:
    """Stands in for External Secrets: each Secret has what Vault has, unless it is told to stay `behind`."""

    kv: Kv
    path: str
    behind: int = 0
    """Looks at it, for which it shows the version before."""
    also: list[str] = field(default_factory=list)

    def secrets(self, namespace: str) -> list[Secret]:
        version = int(self.kv.about(self.path)["current_version"]) - (1 if self.behind else 0)
        self.behind = max(0, self.behind - 1)
        return [Secret(namespace, "login", version, owned=True, ours=True, data={})]

    def users_of(self, namespace: str, key: str) -> list[str]:
        return self.also


@dataclass
class Rotated:
    """A secret with its pair of roles."""

    name: str
    kv: Kv
    place: Place
    entry: Stored
    cluster: FollowingCluster
    provider: PostgresProvider
    database: dict[str, Any]

    @property
    def path(self) -> str:
        return self.place.key_of(self.entry)

    def rotator(self, patience: Patience = AT_ONCE, on_step: Callable[[str], None] = lambda step: None) -> Rotator:
        return Rotator(self.kv, self.cluster, self.provider, self.place, self.entry, patience, on_step=on_step)

    def lets_in(self, values: dict[str, str]) -> bool:
        try:
            psycopg.connect(**self.database, user=values["username"], password=values["password"]).close()
        except psycopg.OperationalError:
            return False
        return True


def rotated(kv: Kv, name: str, database: dict[str, Any], superuser: tuple[str, str]) -> Rotated:
    """As the catalogue would have it."""
    entry = Stored(
        name="login", owner="team", refresh=300, only=("prod",), line=1, path="login",
        keys={"username": "username", "password": "password"}, rotate=86400, provider="postgres",
    )  # fmt: skip
    service = Service(name=name, owner="team", namespaces={"prod": name}, lines={"prod": 1}, entries=(entry,), line=1)
    place = Place(service, Environment(name="prod", auth="kubernetes", line=1))
    user, password = superuser
    provider = PostgresProvider(**database, user=user, password=password)
    return Rotated(name, kv, place, entry, FollowingCluster(kv, place.key_of(entry)), provider, database)


def make(backend: Backend, kv: Kv, name: str) -> Rotated:
    """Its roles, and the first version, which is that of NAME_a."""
    made = rotated(kv, name, backend.database, backend.superuser)
    user, password = backend.superuser
    first = {"username": f"{name}_a", "password": secrets.token_urlsafe(16)}
    with psycopg.connect(**backend.database, user=user, password=password, autocommit=True) as connection:
        connection.execute(f"CREATE ROLE \"{name}_a\" LOGIN PASSWORD '{first['password']}'")
        connection.execute(f'CREATE ROLE "{name}_b" NOLOGIN')
    kv.write(made.path, first, over=0)
    return made
