"""Who may do what: a role from the claims of a JWT, a rule of the role, a decision. All of it is read from roles.ini.

    roles = Roles.load(Path("gateway/roles.ini"))
    held = roles.of(claims, "acme")                  # {"reader"}
    roles.allows(held, "read", "team/database")      # True

The decision is a function of role, verb and path alone. A path is the tenant's own: which tenant, no rule can say.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vaultkit.errors import ConfigurationError
from vaultkit.settings import read_sections, setting

from .paths import PathRefused, checked

VERBS = ("read", "list", "write", "delete", "versions", "rollback", "renew")
"""`renew` is of the gateway's own token, and so is asked for with the empty path, which ** alone matches."""

MOST_GROUPS = 200
LONGEST_GROUP = 255
"""Of a claim's list: a longer one is of an identity provider that has lost its measure, and gives no role."""
HEADING = re.compile(r"^\[(role [a-z0-9_-]+)\]", re.MULTILINE)
PLACEHOLDER = re.compile(r"\{.*?\}|[{}]")


@dataclass(frozen=True)
class Rule:
    """Some verbs on the paths of one pattern."""

    verbs: frozenset[str]
    segments: tuple[str, ...]
    rest: bool
    """Whether more may follow: the pattern ended with **."""

    def covers(self, verb: str, path: tuple[str, ...]) -> bool:
        if verb not in self.verbs:
            return False
        begins = path[: len(self.segments)] if self.rest else path
        return len(begins) == len(self.segments) and all(
            pattern in ("*", segment) for pattern, segment in zip(self.segments, begins, strict=True)
        )


# ── What may stand in the file ───────────────────────────────────────────────────────────────────────────────────────


def a_claim(value: str) -> tuple[str, ...]:
    """The way to a claim: a name, or a JSON pointer (RFC 6901)."""
    if value.startswith("/"):
        return tuple(part.replace("~1", "/").replace("~0", "~") for part in value[1:].split("/"))
    if not value.isprintable() or " " in value:
        raise ValueError("the name of a claim, or a JSON pointer such as /realm_access/roles")
    return (value,)


def a_group(value: str) -> str:
    others = [found for found in PLACEHOLDER.findall(value) if found != "{tenant}"]
    if not value.isprintable() or others:
        raise ValueError("a text in which {tenant} may stand, and no other braces")
    return value


def some_rules(value: str) -> tuple[Rule, ...]:
    return tuple(_a_rule(line.strip()) for line in value.splitlines() if line.strip())


def _a_rule(line: str) -> Rule:
    pattern, colon, listed = line.rpartition(":")
    verbs = [verb.strip() for verb in listed.split(",")]
    unknown = [verb for verb in verbs if verb not in VERBS]
    if not colon or unknown:
        raise ValueError(f"PATH: VERBS on each line, the verbs being some of {', '.join(VERBS)}")
    segments = tuple(pattern.strip().split("/"))
    rest = segments[-1] == "**"
    segments = segments[:-1] if rest else segments
    literal = [segment for segment in segments if segment != "*"]
    try:
        if literal:
            checked("/".join(literal))
    except PathRefused as refused:
        raise ValueError(
            f"a path in which * stands for one whole segment, and ** at the end for the rest: {refused}"
        ) from None
    return Rule(frozenset(verbs), segments, rest)


@dataclass(frozen=True, kw_only=True)
class Role:
    """[role NAME]: who has it, and what it allows and denies."""

    claim: tuple[str, ...] = setting(a_claim)
    has: str = setting(a_group)
    allow: tuple[Rule, ...] = setting(some_rules, ())
    deny: tuple[Rule, ...] = setting(some_rules, ())

    def is_held(self, claims: Mapping[str, Any], tenant: str) -> bool:
        return self.has.replace("{tenant}", tenant) in groups_in(claims, self.claim)


def groups_in(claims: Mapping[str, Any], way: tuple[str, ...]) -> Collection[str]:
    """What a claim lists. A text is no list, and what is no list of texts, or too long a one, lists nothing."""
    found: Any = claims
    for name in way:
        found = found.get(name) if isinstance(found, Mapping) else None
    if not isinstance(found, list) or len(found) > MOST_GROUPS:
        return ()
    well_formed = all(isinstance(group, str) and len(group) <= LONGEST_GROUP for group in found)
    return found if well_formed else ()


# ── The decision ─────────────────────────────────────────────────────────────────────────────────────────────────────


class Roles:
    """All roles of the file, by name."""

    def __init__(self, roles: Mapping[str, Role]) -> None:
        self._roles = dict(roles)

    @classmethod
    def load(cls, path: Path) -> Roles:
        """Read the file. Raises: ConfigurationError, with every problem there is."""
        headings = dict.fromkeys(HEADING.findall(_text_of(path)), Role)
        values, problems = read_sections(path, headings, {})
        if not headings and not problems:
            problems.append(f"{path}: no role; expected a section such as [role reader]")
        for heading, found in values.items():
            if not problems and not (found.get("allow") or found.get("deny")):
                problems.append(f"[{heading}]: it allows and denies nothing; expected a rule such as allow = **: read")
        if problems:
            raise ConfigurationError(problems)
        return cls({heading.removeprefix("role "): Role(**found) for heading, found in values.items()})

    def of(self, claims: Mapping[str, Any], tenant: str) -> frozenset[str]:
        """The names of the roles that these claims give in this tenant."""
        return frozenset(name for name, role in self._roles.items() if role.is_held(claims, tenant))

    def allows(self, roles: Collection[str], verb: str, path: str) -> bool:
        """Whether the roles, together, allow it: one rule does, and none denies it."""
        segments = tuple(path.split("/")) if path else ()
        held = [self._roles[name] for name in roles if name in self._roles]
        if any(rule.covers(verb, segments) for role in held for rule in role.deny):
            return False
        return any(rule.covers(verb, segments) for role in held for rule in role.allow)


def _text_of(path: Path) -> str:
    """The file, to find its headings; what is wrong with it `read_sections` says."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError):
        return ""
