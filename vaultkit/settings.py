"""How a setting is declared, read and checked.

    @dataclass(frozen=True, kw_only=True)
    class ShopSettings:
        timeout: float = setting(a_number(0.1, 3600), 30.0)

    values, problems = read_sections("config.ini", {"shop": ShopSettings}, os.environ)

One rule for the environment: [section] key is SECTION_KEY in capitals, and what is called VAULT_… may be called BAO_…,
too. Everything that is wrong is reported together, and no message quotes a secret (P1).
"""

from __future__ import annotations

import configparser
import dataclasses
import difflib
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

HOST = re.compile(r"[\w.:-]+", re.ASCII)
TRUE_WORDS = ("true", "yes", "on", "1")
FALSE_WORDS = ("false", "no", "off", "0")
A_DAY = 86_400.0

Parser = Callable[[str], Any]
"""Makes a setting's value from its text. Raises: ValueError, whose text says what was expected."""


# ── Declaring a setting ──────────────────────────────────────────────────────────────────────────────────────────────

_REQUIRED: Any = object()


def setting(
    parse: Parser, default: Any = _REQUIRED, *, also: Mapping[str, Parser] | None = None, secret: bool = False
) -> Any:
    """Declare a setting: how to parse it, its default, and further environment variables that the ecosystem knows."""
    metadata = {"parse": parse, "also": also or {}, "secret": secret, "required": default is _REQUIRED}
    if default is _REQUIRED:
        return field(metadata=metadata, repr=not secret)
    return field(default=default, metadata=metadata, repr=not secret)


def variable(section: str, key: str) -> str:
    """The environment variable of a setting."""
    return f"{section}_{key}".upper()


# ── What a value may be ──────────────────────────────────────────────────────────────────────────────────────────────


def a_text(value: str) -> str:
    if not value.isprintable():
        raise ValueError("text without control characters")
    return value


def a_name(value: str) -> str:
    if value in ("", ".", "..") or not value.isprintable() or any(character in value for character in "/ "):
        raise ValueError("a name without spaces and slashes")
    return value


def is_path(name: str) -> bool:
    """Whether it stays below where it is put: no part of it is empty, "." or ".."."""
    return not any(part in ("", ".", "..") for part in name.split("/"))


def a_path(value: str) -> str:
    if not value.isprintable() or not is_path(value):
        raise ValueError('a path such as database or team/database, without empty parts, "." or ".."')
    return value


def or_nothing(parse: Callable[[str], str]) -> Callable[[str], str]:
    return lambda value: parse(value) if value else value


a_mount = or_nothing(a_path)
"""Where an engine is mounted; nothing: where its entity says."""


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
    if parts.path.rstrip("/").endswith("/v1"):
        raise ValueError("the address alone, without the /v1 of the API behind it")
    return value.rstrip("/")


def a_boolean(value: str) -> bool:
    if value.lower() not in TRUE_WORDS + FALSE_WORDS:
        raise ValueError("true or false")
    return value.lower() in TRUE_WORDS


def its_opposite(value: str) -> bool:
    return not a_boolean(value)


def one_of(*words: str) -> Callable[[str], str]:
    def parse(value: str) -> str:
        if value not in words:
            raise ValueError(f"{', '.join(words[:-1])} or {words[-1]}")
        return value

    return parse


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


# ── Reading and checking ─────────────────────────────────────────────────────────────────────────────────────────────


def read_sections(
    path: Path, sections: Mapping[str, type[Any]], environ: Mapping[str, str]
) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """The values that were set, by section, and all that is wrong. The rest has its default."""
    problems: list[str] = []
    found = _read_file(path, problems)
    _report_unknown(found or {}, sections, problems)
    _report_unknown_variables(environ, sections, problems)
    values = {
        section: _parse_section(section, settings, found, environ, problems) for section, settings in sections.items()
    }
    return values, problems


def _read_file(path: Path, problems: list[str]) -> dict[str, dict[str, str]] | None:
    """The sections of the file as text, or None if it is no settings file; no line of it is quoted in a problem."""
    try:
        content = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        problems.append(f"{path}: cannot be read: {error.strerror}; expected a file such as config.ini")
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


def _report_unknown(
    found: Mapping[str, Mapping[str, str]], sections: Mapping[str, type[Any]], problems: list[str]
) -> None:
    for section, keys in found.items():
        if section not in sections:
            problems.append(f"[{section}]: unknown section{_nearest(section, sections)}")
            continue
        known = [declared.name for declared in dataclasses.fields(sections[section])]
        problems.extend(f"[{section}] {key}: unknown key{_nearest(key, known)}" for key in keys if key not in known)


def _report_unknown_variables(
    environ: Mapping[str, str], sections: Mapping[str, type[Any]], problems: list[str]
) -> None:
    """Of sections with two words alone: VAULT_, HTTP_ and TOKEN_ begin the names of others' variables, too."""
    ours = tuple(variable(section, "") for section in sections if "_" in section)
    known = [variable(section, key.name) for section in sections for key in dataclasses.fields(sections[section])]
    for name in environ:
        if name.startswith(ours) and name not in known:
            problems.append(f"{name}: unknown variable{_nearest(name, known)}")


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
    """Where a setting's text comes from, the text, and how to parse it: a variable, or the file."""
    own = variable(section, declared.name)
    for name, parse in _names(own, declared).items():
        if environ.get(name) or (name == own and own in environ):
            return f" in {name}", environ[name], parse
    return "", found.get(declared.name), declared.metadata["parse"]


def _names(own: str, declared: dataclasses.Field[Any]) -> dict[str, Parser]:
    """The variables of a setting, the first that is set wins: ours, the `vault` command's, each as `bao` has it."""
    names: dict[str, Parser] = {own: declared.metadata["parse"], **declared.metadata["also"]}
    return {**names, **{f"BAO_{name[6:]}": parse for name, parse in names.items() if name.startswith("VAULT_")}}
