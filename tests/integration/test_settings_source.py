"""recipes/settings_source.py: a pydantic model that Vault fills, on the real server and database."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import hvac
import pytest
from pydantic import SecretStr, ValidationError

from recipes.settings_source import DatabaseLogin, Kv, Login, VaultSettings, read_settings
from tests.backends import Backend
from tests.integration.conftest import eventually, put
from vault_client import VaultClient
from vaultkit.errors import SecretNotFound

STATIC = "db-demo-static"
PATH = "tests/settings_source"


class Settings(VaultSettings):
    debug: bool = False
    api_key: Annotated[str, Kv(PATH, "api_key")]
    port: Annotated[int, Kv(PATH, "port")]
    reports: Annotated[Login, DatabaseLogin(STATIC)]


@pytest.fixture(autouse=True)
def written(root: hvac.Client) -> None:
    put(root, PATH, api_key="one", port="5432")


def test_vault_fills_marked_fields(
    client: VaultClient, log_in_to_database: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Converted as pydantic does; the environment fills the others, and what Vault knows it does not overrule."""
    monkeypatch.setenv("DEBUG", "true")
    monkeypatch.setenv("API_KEY", "of the environment")
    settings = read_settings(Settings, client)
    assert (settings.debug, settings.api_key, settings.port) == (True, "one", 5432)
    login = settings.reports
    assert log_in_to_database(login.username, login.password.get_secret_value()) == login.username


def test_dynamic_login_is_one_of_the_client(client: VaultClient) -> None:
    """Its user lives as long as the lease, and goes with the client."""

    class Leased(VaultSettings):
        orders: Annotated[Login, DatabaseLogin("db-demo-dynamic", dynamic=True)]

    issued = client.get_database_dynamic_secret("db-demo-dynamic")
    assert read_settings(Leased, client).orders.username == issued.data["username"]


def test_settings_are_read_once(client: VaultClient, root: hvac.Client) -> None:
    """What was read stays as it was; read again, it is as it is now."""
    before = read_settings(Settings, client)
    put(root, PATH, api_key="two", port="5432")
    eventually(lambda: read_settings(Settings, client).api_key == "two")
    assert before.api_key == "one"


def test_c1_settings_read_again_cost_no_request(make_client: Callable[..., VaultClient], backend: Backend) -> None:
    """What is fresh comes from the client's cache; two fields of one secret are one request from the start."""
    client, since = make_client(), backend.audit.position()
    for _ in range(3):
        read_settings(Settings, client)
    assert backend.audit.count(since)[f"my-vault-app-kv/data/{PATH}"] == 1


def test_handed_over_value_is_not_asked_for(client: VaultClient) -> None:
    """So a test of a program needs no Vault."""
    client.close()
    given: dict[str, Any] = {"api_key": "mine", "port": 1, "reports": Login(username="u", password=SecretStr("p"))}
    assert read_settings(Settings, client, **given).api_key == "mine"


def test_e1_missing_key_names_those_there(client: VaultClient) -> None:
    """A typing error is seen at once, and no value is shown."""

    class Mistyped(VaultSettings):
        api_key: Annotated[str, Kv(PATH, "apikey")]

    with pytest.raises(SecretNotFound, match=f'at {PATH} has no "apikey"; it has api_key, port'):
        read_settings(Mistyped, client)


def test_p1_model_shows_no_secret(client: VaultClient, root: hvac.Client) -> None:
    """Neither in its repr, be the field a plain str, nor in what pydantic says of a wrong value."""
    put(root, PATH, api_key="very-secret", port="no number")
    with pytest.raises(ValidationError) as refused:
        eventually(lambda: read_settings(Settings, client).port == 5432)
    assert "no number" not in str(refused.value)
    put(root, PATH, api_key="very-secret", port="1")
    eventually(lambda: client.get_kv_secret(PATH).data["port"] == "1")
    settings = read_settings(Settings, client)
    assert repr(settings) == "Settings(debug=False)"
    assert "very-secret" not in str(settings)
