"""The settings of the gateway: gateway.ini, under the rule of config.ini.

settings = GatewaySettings.load()
settings.gateway.place_of("acme"), settings.identity.issuer, settings.limits.body_size, …
"""

from __future__ import annotations

import ipaddress
import os
import re
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from vaultkit.errors import ConfigurationError
from vaultkit.settings import (
    A_DAY,
    HOST,
    a_boolean,
    a_mount,
    a_name,
    a_number,
    a_path,
    a_text,
    one_of,
    or_nothing,
    read_sections,
    setting,
    several,
)
from vaultkit.transport.connection import a_namespace
from vaultkit.transport.tls_files import a_certificate_file

from .cache import CacheSettings
from .places import Place

DEFAULT_PATH = Path(__file__).with_name("gateway.ini")
TENANT = re.compile(r"[a-z0-9-]{1,40}")
ALGORITHMS = ("ES256", "ES384", "ES512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "EdDSA")
"""Those with a public key alone. None that takes a shared secret can be set, so no public key can be taken for one."""
BRACES = re.compile(r"\{.*?\}|[{}]")


# ── What a value may be ──────────────────────────────────────────────────────────────────────────────────────────────


def a_tenant(value: str) -> str:
    if not TENANT.fullmatch(value):
        raise ValueError("names of 1 to 40 of a-z, 0-9 and hyphens")
    return value


def a_template(parse: Callable[[str], str], *names: str) -> Callable[[str], str]:
    """What `parse` takes once the names, in braces, are replaced."""
    known = [f"{{{name}}}" for name in names]

    def a_filled_one(value: str) -> str:
        if set(BRACES.findall(value)) - set(known):
            raise ValueError(f"no braces but {' and '.join(known)}")
        parse(BRACES.sub("x", value))
        return value

    return a_filled_one


def a_host(value: str) -> str:
    if not HOST.fullmatch(value):
        raise ValueError("a host or an address to listen at, such as 127.0.0.1")
    return value


def a_trusted_address(value: str) -> str:
    """To the letter: whether an issuer ends with a slash is its own affair."""
    if not is_trusted(value):
        raise ValueError("an address with https://, or with http:// on this machine, and without a user")
    return value


def is_trusted(url: str) -> bool:
    """Whether nobody on the way can change what it answers."""
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018  # a port that is none raises here
    except ValueError:
        return False
    host = parts.hostname or ""
    is_plain = url.isascii() and url.isprintable() and " " not in url and not (parts.username or parts.fragment)
    return is_plain and bool(HOST.fullmatch(host)) and (parts.scheme == "https" or _is_local_http(parts.scheme, host))


def _is_local_http(scheme: str, host: str) -> bool:
    return scheme == "http" and _is_loopback(host)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


# ── The sections ─────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, kw_only=True)
class ServerSettings:
    """[gateway]: where it listens, whose secrets it serves, and as whom it asks Vault."""

    host: str = setting(a_host, "127.0.0.1")
    port: int = setting(a_number(0, 65535, int), 8280)
    act_as: str = setting(one_of("service", "caller"), "service")
    caller_login: str = setting(one_of("inline", "batch"), "inline")
    caller_mount: str = setting(a_path, "gateway-jwt")
    caller_role: str = setting(a_name, "gateway")
    tenants: tuple[str, ...] = setting(several(a_tenant))
    namespace: str = setting(a_template(a_namespace, "tenant"), "")
    mount: str = setting(a_template(a_path, "tenant"), "tenants")
    prefix: str = setting(a_template(a_mount, "tenant"), "{tenant}")
    role_id: str = setting(a_template(a_name, "entity", "tenant"), "{entity}-gateway-{tenant}")
    secret_id_file: str = setting(a_template(a_text, "entity", "tenant"), "")
    unconditional_writes: bool = setting(a_boolean, True)
    roles: str = setting(a_text, "roles.ini")
    audit_file: str = setting(a_text, "")
    shutdown_timeout: int = setting(a_number(0, 3600, int), 2)

    def place_of(self, tenant: str) -> Place:
        """Below which the secrets of this tenant are. A tenant's name is no path, so none is within another's."""
        return Place(*(_filled(template, tenant=tenant) for template in (self.namespace, self.mount, self.prefix)))

    def role_id_of(self, tenant: str, entity: str) -> str:
        return _filled(self.role_id, tenant=tenant, entity=entity)

    def secret_id_file_of(self, tenant: str, entity: str) -> str:
        return _filled(self.secret_id_file, tenant=tenant, entity=entity)


def _filled(template: str, **names: str) -> str:
    return BRACES.sub(lambda found: names[found[0][1:-1]], template)


@dataclass(frozen=True, kw_only=True)
class IdentitySettings:
    """[gateway_identity]: whose JWTs are taken, and which. Seconds."""

    issuer: str = setting(a_trusted_address)
    jwks_url: str = setting(or_nothing(a_trusted_address), "")
    ca_file: str = setting(a_certificate_file, "")
    audience: str = setting(a_name, "secrets-gateway")
    algorithms: tuple[str, ...] = setting(several(one_of(*ALGORITHMS)), ("ES256", "RS256"))
    leeway: float = setting(a_number(0, 30), 30.0)
    max_life: float = setting(a_number(1, 7 * A_DAY), 7200.0)
    tenant_claim: str = setting(a_name, "tenant")
    name_claim: str = setting(a_name, "username")
    keys_refresh: float = setting(a_number(0.1, A_DAY), 300.0)
    keys_cooldown: float = setting(a_number(0.1, 3600), 30.0)
    keys_max_stale: float = setting(a_number(1, A_DAY), 3600.0)
    remember: float = setting(a_number(0, 300), 60.0)
    remember_most: int = setting(a_number(0, 1_000_000, int), 10_000)


@dataclass(frozen=True, kw_only=True)
class LimitsSettings:
    """[gateway_limits]: what one request, and all of them together, may take."""

    body_size: int = setting(a_number(64, 2**20, int), 65_536)
    depth: int = setting(a_number(1, 64, int), 8)
    keys: int = setting(a_number(1, 65_536, int), 256)
    vault_requests: int = setting(a_number(1, 256, int), 16)
    vault_queue: int = setting(a_number(0, 65_536, int), 64)
    connections: int = setting(a_number(1, 65_536, int), 512)
    batch: int = setting(a_number(1, 1000, int), 50)
    header_size: int = setting(a_number(1024, 65_536, int), 16_384)
    body_seconds: float = setting(a_number(0.1, 3600), 10.0)


@dataclass(frozen=True, kw_only=True)
class MetricsSettings:
    """[gateway_metrics]: where the second listener is."""

    host: str = setting(a_host, "127.0.0.1")
    port: int = setting(a_number(0, 65535, int), 8281)


@dataclass(frozen=True, kw_only=True)
class GatewaySettings:
    """Every setting, a section each: `gateway` is [gateway], and the others are [gateway_…]."""

    gateway: ServerSettings
    identity: IdentitySettings
    cache: CacheSettings = field(default_factory=CacheSettings)
    limits: LimitsSettings = field(default_factory=LimitsSettings)
    metrics: MetricsSettings = field(default_factory=MetricsSettings)

    @classmethod
    def load(cls, path: str | Path = DEFAULT_PATH, environ: Mapping[str, str] | None = None) -> GatewaySettings:
        """Read the file and the environment. Raises: ConfigurationError, with every problem there is."""
        path = Path(path)
        values, problems = read_sections(path, SECTIONS, os.environ if environ is None else environ)
        problems += _problems_together(values["gateway"])
        if problems:
            raise ConfigurationError(problems)
        found = {name: kind(**values[_section(name)]) for name, kind in _KINDS.items()}
        found["gateway"] = replace(found["gateway"], roles=str(path.parent / found["gateway"].roles))
        return cls(**found)


_KINDS: dict[str, type[Any]] = typing.get_type_hints(GatewaySettings)


def _section(name: str) -> str:
    """With the room's name before it, so that no variable of the environment is mistaken for another program's."""
    return name if name == "gateway" else f"gateway_{name}"


SECTIONS = {_section(name): kind for name, kind in _KINDS.items()}


def _problems_together(values: Mapping[str, Any]) -> list[str]:
    """What is wrong with settings that are right each by itself."""
    if "tenants" not in values:  # the section is wrong as it is
        return []
    gateway = ServerSettings(**values)
    problems = []
    if len({gateway.place_of(tenant) for tenant in gateway.tenants}) < len(gateway.tenants):
        problems.append(
            "[gateway] namespace, mount, prefix: all tenants are at one place; expected {tenant} in one of them"
        )
    if gateway.act_as == "service" and not gateway.secret_id_file:
        problems.append(
            "[gateway] secret_id_file: a value is required with act_as = service;"
            " set it in the file or as GATEWAY_SECRET_ID_FILE"
        )
    return problems
