"""What config.ini names of each engine: where it stands on the server, and what a policy must grant there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from config_loader import ENGINE_SECTIONS, VaultConfig
from vaultkit.engines import ENGINES
from vaultkit.settings import is_prefix

ENGINE_TYPES = {"kv_secret": "kv", "database_dynamic": "database", "database_static": "database", "pki": "pki"}
READ_AT = {"kv_secret": "data", "database_dynamic": "creds", "database_static": "static-creds", "pki": "sign"}
ROLES_AT = {"database_dynamic": "roles", "pki": "roles"}
"""Where the roles are listed of which a request would cost a lease, or a certificate."""


@dataclass(frozen=True)
class Place:
    """One secret, role or prefix."""

    section: str
    mount: str
    name: str

    @property
    def is_prefix(self) -> bool:
        return self.section == "kv_secret" and is_prefix(self.name)

    @property
    def folder(self) -> str:
        """Of a prefix: what it begins with."""
        return self.name.removesuffix("*")

    @property
    def path(self) -> str:
        """What the application asks for."""
        if self.is_prefix:
            return f"{self.mount}/metadata/{self.folder}"
        return f"{self.mount}/{READ_AT[self.section]}/{self.name}"

    @property
    def capability(self) -> str:
        if self.is_prefix:
            return "list"
        return "update" if self.section == "pki" else "read"

    @property
    def version_path(self) -> str:
        """Of a KV secret: where its version is asked for (K1)."""
        return f"{self.mount}/metadata/{self.name}" if self.section == "kv_secret" and not self.is_prefix else ""

    @property
    def paths(self) -> list[str]:
        """All of which the capabilities are to be known."""
        return [path for path in (self.path, self.version_path) if path]


def unknown_engines(config: VaultConfig) -> list[str]:
    """The enabled engines that were added to the kit and not to ENGINE_TYPES and READ_AT."""
    return [each for each in ENGINE_SECTIONS if getattr(config, each).enabled and each not in ENGINE_TYPES]


def places_of(config: VaultConfig) -> Iterator[Place]:
    """All that the enabled engines read, as far as they are known here."""
    for section in ENGINE_SECTIONS:
        settings = getattr(config, section)
        if settings.enabled and section in ENGINE_TYPES:
            mount = settings.mount or f"{config.vault.entity}-{ENGINES[section].mount_suffix}"
            yield from (Place(section, mount, name) for name in settings.names)
