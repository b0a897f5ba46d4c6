"""Reads mappings of YAML: each value by a rule, each problem with its line, and all of them at once."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap
from ruamel.yaml.error import YAMLError

from catalogue.problems import Problem, in_yaml

Value = TypeVar("Value")
UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
TAKEN = ("issued", "rotations")
KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
PATH = re.compile(r"[a-z0-9][-a-z0-9_]*(/[a-z0-9][-a-z0-9_]*)*")


class Fields:
    """One mapping. What was not taken of it is a problem at the end."""

    def __init__(self, mapping: Mapping[str, Any], line: int, problems: list[Problem], where: str = "") -> None:
        self._mapping, self.line, self._problems, self._where = mapping, line, problems, where
        self._taken: set[str] = set()

    def __contains__(self, key: str) -> bool:
        return key in self._mapping

    def line_of(self, key: str) -> int:
        if isinstance(self._mapping, CommentedMap) and key in self._mapping:
            return int(self._mapping.lc.key(key)[0]) + 1
        return self.line

    def complain(self, key: str, text: str) -> None:
        where = f"{self._where}.{key}" if self._where and key else self._where or key
        self._problems.append(Problem(self.line_of(key), f"{where}: {text}"))

    def take(self, key: str, rule: Callable[[Any], Value], default: Value | None = None) -> Value | None:
        """The value as the rule reads it; the default where there is none, and a problem where that is None."""
        self._taken.add(key)
        if self._mapping.get(key) is None:
            if default is None:
                self.complain(key, "is missing")
            return default
        try:
            return rule(self._mapping[key])
        except ValueError as error:
            self.complain(key, f"found {self._mapping[key]!r}, expected {error}")
            return default

    def inside(self, key: str) -> Fields:
        """The mapping at a key; an empty one where there is none."""
        self._taken.add(key)
        found = self._mapping.get(key)
        if found is not None and not isinstance(found, dict):
            self.complain(key, f"found {found!r}, expected a mapping")
            found = None
        where = f"{self._where}.{key}" if self._where else key
        return Fields(found or {}, self.line_of(key), self._problems, where)

    def entries(self, rule: Callable[[Any], str]) -> Iterator[tuple[str, Fields]]:
        """Each key with the mapping that it has; a key that is no name is a problem."""
        for key in self._mapping:
            try:
                rule(key)
            except ValueError as error:
                self.complain(str(key), f"found {key!r}, expected {error}")
            else:
                yield str(key), self.inside(key)

    def end(self) -> None:
        """Whatever was not asked for is a mistake in writing."""
        for key in self._mapping:
            if key not in self._taken:
                known = ", ".join(sorted(self._taken))
                self.complain(str(key), f"is not known here; known are {known}")


def read(text: str, problems: list[Problem]) -> Fields:
    """The mapping that a file is. YAML of today: `no` is a word, and a key that is there twice a problem."""
    try:
        found = YAML().load(text)
    except YAMLError as error:
        problems.append(Problem(*in_yaml(error)))
        found = None
    if found is not None and not isinstance(found, dict):
        problems.append(Problem(1, "found no mapping"))
        found = None
    return Fields(found or {}, 1, problems)


# ── Rules ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def a_text(value: Any) -> str:
    if not isinstance(value, str) or not value.strip() or "\n" in value:
        raise ValueError("a line of text")
    return value.strip()


def a_name(value: Any) -> str:
    """As Kubernetes has them."""
    if not isinstance(value, str) or not NAME.fullmatch(value):
        raise ValueError("small letters, digits and - alone, 63 at most")
    return value


def a_service(value: Any) -> str:
    """`secrets-` begins the names of who keeps the secrets."""
    if a_name(value).startswith("secrets-"):
        raise ValueError('a name that does not begin with "secrets-"')
    return str(value)


def one_of(*words: str) -> Callable[[Any], str]:
    def read_word(value: Any) -> str:
        if value not in words:
            raise ValueError(f"one of {', '.join(words)}")
        return str(value)

    return read_word


def an_environment(value: Any) -> str:
    """Without a hyphen, so that SERVICE-ENVIRONMENT is read in one way only; what is TAKEN means something else."""
    if not isinstance(value, str) or not re.fullmatch(r"[a-z][a-z0-9]{0,19}", value) or value in TAKEN:
        raise ValueError(f"small letters and digits alone, and none of {', '.join(TAKEN)}")
    return value


def a_path(value: Any) -> str:
    """Of Vault: nothing that a policy would read as a pattern, nothing that climbs."""
    if not isinstance(value, str) or not PATH.fullmatch(value):
        raise ValueError("a path of small letters, digits, -, _ and /")
    return value


def a_duration(value: Any) -> int:
    """Seconds, of 90s, 20m, 1h or 30d."""
    found = re.fullmatch(r"([1-9][0-9]{0,8})([smhd])", value) if isinstance(value, str) else None
    if not found:
        raise ValueError("a duration such as 90s, 20m, 1h or 30d")
    return int(found[1]) * UNITS[found[2]]


def some(rule: Callable[[Any], Value]) -> Callable[[Any], tuple[Value, ...]]:
    """A list that is not empty, each by the rule."""

    def read_list(value: Any) -> tuple[Value, ...]:
        if not isinstance(value, list) or not value:
            raise ValueError("a list that is not empty")
        return tuple(map(rule, value))

    return read_list


def some_keys(value: Any) -> dict[str, str]:
    """Of a Secret, each with the property that it comes from: a list where the two are called the same."""
    pairs = {each: each for each in map(str, value)} if isinstance(value, list) else value
    if not isinstance(pairs, dict) or not pairs or not all(map(KEY.fullmatch, map(str, [*pairs, *pairs.values()]))):
        raise ValueError("a list of keys, or KEY: property; of letters, digits and _")
    return {str(key): str(name) for key, name in pairs.items()}


def an_url(value: Any) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"https://[-.a-z0-9]+(:[0-9]+)?", value):
        raise ValueError("https:// with a host, and nothing behind it")
    return value


def in_words(seconds: int) -> str:
    """As Go reads it, which knows no days: 1h, 20m, 90s."""
    for unit in ("h", "m"):
        if seconds % UNITS[unit] == 0:
            return f"{seconds // UNITS[unit]}{unit}"
    return f"{seconds}s"
