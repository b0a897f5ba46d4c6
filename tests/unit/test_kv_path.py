"""KV secrets by their path in Vault's API, in whatever mount, and a client in one line."""

from __future__ import annotations

import pytest

from tests.fakes import FakeClock, FakeVault
from vault_client import VaultClient
from vaultkit.engines import KvEngine, KvPathEngine
from vaultkit.errors import ConfigurationError, SecretNotFound


@pytest.mark.parametrize("path", ["db", "secret/db", "secret/data/", "/data/db", "secret/metadata/db"])
def test_path_without_mount_is_refused(client: VaultClient, vault: FakeVault, path: str) -> None:
    """Vault is not asked for what can be no secret of KV v2."""
    with pytest.raises(SecretNotFound, match="is no path"):
        client.get_secret(path)
    assert [asked for asked in vault.asked if "secret/" in asked] == []


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("secret/data/db", ("secret", "db")),
        ("team/kv/data/shop/db", ("team/kv", "shop/db")),
        ("kv/data/data/x", ("kv", "data/x")),
    ],
)
def test_path_names_its_mount(client: VaultClient, name: str, place: tuple[str, str]) -> None:
    """The mount may have several parts, and the path as well."""
    engine = client.engines["kv_path"]
    assert isinstance(engine, KvPathEngine)
    assert isinstance(engine, KvEngine)
    assert engine.place_of(name) == place


def test_k1_path_is_cached_by_version(client: VaultClient, vault: FakeVault, clock: FakeClock) -> None:
    """A second read asks nothing; a refresh asks for the version alone."""
    path = "my-vault-app-kv/data/database"
    first = client.get_secret(path)
    vault.forget()
    assert client.get_secret(path) is first
    assert vault.asked == []
    clock.pass_time(5)
    assert client.get_secret(path) is first
    assert len(vault.asked) == 1
    assert "metadata" in vault.asked[0]


def test_two_mounts_are_two_secrets(client: VaultClient) -> None:
    """What is read by path is not taken for what [kv_secret] reads, also where it was refused."""
    by_path, by_name = client.get_secret("my-vault-app-kv/data/database"), client.get_kv_secret("database")
    assert (by_path.engine, by_name.engine) == ("kv_path", "kv_secret")
    assert client.get_instead_of(by_path).data == by_name.data
    assert client.peek("my-vault-app-kv/data/database", "kv_path") is not None


def test_client_of_a_wrong_address_is_refused() -> None:
    """At once, with what was expected, and without the token."""
    with pytest.raises(ConfigurationError, match="expected an address") as caught:
        VaultClient.of(url="vault.example.com", token="s.not-to-be-shown")
    assert "not-to-be-shown" not in str(caught.value)
