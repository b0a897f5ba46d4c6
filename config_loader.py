"""The settings: config.ini, overridden by the environment, read and checked once.

    config = VaultConfig.load("config.ini")
    config.vault.url, config.kv_secret.refresh_interval, …

One rule for the environment: [section] key is SECTION_KEY in capitals. So VAULT_ROLE_ID is the AppRole's role_id, and
DATABASE_DYNAMIC_ROLE_ID is that of the database role. Each setting is declared once, below: its type, its default, and
what it may be. Everything wrong is reported together, and no message quotes a secret (P1).
"""

from __future__ import annotations

import configparser
import dataclasses
import difflib
import os
import re
import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from vault_errors import ConfigurationError

DEFAULT_PATH = Path(__file__).with_name("config.ini")

HOST = re.compile(r"[\w.:-]+", re.ASCII)
TRUE_WORDS = ("true", "yes", "on", "1")
FALSE_WORDS = ("false", "no", "off", "0")

Parser = Callable[[str], Any]
"""Makes a setting's value from its text. Raises: ValueError, whose text says what was expected."""


# ── What a value may be ──────────────────────────────────────────────────────────────────────────────────────────────


def a_text(value: str) -> str:
    if not value.isprintable():
        raise ValueError("text without control characters")
    return value


def a_name(value: str) -> str:
    if value in ("", ".", "..") or not value.isprintable() or any(character in value for character in "/ "):
        raise ValueError("a name without spaces and slashes")
    return value


def a_path(value: str) -> str:
    if not value.isprintable() or any(part in ("", ".", "..") for part in value.split("/")):
        raise ValueError('a path such as database or team/database, without empty parts, "." or ".."')
    return value


def is_prefix(path: str) -> bool:
    """Whether it stands for all paths that begin so, however deep, as in a policy: team/*, or * for the whole mount."""
    return path == "*" or path.endswith("/*")


def a_path_or_prefix(value: str) -> str:
    if value == "*":
        return value
    path = value.removesuffix("/*")
    if "*" in path:
        raise ValueError("a * at the end of a prefix alone, such as team/*")
    a_path(path)
    return value


def a_namespace(value: str) -> str:
    """It is sent as an HTTP header."""
    if not (value.isascii() and value.isprintable()) or " " in value:
        raise ValueError("a path such as team/shop, in ASCII and without spaces")
    return value


def an_address(value: str) -> str:
    expected = "an address such as http://127.0.0.1:8200 or https://vault.example.com, without spaces, user or query"
    try:
        parts = urlsplit(value)
        parts.port  # noqa: B018  # a port that is none raises here
        host = parts.hostname or ""
        host.encode("idna")  # and here a name with a part that is empty or too long
    except ValueError:
        raise ValueError(expected) from None
    plain = not (parts.username or parts.password or parts.query or parts.fragment)
    if parts.scheme not in ("http", "https") or not HOST.fullmatch(host) or not plain:
        raise ValueError(expected)
    if " " in value or not value.isprintable():
        raise ValueError(expected)
    return value.rstrip("/")


def a_boolean(value: str) -> bool:
    if value.lower() not in TRUE_WORDS + FALSE_WORDS:
        raise ValueError("true or false")
    return value.lower() in TRUE_WORDS


def its_opposite(value: str) -> bool:
    return not a_boolean(value)


def a_file(value: str) -> str:
    if value and not os.path.isfile(value):  # which, unlike Path, takes a name that is too long
        raise ValueError("a file that exists")
    return value


def a_number(least: float, most: float, kind: type[int] | type[float] = float) -> Parser:
    expected = f"a {'whole ' if kind is int else ''}number from {least:g} to {most:g}"

    def parse(value: str) -> float:
        try:
            parsed = kind(value)
        except ValueError:
            raise ValueError(expected) from None
        if not least <= parsed <= most:  # false for nan, too
            raise ValueError(expected)
        return parsed

    return parse


def several(parse_one: Callable[[str], str]) -> Parser:
    def parse(value: str) -> tuple[str, ...]:
        try:
            parsed = tuple(parse_one(part.strip()) for part in value.split(","))
        except ValueError as error:
            raise ValueError(f"{error}; several are separated by commas") from None
        if len(set(parsed)) < len(parsed):
            raise ValueError("no name to stand twice")
        return parsed

    return parse


# ── The settings ─────────────────────────────────────────────────────────────────────────────────────────────────────

_REQUIRED: Any = object()
A_DAY = 86_400.0


def setting(
    parse: Parser, default: Any = _REQUIRED, *, also: Mapping[str, Parser] | None = None, secret: bool = False
) -> Any:
    """Declare a setting: how to parse it, its default, and further environment variables that the ecosystem knows."""
    metadata = {"parse": parse, "also": also or {}, "secret": secret, "required": default is _REQUIRED}
    if default is _REQUIRED:
        return field(metadata=metadata, repr=not secret)
    return field(default=default, metadata=metadata, repr=not secret)


@dataclass(frozen=True, kw_only=True)
class VaultSettings:
    """[vault]: where the server is, and who we are."""

    entity: str = setting(a_name)
    url: str = setting(an_address, "http://127.0.0.1:8200", also={"VAULT_ADDR": an_address})
    namespace: str = setting(a_namespace, "")
    role_id: str = setting(a_text)
    secret_id: str = setting(a_text, secret=True)
    ca_file: str = setting(a_file, "", also={"VAULT_CACERT": a_file})
    tls_verify: bool = setting(a_boolean, True, also={"VAULT_SKIP_VERIFY": its_opposite})


@dataclass(frozen=True, kw_only=True)
class TokenSettings:
    """[token]: how the token is kept alive. Seconds; `renew_jitter` is a share of the TTL."""

    check_interval: float = setting(a_number(0.1, A_DAY), 10.0)
    renew_jitter: float = setting(a_number(0, 0.5), 0.0)
    backoff_max: float = setting(a_number(1, A_DAY), 30.0)


@dataclass(frozen=True, kw_only=True)
class KvSettings:
    """[kv_secret]: the KV v2 engine. Seconds."""

    enabled: bool = setting(a_boolean, True)
    path: tuple[str, ...] = setting(several(a_path_or_prefix), ("database",))
    refresh_interval: float = setting(a_number(0.1, A_DAY), 5.0)
    full_read_interval: float = setting(a_number(1, A_DAY), 300.0)
    max_stale: float = setting(a_number(0, 365 * A_DAY), 3600.0)

    @property
    def names(self) -> tuple[str, ...]:
        """What is read from the engine: here paths, and prefixes such as team/*."""
        return self.path


@dataclass(frozen=True, kw_only=True)
class DatabaseDynamicSettings:
    """[database_dynamic]: dynamic database credentials. Seconds."""

    enabled: bool = setting(a_boolean, True)
    role_id: tuple[str, ...] = setting(several(a_name), ("db-demo-dynamic",))
    refresh_interval: float = setting(a_number(0.1, A_DAY), 5.0)
    ttl_threshold: float = setting(a_number(0, A_DAY), 10.0)
    check_login: bool = setting(a_boolean, False)

    @property
    def names(self) -> tuple[str, ...]:
        """What is read from the engine: here roles."""
        return self.role_id


@dataclass(frozen=True, kw_only=True)
class DatabaseStaticSettings:
    """[database_static]: static database credentials. Seconds."""

    enabled: bool = setting(a_boolean, True)
    role_id: tuple[str, ...] = setting(several(a_name), ("db-demo-static",))
    refresh_interval: float = setting(a_number(0.1, A_DAY), 10.0)
    cache_time: float = setting(a_number(1, A_DAY), 300.0)

    @property
    def names(self) -> tuple[str, ...]:
        """What is read from the engine: here roles."""
        return self.role_id


@dataclass(frozen=True, kw_only=True)
class HttpSettings:
    """[http]: the bounds of one request: seconds and bytes."""

    timeout: float = setting(a_number(0.1, 3600), 30.0)
    max_response_size: int = setting(a_number(256, 2**30, int), 4096)
    max_listing_size: int = setting(a_number(256, 2**30, int), 16_777_216)


@dataclass(frozen=True, kw_only=True)
class ConsoleSettings:
    """[console]: what is shown."""

    show_secrets: bool = setting(a_boolean, False)


@dataclass(frozen=True, kw_only=True)
class VaultConfig:
    """Every setting, typed and checked, a section each."""

    vault: VaultSettings
    token: TokenSettings
    kv_secret: KvSettings
    database_dynamic: DatabaseDynamicSettings
    database_static: DatabaseStaticSettings
    http: HttpSettings
    console: ConsoleSettings

    @classmethod
    def load(cls, path: str | Path = DEFAULT_PATH, environ: Mapping[str, str] = os.environ) -> VaultConfig:
        """Read the file and the environment. Raises: ConfigurationError, with every problem there is."""
        problems: list[str] = []
        found = _read_file(Path(path), problems)
        _report_unknown(found or {}, problems)
        sections = {
            section: _parse_section(section, settings, found, environ, problems)
            for section, settings in SECTIONS.items()
        }
        if not any(sections[section].get("enabled", True) for section in ENGINE_SECTIONS):
            engines = ", ".join(f"[{section}]" for section in ENGINE_SECTIONS)
            problems.append(f"nothing to do: set enabled = true in one of {engines}")
        if problems:
            raise ConfigurationError(problems)
        return cls(**{section: SECTIONS[section](**values) for section, values in sections.items()})


SECTIONS: dict[str, type[Any]] = typing.get_type_hints(VaultConfig)
ENGINE_SECTIONS = tuple(section for section, settings in SECTIONS.items() if hasattr(settings, "enabled"))


# ── Reading and checking ─────────────────────────────────────────────────────────────────────────────────────────────


def _read_file(path: Path, problems: list[str]) -> dict[str, dict[str, str]] | None:
    """The sections of the file as text, or None if it is no settings file; no line of it is quoted in a problem."""
    try:
        content = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        problems.append(f"{path}: cannot be read: {error.strerror}; expected a file such as {DEFAULT_PATH.name}")
        return None
    except UnicodeDecodeError as error:
        problems.append(f"{path}: byte {error.start} is not UTF-8; expected a text file in UTF-8")
        return None
    for strict in (True, False):  # what stands twice ends a strict reading; the rest is checked all the same
        # No interpolation: a % is a %. No default section: [DEFAULT] would be copied into all others.
        parser = configparser.RawConfigParser(strict=strict, default_section="")
        try:
            parser.read_string(content)
        except configparser.DuplicateSectionError as error:
            problems.append(f"{path}, line {error.lineno}: section [{error.section}] stands twice; expected once")
            continue
        except configparser.DuplicateOptionError as error:
            problems.append(
                f"{path}, line {error.lineno}: [{error.section}] {error.option} stands twice; expected once"
            )
            continue
        except configparser.MissingSectionHeaderError as error:
            problems.append(f"{path}, line {error.lineno}: text before the first [section]; expected a section first")
            return None
        except configparser.ParsingError as error:
            lines = ", ".join(str(line) for line, _ in error.errors)
            problems.append(f"{path}, line {lines}: neither [section] nor key = value")
        break
    return {section: {key: _text_of(parser[section][key]) for key in parser[section]} for section in parser.sections()}


def _text_of(value: str | list[str]) -> str:
    """configparser leaves lists of lines behind where it found an error."""
    return value if isinstance(value, str) else "\n".join(value)


def _report_unknown(found: Mapping[str, Mapping[str, str]], problems: list[str]) -> None:
    for section, keys in found.items():
        if section not in SECTIONS:
            problems.append(f"[{section}]: unknown section{_nearest(section, SECTIONS)}")
            continue
        known = [declared.name for declared in dataclasses.fields(SECTIONS[section])]
        problems.extend(f"[{section}] {key}: unknown key{_nearest(key, known)}" for key in keys if key not in known)


def _nearest(unknown: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(unknown, known, n=1)
    return f"; did you mean {near[0]}?" if near else f"; known are {', '.join(known)}"


def _parse_section(
    section: str,
    settings: type[Any],
    found: Mapping[str, Mapping[str, str]] | None,
    environ: Mapping[str, str],
    problems: list[str],
) -> dict[str, Any]:
    """The values of one section that were set; those that were not have defaults."""
    values: dict[str, Any] = {}
    in_file = (found or {}).get(section)
    for declared in dataclasses.fields(settings):
        source, value, parse = _look_up(section, declared, in_file or {}, environ)
        if value is None or (value == "" and declared.metadata["required"]):
            if declared.metadata["required"] and found is not None:  # of a file that cannot be read, who knows
                where = "the section is missing; " if in_file is None else ""
                problems.append(
                    f"[{section}] {declared.name}: {where}a value is required;"
                    f" set it in the file or as {variable(section, declared.name)}"
                )
            continue
        try:
            values[declared.name] = parse(value)
        except ValueError as error:
            problems.append(f"[{section}] {declared.name}: found {_shown(declared, value)}{source}, expected {error}")
    return values


def _shown(declared: dataclasses.Field[Any], value: str) -> str:
    # An indented line continues the one above it, so the line of the secret_id may be part of any value.
    hidden = declared.metadata["secret"] or "@" in value or "secret_id" in value.lower()
    return "(not shown)" if hidden else ascii(value[:80])


def _look_up(
    section: str, declared: dataclasses.Field[Any], found: Mapping[str, str], environ: Mapping[str, str]
) -> tuple[str, str | None, Parser]:
    """Where a setting's text comes from, the text, and how to parse it: our variable, the ecosystem's, the file."""
    parse: Parser = declared.metadata["parse"]
    own = variable(section, declared.name)
    if own in environ:
        return f" in {own}", environ[own], parse
    for other, parse_other in declared.metadata["also"].items():
        if environ.get(other):
            return f" in {other}", environ[other], parse_other
    return "", found.get(declared.name), parse


def variable(section: str, key: str) -> str:
    """The environment variable of a setting."""
    return f"{section}_{key}".upper()
