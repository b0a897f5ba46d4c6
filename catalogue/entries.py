"""What the catalogue says: services in environments. A place is one service in one of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

READER = "vault-reader"
"""The account, in each namespace, as which External Secrets logs in."""
STORE = "vault-store"
RENEW_AT = (2, 3)
"""A certificate is replaced at this share of its life (P2)."""


@dataclass(frozen=True, kw_only=True)
class Vault:
    """The server, and the mounts that the catalogue's secrets are in."""

    product: str
    """openbao or vault."""
    server: str
    audience: str
    ca: str
    """PEM: who signed the server's certificate."""
    ca_file: str
    """Its name, beside the catalogue."""
    kv: str
    database: str
    pki: str
    token_ttl: int
    line: int


@dataclass(frozen=True, kw_only=True)
class Operator:
    """External Secrets: the account that asks Kubernetes for the readers' tokens."""

    namespace: str
    account: str


@dataclass(frozen=True, kw_only=True)
class Environment:
    name: str
    auth: str
    """Mount of the auth method for the environment's cluster."""
    line: int


@dataclass(frozen=True, kw_only=True)
class Entry:
    """What all secrets have. Seconds. Its name is that of the ExternalSecret and of the Secret."""

    name: str
    owner: str
    refresh: int
    only: tuple[str, ...]
    """The environments that have it."""
    line: int


@dataclass(frozen=True, kw_only=True)
class Stored(Entry):
    """In KV: written by people or by the rotation."""

    path: str
    """Below ENVIRONMENT/SERVICE."""
    keys: Mapping[str, str]
    """Key of the Secret → property in Vault."""
    rotate: int
    provider: str
    """Who can make a new one; "" where people do."""


@dataclass(frozen=True, kw_only=True)
class Issued(Entry):
    """Made by Vault when it is asked for, by a generator."""


@dataclass(frozen=True, kw_only=True)
class Dynamic(Issued):
    """A database user of its own for each refresh."""

    connection: str
    grant: str
    lease: int


@dataclass(frozen=True, kw_only=True)
class Static(Issued):
    """A database user whose password Vault changes."""

    connection: str
    username: str
    rotate: int


@dataclass(frozen=True, kw_only=True)
class Certificate(Issued):
    """With its private key, which here Vault makes: an ExternalSecret cannot send a CSR."""

    names: tuple[str, ...]
    life: int


@dataclass(frozen=True, kw_only=True)
class Service:
    name: str
    owner: str
    namespaces: Mapping[str, str]
    lines: Mapping[str, int]
    """Of each namespace."""
    entries: tuple[Entry, ...]
    line: int


@dataclass(frozen=True)
class Place:
    """One service in one environment: what all names and paths are made of, here and nowhere else."""

    service: Service
    environment: Environment

    @property
    def name(self) -> str:
        """That of its role and of its policy."""
        return f"{self.service.name}-{self.environment.name}"

    @property
    def issuing(self) -> str:
        """The role and the policy for what Vault issues: its tokens live as long as the leases."""
        return f"{self.name}-issued"

    @property
    def namespace(self) -> str:
        return self.service.namespaces[self.environment.name]

    @property
    def line(self) -> int:
        return self.service.lines[self.environment.name]

    @property
    def entries(self) -> list[Entry]:
        return [entry for entry in self.service.entries if self.environment.name in entry.only]

    @property
    def stored(self) -> list[Stored]:
        return [entry for entry in self.entries if isinstance(entry, Stored)]

    @property
    def issued(self) -> list[Issued]:
        return [entry for entry in self.entries if isinstance(entry, Issued)]

    def key_of(self, entry: Stored) -> str:
        """Where it is in the KV mount."""
        return f"{self.environment.name}/{self.service.name}/{entry.path}"

    def role_of(self, entry: Issued) -> str:
        """That of the engine which issues it."""
        return f"{self.name}-{entry.name}"

    def connection_of(self, entry: Dynamic | Static) -> str:
        return f"{entry.connection}-{self.environment.name}"

    def filled(self, text: str) -> str:
        """With what differs between environments filled in."""
        for word, value in (("environment", self.environment.name), ("namespace", self.namespace)):
            text = text.replace(f"{{{word}}}", value)
        return text


@dataclass(frozen=True, kw_only=True)
class Catalogue:
    vault: Vault
    operator: Operator
    environments: tuple[Environment, ...]
    services: tuple[Service, ...]
    file: str = field(default="kubernetes/catalogue.yaml", compare=False)
    text: str = field(default="", compare=False, repr=False)
    """As it stands in the file."""

    @property
    def places(self) -> Iterator[Place]:
        for environment in self.environments:
            yield from self.places_in(environment.name)

    def places_in(self, environment: str) -> Iterator[Place]:
        """The services that there are in an environment."""
        there = next(each for each in self.environments if each.name == environment)
        for service in self.services:
            if environment in service.namespaces:
                yield Place(service, there)

    def issuing_path(self, place: Place, entry: Issued) -> str:
        """Where Vault issues it."""
        role = place.role_of(entry)
        if isinstance(entry, Dynamic):
            return f"{self.vault.database}/creds/{role}"
        if isinstance(entry, Static):
            return f"{self.vault.database}/static-creds/{role}"
        return f"{self.vault.pki}/issue/{role}"


def token_ttl(vault: Vault, place: Place) -> int:
    """Seconds that a token of the issuing role lives: what it asked for ends with it, so longer than any lease."""
    leases = [entry.lease for entry in place.issued if isinstance(entry, Dynamic)]
    return max([vault.token_ttl, *(lease * 5 // 4 for lease in leases)])
