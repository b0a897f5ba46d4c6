"""What a service, a key and an account may be: nothing that two readers could take for two things."""

from __future__ import annotations

import pytest

from issuer.errors import NoSuchService
from issuer.issues import DELIVERED, Issue, Service, checked_key, from_json, in_force, successor_of, to_json
from vaultkit.errors import UnexpectedResponse


def issue(id: str, **facts: str) -> Issue:
    values = {"key": "main", "state": DELIVERED, "accessor": "an-accessor", **facts}
    return Issue(id=id, policies=("p",), ttl=10.0, asked=0.0, ends=10.0, **values)


@pytest.mark.parametrize(
    ("tenant", "service"), [("a-b", "c"), ("", "c"), ("a", ""), ("A", "b"), ("a", "b/c"), ("a", "-b")]
)
def test_ambiguous_names_are_refused(tenant: str, service: str) -> None:
    """A hyphen in a tenant, capitals (Vault's aliases know none), and what would lead out of a path."""
    with pytest.raises(NoSuchService, match="expected small letters"):
        Service.of(tenant, service)


def test_name_parts_at_the_first_hyphen() -> None:
    """So each name is of one service."""
    assert Service.named("shop-web-2") == Service.of("shop", "web-2")


@pytest.mark.parametrize("key", ["", "a b", "../x", "K"])
def test_key_is_a_file_name(key: str) -> None:
    """It becomes part of one."""
    with pytest.raises(NoSuchService):
        checked_key(key)


def test_account_comes_back_as_it_was() -> None:
    """From JSON, with whole numbers for fractions, as Vault gives them."""
    issues = (issue("1"), issue("2", replaces="1"))
    assert from_json(to_json(issues)) == issues


STRANGE_STATE = {"issues": [{**to_json((issue("1"),))["issues"][0], "state": "x"}]}


@pytest.mark.parametrize("data", [{}, {"issues": [{}]}, {"issues": 1}, STRANGE_STATE])
def test_strange_account_is_no_account(data: dict[str, object]) -> None:
    """Nothing is guessed of what no issuer has written."""
    with pytest.raises(UnexpectedResponse, match="no account of issued tokens"):
        from_json(data)


def test_p1_issue_shows_no_accessor() -> None:
    """Whoever has it can revoke the token."""
    assert "an-accessor" not in repr(issue("1"))


def test_old_one_is_in_force_until_replaced() -> None:
    """Of the two that are there during a rotation; then the new one."""
    old, new = issue("1"), issue("2", replaces="1")
    assert (in_force((old, new), "main"), successor_of((old, new), old)) == (old, new)
    assert in_force((new,), "main") == new
