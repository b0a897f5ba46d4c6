"""The settings of the application: config.ini, overridden by the environment, read and checked once.

    config = VaultConfig.load("config.ini")
    config.vault.url, config.kv_secret.refresh_interval, …

One rule for the environment: [section] key is SECTION_KEY in capitals. So VAULT_ROLE_ID is the AppRole's role_id, and
DATABASE_DYNAMIC_ROLE_ID is that of the database role. Each setting is declared once, with its type, its default and
what it may be: those of a secret engine beside the engine, those of the token in `vaultkit/token.py`, and so on.

`python3 config_loader.py SECTION.KEY…` prints settings for scripts. It needs nothing but Python.
"""

from __future__ import annotations

import dataclasses
import os
import sys
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vaultkit.auth import METHODS, AppRoleSettings, LoginMethod
from vaultkit.engines import DatabaseDynamicSettings, DatabaseStaticSettings, KvPathEngine, KvSettings
from vaultkit.engines.pki import PkiSettings
from vaultkit.errors import ConfigurationError
from vaultkit.settings import a_boolean, a_name, a_number, one_of, read_sections, setting
from vaultkit.token import TokenSettings
from vaultkit.transport.connection import ConnectionSettings, HttpSettings, connection_problems

DEFAULT_PATH = Path(__file__).with_name("config.ini")


@dataclass(frozen=True, kw_only=True)
class AuthMethodSettings:
    """Of [vault]: how to log in; the settings of each method but AppRole have a section of their own."""

    auth_method: str = setting(one_of(*METHODS), "approle")


@dataclass(frozen=True, kw_only=True)
class VaultSettings(AppRoleSettings, AuthMethodSettings, ConnectionSettings):
    """[vault]: where the server is, and who we are."""

    entity: str = setting(a_name)


@dataclass(frozen=True, kw_only=True)
class ConsoleSettings:
    """[console]: what is shown."""

    show_secrets: bool = setting(a_boolean, False)


@dataclass(frozen=True, kw_only=True)
class MetricsSettings:
    """[metrics]: where Prometheus finds figures, and Kubernetes whether all is well."""

    port: int = setting(a_number(0, 65_535, int), 0)
    host: str = setting(a_name, "127.0.0.1")


@dataclass(frozen=True, kw_only=True)
class VaultConfig:
    """Every setting, typed and checked, a section each. In code, only `vault` must be given: all else has defaults."""

    vault: VaultSettings
    token: TokenSettings = field(default_factory=TokenSettings)
    kv_secret: KvSettings = field(default_factory=KvSettings)
    database_dynamic: DatabaseDynamicSettings = field(default_factory=DatabaseDynamicSettings)
    database_static: DatabaseStaticSettings = field(default_factory=DatabaseStaticSettings)
    pki: PkiSettings = field(default_factory=PkiSettings)
    http: HttpSettings = field(default_factory=HttpSettings)
    console: ConsoleSettings = field(default_factory=ConsoleSettings)
    metrics: MetricsSettings = field(default_factory=MetricsSettings)
    auth: Any = None
    """The section of the login method, such as [kubernetes_auth]; of AppRole's, which is [vault], it is not asked."""

    def __post_init__(self) -> None:
        if self.auth is None and METHODS[self.vault.auth_method].section != "vault":
            raise ConfigurationError([f"auth: the settings of {self.vault.auth_method} are required"])

    @classmethod
    def load(cls, path: str | Path = DEFAULT_PATH, environ: Mapping[str, str] | None = None) -> VaultConfig:
        """Read the file and the environment. Raises: ConfigurationError, with every problem there is."""
        # Not as a default: that is part of the signature, which help() prints, with the secret_id in it (P1).
        found = read(Path(path), os.environ if environ is None else environ)
        method = METHODS[found["vault"].auth_method]
        return cls(**{section: found[section] for section in SECTIONS}, auth=found[method.section])

    @classmethod
    def with_token(cls, url: str, token: str, namespace: str = "") -> VaultConfig:
        """What config.ini and the environment say, but for where the server is, and a token instead of a login.

        Raises: ConfigurationError.
        """
        given = {"VAULT_URL": url, "VAULT_NAMESPACE": namespace, "VAULT_AUTH_METHOD": "token"}
        login = {"TOKEN_AUTH_TOKEN": token, "TOKEN_AUTH_TOKEN_FILE": "", "TOKEN_AUTH_ROLE": ""}
        return cls.load(environ={**os.environ, **given, **login})

    @property
    def kv_path(self) -> KvSettings:
        """Of the KV secrets that are read by their path in Vault's API; not a section: the intervals of [kv_secret]."""
        return KvPathEngine.settings_like(self.kv_secret)

    def login_method(self) -> LoginMethod[Any]:
        """A new object of the login method that was chosen."""
        return METHODS[self.vault.auth_method](self.auth or self.vault, self.vault)


SECTIONS: dict[str, type[Any]] = {
    section: settings for section, settings in typing.get_type_hints(VaultConfig).items() if section != "auth"
}
LOGIN_SECTIONS = {method.section: method.settings_type for method in METHODS.values() if method.section != "vault"}
ALL_SECTIONS = {**SECTIONS, **LOGIN_SECTIONS}
ENGINE_SECTIONS = tuple(section for section, settings in SECTIONS.items() if hasattr(settings, "enabled"))


def read(path: Path, environ: Mapping[str, str], *, to_log_in: bool = True) -> dict[str, Any]:
    """Every section. Raises: ConfigurationError; what a login needs may be missing, unless it is read `to_log_in`."""
    values, problems = read_sections(path, ALL_SECTIONS, environ)
    if not any(values[section].get("enabled", True) for section in ENGINE_SECTIONS):
        engines = ", ".join(f"[{section}]" for section in ENGINE_SECTIONS)
        problems.append(f"nothing to do: set enabled = true in one of {engines}")
    problems += connection_problems(values["vault"], environ)
    if to_log_in and path.is_file():  # of a file that cannot be read, who knows
        problems += login_problems(values)
    if problems:
        raise ConfigurationError(problems)
    return {section: ALL_SECTIONS[section](**found) for section, found in values.items()}


def login_problems(values: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """What is wrong with the settings of the login method that was chosen."""
    method = METHODS[values["vault"].get("auth_method", "approle")]
    known = [declared.name for declared in dataclasses.fields(method.settings_type)]
    own = {key: value for key, value in values[method.section].items() if key in known}
    return method.problems(method.settings_type(**own), values["vault"])


# ── For scripts ──────────────────────────────────────────────────────────────────────────────────────────────────────


def values_for_scripts(names: Sequence[str], environ: Mapping[str, str]) -> list[str]:
    """The settings called `section.key`, as text. Raises: ConfigurationError, also for one that is a secret."""
    # Whoever prepares a server has nothing yet to log in with.
    found = read(DEFAULT_PATH, environ, to_log_in=False)
    return [_as_text(found, *name.partition(".")[::2]) for name in names]


def _as_text(found: Mapping[str, Any], section: str, key: str) -> str:
    known = {declared.name: declared for declared in dataclasses.fields(ALL_SECTIONS.get(section, VaultConfig))}
    if section not in found or key not in known:
        raise ConfigurationError([f"{section}.{key}: there is no such setting; expected one such as vault.entity"])
    if known[key].metadata["secret"]:
        raise ConfigurationError([f"[{section}] {key}: it is a secret, which is not printed"])
    value = getattr(found[section], key)
    if isinstance(value, tuple):
        return ",".join(value)
    return str(value).lower() if isinstance(value, bool) else str(value)


def main() -> int:
    """`python3 config_loader.py SECTION.KEY…` prints settings as the application would read them, one a line."""
    if {"-h", "--help"} & set(sys.argv[1:]):
        print(f"example: python3 config_loader.py vault.url vault.entity\n\n{main.__doc__}")
        return 0
    try:
        values = values_for_scripts(sys.argv[1:], os.environ)
    except ConfigurationError as error:
        print(f"{DEFAULT_PATH.name} or the environment:", *error.problems, sep="\n  ", file=sys.stderr)
        return 2
    print(*values, sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
