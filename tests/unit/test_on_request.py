"""recipes/on_request.py: credentials for a piece of work, and that they are given back, on a fake Vault."""

from __future__ import annotations

import logging
import os

import pytest

from recipes.on_request import conninfo, credentials
from tests.fakes import DYNAMIC, GIVE_BACK, PASSWORD, FakeClock, FakeVault, Refusal
from vault_client import VaultClient
from vaultkit.errors import UnexpectedResponse

ROLE = "db-demo-dynamic"


def refuse() -> None:
    raise Refusal(503, "Vault is sealed")


class Trouble(Exception):
    """What goes wrong in the work itself."""


def test_d3_given_back_at_the_end(client: VaultClient, vault: FakeVault) -> None:
    """Once, and not before."""
    with credentials(client, ROLE) as login:
        assert vault.count()[GIVE_BACK] == 0
        assert conninfo(login) == {"user": "v-approle-1", "password": f"{PASSWORD}-1"}
    assert vault.count()[GIVE_BACK] == 1


@pytest.mark.parametrize("trouble", [Trouble, KeyboardInterrupt, SystemExit])
def test_d3_given_back_after_an_exception(client: VaultClient, vault: FakeVault, trouble: type[BaseException]) -> None:
    """Which is not hidden, whether Vault takes them back or not."""
    for how in (dict, refuse):
        vault.instead[GIVE_BACK] = how
        with pytest.raises(trouble), credentials(client, ROLE):
            raise trouble
    assert vault.count()[GIVE_BACK] >= 2


def test_each_block_has_its_own(client: VaultClient, vault: FakeVault) -> None:
    """Neither that of another block nor the cached ones, which stay."""
    cached = client.get_database_dynamic_secret(ROLE)
    with credentials(client, ROLE) as one, credentials(client, ROLE) as other:
        assert len({cached.lease_id, one.lease_id, other.lease_id}) == 3
    assert client.get_database_dynamic_secret(ROLE) is cached


def test_d2_token_lives_for_the_work(client: VaultClient, vault: FakeVault, clock: FakeClock) -> None:
    """With little left of a token that cannot be renewed, there is a login first: the lease would die with it."""
    vault.renewable = False
    client.get_token_info()
    clock.pass_time(vault.token_ttl * 0.9)
    with credentials(client, ROLE):
        assert vault.logins == 2


def test_d3_unreadable_is_given_back(client: VaultClient, vault: FakeVault) -> None:
    """An answer without a user, but with a lease."""
    vault.instead[DYNAMIC] = lambda: {"lease_id": "creds/1", "lease_duration": 60, "data": None}
    with pytest.raises(UnexpectedResponse), credentials(client, ROLE):
        pytest.fail("there is nothing to work with")
    assert vault.count()[GIVE_BACK] == 1


def test_failure_to_give_back_warns(client: VaultClient, vault: FakeVault, caplog: pytest.LogCaptureFixture) -> None:
    """The work is done: it is told of once, without a value (P1)."""
    vault.instead[GIVE_BACK] = refuse
    with caplog.at_level(logging.WARNING, "recipes"), credentials(client, ROLE):
        pass
    said = [record.getMessage() for record in caplog.records if record.name == "recipes"]
    assert len(said) == 1
    assert said[0].startswith(f"credentials of {ROLE} were not given back, and live to the end of their lease: ")
    assert PASSWORD not in caplog.text


def test_closed_client_has_given_back(client: VaultClient, vault: FakeVault, caplog: pytest.LogCaptureFixture) -> None:
    """It revoked its token, and with that the lease: nothing is left to do, or to warn of."""
    with caplog.at_level(logging.WARNING, "recipes"), credentials(client, ROLE):
        client.close()
    assert [record for record in caplog.records if record.name == "recipes"] == []


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_t10_child_gives_nothing_back(client: VaultClient, vault: FakeVault) -> None:
    """One that was forked in the block, and leaves it in its own way: the credentials are the parent's."""
    child = -1
    try:
        with credentials(client, ROLE):
            child = os.fork()
            if child == 0:
                raise Trouble
    except Trouble:
        os._exit(vault.count()[GIVE_BACK])
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert vault.count()[GIVE_BACK] == 1
