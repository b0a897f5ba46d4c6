"""Whatever goes wrong beside a request is an outage, which a cache bridges; a mistake in the program is none (H1)."""

from __future__ import annotations

import http.client
import traceback
from collections.abc import Callable
from typing import NoReturn

import pytest
import requests
import urllib3

from tests.fakes import KV_DATA, KV_METADATA, LOGIN, RENEW, TOKEN, FakeClock, FakeVault
from vault_client import VaultClient
from vaultkit.errors import VaultUnreachable
from vaultkit.events import Event, RenewalFailed

QUOTED = f"Header part ('{TOKEN}1') from ('X-Vault-Token')"
TROUBLES = [
    OSError("Could not find a suitable TLS CA certificate bundle"),
    PermissionError(13, "Permission denied"),
    urllib3.exceptions.LocationParseError(QUOTED),
    urllib3.exceptions.SystemTimeWarning(QUOTED),
    requests.exceptions.InvalidHeader(QUOTED),
    requests.exceptions.InvalidURL(QUOTED),
    requests.exceptions.InvalidSchema(QUOTED),
    http.client.InvalidURL(QUOTED),
    UnicodeError(QUOTED),
    ValueError(QUOTED),
]


def raising(error: Exception) -> Callable[[], NoReturn]:
    def answer() -> NoReturn:
        raise error

    return answer


@pytest.mark.parametrize("error", TROUBLES, ids=lambda error: type(error).__name__)
def test_h1_trouble_beside_a_request_is_an_outage(
    client: VaultClient, vault: FakeVault, clock: FakeClock, events: list[Event], error: Exception
) -> None:
    """The cached value serves on (K4), and the renewal is tried again (T6)."""
    client.get_kv_secret("database")
    vault.instead = {asked: raising(error) for asked in (KV_DATA, KV_METADATA, RENEW)}
    clock.pass_time(50)
    client.keep_token_alive()
    assert client.get_kv_secret("database").stale
    assert [type(event.error) for event in events if isinstance(event, RenewalFailed)] == [VaultUnreachable]


@pytest.mark.parametrize("error", TROUBLES, ids=lambda error: type(error).__name__)
def test_p1_trouble_is_not_quoted(client: VaultClient, vault: FakeVault, error: Exception) -> None:
    """requests and urllib3 quote the header or address that they cannot read."""
    vault.instead[LOGIN] = raising(error)
    with pytest.raises(VaultUnreachable) as caught:
        client.login()
    assert TOKEN not in "".join(traceback.format_exception(caught.value))


def test_h1_mistake_in_the_program_is_none(client: VaultClient, vault: FakeVault) -> None:
    """It shall be seen, and not be served around for an hour."""
    vault.instead[LOGIN] = raising(TypeError("a mistake"))
    with pytest.raises(TypeError):
        client.login()
