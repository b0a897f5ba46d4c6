"""The settings of the issuer: issuer.ini, under the rule of config.ini. The environment wins, as ISSUER_KEY."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from vaultkit.errors import ConfigurationError
from vaultkit.settings import A_DAY, a_mount, a_name, a_number, or_nothing, read_sections, setting, several

DEFAULT_PATH = Path(__file__).with_name("issuer.ini")


def some_names(value: str) -> tuple[str, ...]:
    return tuple(several(a_name)(value)) if value else ()


@dataclass(frozen=True, kw_only=True)
class IssuerSettings:
    """[issuer]: what is issued, and how it is kept account of. Seconds."""

    role: str = setting(or_nothing(a_name), "")
    ledger: str = setting(a_mount, "")
    policies: tuple[str, ...] = setting(some_names, ())
    ttl: float = setting(a_number(1, 365 * A_DAY), 3600.0)
    wrap_ttl: float = setting(a_number(1, 3600), 120.0)
    settle_after: float = setting(a_number(0, A_DAY), 30.0)
    interval: float = setting(a_number(0.1, A_DAY), 5.0)
    rescan: float = setting(a_number(1, A_DAY), 600.0)

    @classmethod
    def load(cls, entity: str, path: Path = DEFAULT_PATH, environ: Mapping[str, str] | None = None) -> IssuerSettings:
        """Read the file and the environment; what is empty is named after the entity. Raises: ConfigurationError."""
        values, problems = read_sections(path, {"issuer": cls}, os.environ if environ is None else environ)
        if problems:
            raise ConfigurationError(problems)
        return cls(**values["issuer"]).for_entity(entity)

    def for_entity(self, entity: str) -> IssuerSettings:
        """These settings, with the names that setup/issuer gives to what an entity has."""
        return replace(
            self,
            role=self.role or f"{entity}-issuer",
            ledger=self.ledger or f"{entity}-issuer",
            policies=self.policies or (f"{entity}-service",),
        )
