"""Who may do what: denied by default, one readable file, and a decision that is a function."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.paths import canonical
from gateway.roles import VERBS, Role, Roles, some_rules
from vaultkit.errors import ConfigurationError

SHIPPED = Path(__file__).parents[2] / "gateway/roles.ini"
WRITER = {"groups": ["acme-writers"]}

PATHS = st.lists(st.sampled_from(["a", "b", "team", "x y"]), max_size=4).map("/".join)
PATTERNS = st.lists(st.sampled_from(["a", "b", "team", "*"]), max_size=3).flatmap(
    lambda parts: st.sampled_from(["/".join([*parts, "**"]), "/".join(parts) or "**"])
)
RULES = st.lists(
    st.tuples(PATTERNS, st.lists(st.sampled_from(VERBS), min_size=1)).map(
        lambda rule: f"{rule[0]}: {','.join(rule[1])}"
    ),
    min_size=1,
    max_size=3,
).map(lambda lines: some_rules("\n".join(lines)))


@pytest.fixture
def shipped() -> Roles:
    return Roles.load(SHIPPED)


def roles_of(tmp_path: Path, text: str) -> Roles:
    path = tmp_path / "roles.ini"
    path.write_text(text, encoding="utf-8")
    return Roles.load(path)


def a_role(*, allow: str = "", deny: str = "") -> Role:
    return Role(claim=("groups",), has="{tenant}-x", allow=some_rules(allow), deny=some_rules(deny))


# ── Which roles ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("groups", "roles"),
    [
        (["acme-writers", "acme-readers"], {"writer", "reader"}),
        (["acme-readers"], {"reader"}),
        (["gateway-operators"], {"operator"}),
        (["globex-writers", "acme", "acme-writers-x", "Acme-writers", "{tenant}-writers"], set()),
        ([], set()),
        ("acme-writers", set()),
        ({"acme-writers": True}, set()),
        (None, set()),
        (["acme-writers", 7], set()),
        (["acme-writers"] * 200, {"writer"}),
        (["acme-writers"] * 201, set()),
        (["acme-writers", "x" * 255], {"writer"}),
        (["acme-writers", "x" * 256], set()),
    ],
)
def test_roles_come_from_a_list(shipped: Roles, groups: Any, roles: set[str]) -> None:
    """Of texts, of bounded length; a text is no list, and another tenant's group gives nothing."""
    assert shipped.of({"groups": groups}, "acme") == roles


def test_no_claim_no_role(shipped: Roles) -> None:
    assert shipped.of({}, "acme") == frozenset()


@given(st.sampled_from(["acme", "globex", "a", "a-b"]), st.sampled_from(["acme", "globex", "a", "a-b"]))
def test_other_tenants_groups_give_nothing(mine: str, other: str) -> None:
    roles = Roles.load(SHIPPED).of({"groups": [f"{other}-writers", f"{other}-readers"]}, mine)
    assert bool(roles) == (mine == other)


def test_claim_may_be_a_pointer(tmp_path: Path) -> None:
    """As Keycloak nests its roles."""
    roles = roles_of(tmp_path, "[role r]\nclaim = /realm_access/ro~1les\nhas = {tenant}\nallow = **: read")
    assert roles.of({"realm_access": {"ro/les": ["acme"]}}, "acme") == {"r"}
    assert roles.of({"realm_access": ["acme"], "/realm_access/ro~1les": ["acme"]}, "acme") == frozenset()


# ── What they may ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("pattern", "matching", "other"),
    [
        ("**", ["", "a", "a/b/c"], []),
        ("*", ["a"], ["", "a/b"]),
        ("team/**", ["team", "team/a", "team/a/b"], ["", "teams", "teams/a", "x/team"]),
        ("team/*", ["team/a"], ["team", "team/a/b"]),
        ("*/db", ["a/db"], ["db", "a/b/db", "a/dbx"]),
        ("a/b", ["a/b"], ["a", "a/b/c", "A/b", "a/bb"]),
        ("[a]/b.c", ["[a]/b.c"], ["a/b.c", "[a]/bxc"]),
    ],
)
def test_patterns_stand_for_segments(pattern: str, matching: list[str], other: list[str]) -> None:
    """* is one of them, ** the rest, and nothing else has a meaning."""
    roles = Roles({"r": a_role(allow=f"{pattern}: read")})
    assert [path for path in [*matching, *other] if roles.allows(["r"], "read", path)] == matching


def test_verbs_are_told_apart(shipped: Roles) -> None:
    """Whoever may roll back need not be able to read, and all that is not allowed is denied."""
    assert shipped.allows(["operator"], "rollback", "app")
    assert not shipped.allows(["operator"], "read", "app")
    assert shipped.allows(["operator"], "renew", "")
    assert not shipped.allows(["writer", "reader"], "renew", "")
    assert not shipped.allows(["reader"], "write", "app")
    assert not shipped.allows([], "read", "app")
    assert not shipped.allows(["nobody"], "read", "app")
    assert not shipped.allows(["writer"], "destroy", "app")


def test_deny_wins() -> None:
    """Over every allow, of every role, in whatever order."""
    roles = Roles({"all": a_role(allow="**: read, write"), "not": a_role(deny="billing/**: write")})
    assert roles.allows(["all", "not"], "read", "billing/a")
    assert not roles.allows(["all", "not"], "write", "billing/a")
    assert not roles.allows(["not", "all"], "write", "billing")
    assert roles.allows(["all"], "write", "billing/a")


@given(RULES, RULES, RULES, st.sampled_from(VERBS), PATHS)
def test_another_role_takes_no_right(allow: Any, deny: Any, more: Any, verb: str, path: str) -> None:
    """If it only allows; one that denies gives none."""
    common: Any = {"claim": ("groups",), "has": "x"}
    roles = Roles(
        {
            "has": Role(allow=allow, deny=deny, **common),
            "more": Role(allow=more, **common),
            "less": Role(deny=more, **common),
        }
    )
    before = roles.allows(["has"], verb, path)
    assert roles.allows(["has", "more"], verb, path) >= before
    assert roles.allows(["has", "less"], verb, path) <= before
    assert roles.allows(["has", "has"], verb, path) == before


@given(RULES, PATHS.filter(bool), st.data())
def test_decision_knows_no_spelling(allow: Any, path: str, data: st.DataObject) -> None:
    """All spellings of one path are decided alike, for they are one path."""
    roles = Roles({"r": Role(claim=("groups",), has="x", allow=allow)})
    escaped = "".join(f"%{ord(c):02X}" if c == " " or (c != "/" and data.draw(st.booleans())) else c for c in path)
    assert roles.allows(["r"], "read", canonical(escaped.encode())) == roles.allows(["r"], "read", path)


# ── The file ─────────────────────────────────────────────────────────────────────────────────────────────────────────

GOOD = "[role r]\nclaim = groups\nhas = {tenant}-x\n"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "no role"),
        ("# nothing", "no role"),
        (GOOD, "allows and denies nothing"),
        (GOOD + "allow =", "allows and denies nothing"),
        (GOOD + "allow = **: raed", "[role r] allow: found '**: raed'"),
        (GOOD + "allow = **: destroy", "PATH: VERBS"),
        (GOOD + "allow = **", "PATH: VERBS"),
        (GOOD + "allow = **:", "PATH: VERBS"),
        (GOOD + "allow = : read", "a path in which"),
        (GOOD + "allow = a//b: read", "a path in which"),
        (GOOD + "allow = ../b: read", "a path in which"),
        (GOOD + "allow = **/b: read", "a path in which"),
        (GOOD + "allow = team-*: read", "a path in which"),
        (GOOD + "allow = {tenant}/**: read", "a path in which"),
        (GOOD + "allow = **: read\n  x: y", "PATH: VERBS"),
        (GOOD + "alow = **: read", "alow: unknown key; did you mean allow?"),
        (GOOD.replace("tenant", "tenants") + "allow = **: read", "no other braces"),
        (GOOD.replace("groups", "my groups") + "allow = **: read", "the name of a claim"),
        (GOOD.replace("has = {tenant}-x", "has =") + "allow = **: read", "[role r] has: a value is required"),
        (GOOD + "allow = **: read\n[role r]\n", "stands twice"),
        (GOOD + "allow = **: read\n[rule s]\n", "[rule s]: unknown section"),
        (GOOD + "allow = **: read\n[role]\n", "[role]: unknown section"),
        ("claim = groups", "text before the first [section]"),
    ],
)
def test_wrong_file_is_an_error(tmp_path: Path, text: str, problem: str) -> None:
    with pytest.raises(ConfigurationError) as error:
        roles_of(tmp_path, text)
    assert problem in str(error.value)


def test_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot be read"):
        Roles.load(tmp_path / "none.ini")


def test_all_problems_come_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as error:
        roles_of(tmp_path, "[role a]\nallow = x\n[role b]\nhas = {\ndeny = y\n[c]\n")
    assert len(error.value.problems) == 7


def test_further_lines_are_rules(tmp_path: Path) -> None:
    """Comments may stand between them."""
    roles = roles_of(tmp_path, GOOD + "allow =\n  a: read\n  # not b\n\n  c: read,list\ndeny = d: read\n")
    assert [path for path in "abcd" if roles.allows(["r"], "read", path)] == ["a", "c"]
