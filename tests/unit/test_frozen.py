"""What the cache hands out can be read, copied and sent on, but not changed by anybody, at any depth."""

from __future__ import annotations

import copy
import json
import pickle
import sys
from collections.abc import Callable
from typing import Any

import pytest

from tests.fakes import KV_DATA, FakeVault
from vault_client import VaultClient
from vaultkit.errors import UnexpectedResponse
from vaultkit.secret import Secret

VALUES: dict[str, Any] = {"hosts": ["a", "b"], "limits": {"max": 3}, "name": "shop"}

EDITS: list[Callable[[Any], object]] = [
    lambda data: data.update(name="x"),
    lambda data: data.clear(),
    lambda data: data.pop("name"),
    lambda data: data.popitem(),
    lambda data: data.setdefault("other", 1),
    lambda data: data.__setitem__("name", "x"),
    lambda data: data.__delitem__("name"),
    lambda data: data.__ior__({"name": "x"}),
    lambda data: data["limits"].clear(),
    lambda data: data["limits"].update(max=0),
    lambda data: data["hosts"].append("INJECTED"),
    lambda data: data["hosts"].extend("x"),
    lambda data: data["hosts"].insert(0, "x"),
    lambda data: data["hosts"].remove("a"),
    lambda data: data["hosts"].pop(),
    lambda data: data["hosts"].clear(),
    lambda data: data["hosts"].sort(),
    lambda data: data["hosts"].reverse(),
    lambda data: data["hosts"].__setitem__(0, "x"),
    lambda data: data["hosts"].__delitem__(0),
    lambda data: data["hosts"].__iadd__(["x"]),
    lambda data: data["hosts"].__imul__(2),
]


@pytest.fixture
def secret(client: VaultClient, vault: FakeVault) -> Secret:
    """A secret with values below values."""
    facts = {"version": 1, "created_time": vault.created}
    vault.instead[KV_DATA] = lambda: {"data": {"data": VALUES, "metadata": facts}}
    return client.get_kv_secret("database")


@pytest.mark.parametrize("edit", EDITS)
def test_no_edit_reaches_another_reader(client: VaultClient, secret: Secret, edit: Callable[[Any], object]) -> None:
    """It is refused, and says how to get a copy that may be changed."""
    with pytest.raises(TypeError, match=r"copy\.deepcopy"):
        edit(secret.data)
    assert client.get_kv_secret("database").data == VALUES


@pytest.mark.parametrize(
    "copied", [copy.deepcopy, copy.copy, dict, lambda data: json.loads(json.dumps(data)), lambda data: data | {}]
)
def test_copies_are_ordinary(secret: Secret, copied: Callable[[Any], Any]) -> None:
    """However it is copied, the copy is equal and may be changed."""
    mine = copied(secret.data)
    assert mine == VALUES
    mine["name"] = "mine"
    assert secret.data["name"] == "shop"


def test_deep_copies_share_nothing(secret: Secret) -> None:
    """Nor do pickled ones: they are plain dictionaries and lists throughout."""
    for mine in (copy.deepcopy(secret.data), pickle.loads(pickle.dumps(secret.data))):
        mine["hosts"].append("c")
        mine["limits"]["max"] = 4
        assert (type(mine), type(mine["hosts"]), type(mine["limits"])) == (dict, list, dict)
    assert secret.data == VALUES


def test_secret_may_stand_in_what_is_copied(secret: Secret) -> None:
    """A deep copy of something that holds a secret holds the same one."""
    assert copy.deepcopy({"secret": secret})["secret"] is secret


def test_endless_nesting_is_nonsense(client: VaultClient, vault: FakeVault) -> None:
    """Whoever answers so does not crash a thread. (How deep JSON may be differs between Pythons.)"""
    levels = 600 if sys.version_info < (3, 12) else 3000
    facts = json.dumps({"version": 1, "created_time": vault.created})
    deep = "[" * levels + "]" * levels
    vault.instead[KV_DATA] = lambda: f'{{"data": {{"data": {{"deep": {deep}}}, "metadata": {facts}}}}}'.encode()
    with pytest.raises(UnexpectedResponse, match="my-vault-app-kv/database is nested too deeply"):
        client.get_kv_secret("database")
