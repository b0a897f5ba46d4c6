"""Reads kubernetes/catalogue.yaml, and tells every problem at once, each with its line."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from catalogue.entries import (
    RENEW_AT,
    Catalogue,
    Certificate,
    Dynamic,
    Entry,
    Environment,
    Operator,
    Service,
    Static,
    Stored,
    Vault,
)
from catalogue.fields import (
    Fields,
    a_duration,
    a_name,
    a_path,
    a_service,
    a_text,
    an_environment,
    an_url,
    one_of,
    read,
    some,
    some_keys,
)
from catalogue.problems import Problem

DEFAULT_PATH, STDIN = Path("kubernetes/catalogue.yaml"), Path("-")
Made = TypeVar("Made")


class CatalogueError(Exception):
    """The catalogue cannot be used: `problems` says all that is wrong with it."""

    def __init__(self, problems: Iterable[Problem], file: str) -> None:
        self.problems, self.file = sorted(set(problems)), file
        super().__init__("\n".join(each.told(file) for each in self.problems))


def load(path: Path = DEFAULT_PATH) -> Catalogue:
    """The catalogue in a file. Raises: CatalogueError; OSError, if it cannot be read."""
    problems: list[Problem] = []
    text = text_of(path)
    found = Reading(read(text, problems), path, problems).catalogue()
    if problems or found is None:
        raise CatalogueError(problems, str(path))
    return replace(found, text=text)


def text_of(path: Path) -> str:
    """What is in a file; `-` is stdin. Raises: CatalogueError, if it is no text; OSError, if it cannot be read."""
    raw = sys.stdin.buffer.read() if path == STDIN else path.read_bytes()
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise CatalogueError([Problem(0, "is no text in UTF-8")], str(path)) from None


class Reading:
    """One reading of the file: what cannot be made of it is None, and there is a problem that says why."""

    def __init__(self, top: Fields, path: Path, problems: list[Problem]) -> None:
        self._top, self._path, self._problems = top, path, problems

    def catalogue(self) -> Catalogue | None:
        vault, operator = self._vault(self._top.inside("vault")), self._operator(self._top.inside("external_secrets"))
        environments = [self._environment(*each) for each in self._top.inside("environments").entries(an_environment)]
        known = tuple(each.name for each in environments if each)
        services = [self._service(name, of, known) for name, of in self._top.inside("services").entries(a_service)]
        self._top.end()
        self._once(services)
        return self._made(
            Catalogue, vault=vault, operator=operator, file=str(self._path),
            environments=all_or_nothing(environments), services=all_or_nothing(services),
        )  # fmt: skip

    def _made(self, make: Callable[..., Made], **values: Any) -> Made | None:
        """The thing, if all that it is made of could be read."""
        return None if any(value is None for value in values.values()) else make(**values)

    def _vault(self, of: Fields) -> Vault | None:
        made = self._made(
            Vault,
            product=of.take("product", one_of("openbao", "vault"), "openbao"),
            server=of.take("server", an_url),
            audience=of.take("audience", a_text, "vault"),
            ca=of.take("ca", self._file),
            ca_file=of.take("ca", a_text, "ca.crt"),
            kv=of.take("kv", a_path, "kv"),
            database=of.take("database", a_path, "database"),
            pki=of.take("pki", a_path, "pki"),
            token_ttl=of.take("token_ttl", a_duration, 600),
            line=of.line,
        )
        of.end()
        return made

    def _file(self, name: Any) -> str:
        try:
            return (self._path.parent / a_text(name)).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            raise ValueError("a text file beside the catalogue") from None

    def _operator(self, of: Fields) -> Operator | None:
        names = {key: of.take(key, a_name, "external-secrets") for key in ("namespace", "account")}
        of.end()
        return self._made(Operator, **names)

    def _environment(self, name: str, of: Fields) -> Environment | None:
        made = self._made(Environment, name=name, auth=of.take("auth", a_path), line=of.line)
        of.end()
        return made

    # ── Services ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def _service(self, name: str, of: Fields, environments: tuple[str, ...]) -> Service | None:
        owner = of.take("owner", a_text)
        inside = of.inside("namespaces")
        namespaces = {each: inside.take(each, a_name) for each in environments if each in inside}
        inside.end()
        if not namespaces:
            of.complain("namespaces", "is missing; it takes ENVIRONMENT: NAMESPACE")
        readers = {
            "secrets": self._stored,
            "dynamic": self._dynamic,
            "static": self._static,
            "certificates": self._cert,
        }
        entries = [
            self._entry(reader, entry, fields, owner, tuple(namespaces))
            for key, reader in readers.items()
            for entry, fields in of.inside(key).entries(a_name)
        ]
        of.end()
        names = [each.name for each in entries if each]
        for entry in entries:
            if entry and names.count(entry.name) > 1:
                self._problems.append(Problem(entry.line, f"services.{name}: {entry.name} is there twice"))
        return self._made(
            Service, name=name, owner=owner, line=of.line, entries=all_or_nothing(entries),
            namespaces=None if None in namespaces.values() else namespaces,
            lines={each: inside.line_of(each) for each in namespaces},
        )  # fmt: skip

    def _entry(
        self, reader: Callable[..., Entry | None], name: str, of: Fields, owner: str | None, there: tuple[str, ...]
    ) -> Entry | None:
        make = partial(
            reader, of, name=name, line=of.line,
            owner=of.take("owner", a_text, owner or "nobody"), only=of.take("only", some(an_environment), there),
        )  # fmt: skip
        made = make()
        for each in made.only if made else ():
            if each not in there:
                of.complain("only", f"found {each}, where the service has no namespace")
        of.end()
        return made

    def _stored(self, of: Fields, **common: Any) -> Stored | None:
        return self._made(
            Stored,
            path=of.take("path", a_path, common["name"]),
            keys=of.take("keys", some_keys),
            refresh=of.take("refresh", a_duration),
            rotate=of.take("rotate", a_duration),
            provider=of.take("provider", a_name, ""),
            **common,
        )

    def _dynamic(self, of: Fields, **common: Any) -> Dynamic | None:
        made = self._made(
            Dynamic,
            connection=of.take("connection", a_name),
            grant=of.take("grant", a_path),
            lease=of.take("lease", a_duration),
            refresh=of.take("refresh", a_duration),
            **common,
        )
        if made and made.refresh * 2 > made.lease:
            of.complain("refresh", "is over half the lease: one refresh that fails leaves the users of it with nothing")
        return made

    def _static(self, of: Fields, **common: Any) -> Static | None:
        made = self._made(
            Static,
            connection=of.take("connection", a_name),
            username=of.take("username", a_text),
            rotate=of.take("rotate", a_duration),
            refresh=of.take("refresh", a_duration),
            **common,
        )
        if made and made.refresh * 2 > made.rotate:
            of.complain("refresh", "is over half of rotate: for that long the Secret has a password that is no more")
        return made

    def _cert(self, of: Fields, **common: Any) -> Certificate | None:
        life = of.take("life", a_duration)
        names = of.take("names", some(a_text))
        refresh = life and life * RENEW_AT[0] // RENEW_AT[1]
        return self._made(Certificate, names=names, life=life, refresh=refresh, **common)

    def _once(self, services: Iterable[Service | None]) -> None:
        """Who may write in a namespace may use every store that is in it: so it has one service, of one environment."""
        holders: dict[str, str] = {}
        for service in filter(None, services):
            for environment, namespace in service.namespaces.items():
                whose = f"{service.name}-{environment}"
                if holders.setdefault(namespace, whose) != whose:
                    text = f"services.{service.name}: the namespace {namespace} is that of {holders[namespace]}"
                    self._problems.append(Problem(service.lines[environment], text))


def all_or_nothing(values: list[Made | None]) -> tuple[Made, ...] | None:
    """None where one is; what is missing has been told of."""
    there = tuple(each for each in values if each is not None)
    return there if len(there) == len(values) else None
