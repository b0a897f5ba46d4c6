"""recipes/on_request.py on the real server and database."""

from __future__ import annotations

from collections.abc import Callable

from recipes.on_request import credentials
from tests.integration.conftest import eventually, is_refused
from vault_client import VaultClient


def test_d3_user_is_gone_after_the_block(client: VaultClient, log_in_to_database: Callable[..., str]) -> None:
    """It is one of its own, and is dropped although the work failed; that of others lives on."""
    cached = client.get_database_dynamic_secret("db-demo-dynamic")
    try:
        with credentials(client, "db-demo-dynamic") as login:
            assert log_in_to_database(**login.data) == login.data["username"] != cached.data["username"]
            raise ZeroDivisionError
    except ZeroDivisionError:
        eventually(lambda: is_refused(log_in_to_database, login))
    assert log_in_to_database(**cached.data) == cached.data["username"]
