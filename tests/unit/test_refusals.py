"""What the pools rely on: a refused secret is asked for anew, once; every change counts a generation up."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest

from tests.fakes import DYNAMIC, KV_DATA, STATIC, FakeClock, FakeVault
from tests.unit.conftest import ClientFactory
from vault_app import seconds_to_next_turn
from vault_client import VaultClient
from vaultkit.errors import SecretDeleted, VaultUnavailable
from vaultkit.events import Event, SecretChanged
from vaultkit.lifetime import LONG_AGO
from vaultkit.secret import Secret

READERS: dict[str, Callable[[VaultClient], Secret]] = {
    STATIC: lambda client: client.get_database_static_secret("db-demo-static"),
    DYNAMIC: lambda client: client.get_database_dynamic_secret("db-demo-dynamic"),
}


@pytest.mark.parametrize("what", READERS)
def test_refused_secret_is_asked_for_anew(
    client: VaultClient, vault: FakeVault, events: list[Event], what: str
) -> None:
    """Though it is fresh; and everybody gets the new one from then on."""
    refused = READERS[what](client)
    vault.rotation = "2026-11-23T20:00:00Z"
    new = client.get_instead_of(refused)
    assert new.data["password"] != refused.data["password"]
    assert READERS[what](client) is new
    assert (vault.count()[what], events[-1]) == (2, SecretChanged(new, refused))


def test_many_refusals_ask_once(client: VaultClient, vault: FakeVault) -> None:
    """All threads of a pool are refused at the same time."""
    refused = READERS[STATIC](client)
    vault.rotation = "2026-11-23T20:00:00Z"

    def slowly() -> Any:
        time.sleep(0.1)  # long enough for all others to come meanwhile
        return vault._static()

    vault.instead[STATIC] = slowly
    with ThreadPoolExecutor(16) as pool:
        got = set(pool.map(client.get_instead_of, [refused] * 16))
    assert len(got) == 1
    assert refused not in got
    assert vault.count()[STATIC] == 2


def test_what_was_replaced_is_not_doubted(client: VaultClient, vault: FakeVault) -> None:
    """Whoever comes late with the old secret gets the new one, and Vault is not asked."""
    refused = READERS[DYNAMIC](client)
    new = client.get_instead_of(refused)
    assert client.get_instead_of(refused) is new
    assert vault.count()[DYNAMIC] == 2


def test_late_refusal_uses_up_nothing(client: VaultClient, vault: FakeVault) -> None:
    """Of the old secret, when the new one is refused, too: Vault is still asked at once."""
    first = READERS[DYNAMIC](client)
    cache = client.engines["database_dynamic"]._cache
    cache[first.name] = replace(cache[first.name], due=LONG_AGO)
    second = READERS[DYNAMIC](client)
    client.get_instead_of(first)
    assert client.get_instead_of(second).revision == 3
    assert vault.count()[DYNAMIC] == 3


def test_c2_endless_refusals_are_paced(client: VaultClient, vault: FakeVault, clock: FakeClock) -> None:
    """A database that lets nobody in costs a lease in two seconds, however often it is tried."""
    for _ in range(100):
        client.get_instead_of(READERS[DYNAMIC](client))
        clock.pass_time(0.2)
    assert vault.count()[DYNAMIC] == 1 + 10


def test_s1_password_that_rotates_again_is_asked_for(client: VaultClient, vault: FakeVault, clock: FakeClock) -> None:
    """A second after the last refusal: to ask costs a request, and no lease; ten refusals in a moment cost one."""
    secret = READERS[STATIC](client)
    for rotation in ("one", "two", "three"):
        vault.rotation = rotation
        secret = client.get_instead_of(secret)
        assert secret.last_rotation == rotation
        clock.pass_time(1)
    for _ in range(10):
        client.get_instead_of(secret)
        clock.pass_time(0.01)
    assert vault.count()[STATIC] == 1 + 3 + 1


def test_refusal_in_an_outage_keeps_the_secret(client: VaultClient, vault: FakeVault) -> None:
    """Without an answer nothing better is known: the cached one goes on serving, stale."""
    refused = READERS[STATIC](client)
    vault.go_down()
    assert client.get_instead_of(refused).stale
    assert READERS[STATIC](client).says_the_same_as(refused)


def test_refused_without_a_cache_is_an_error(client: VaultClient, vault: FakeVault) -> None:
    """After it ended, as after any other."""
    refused = READERS[STATIC](client)
    client.engines["database_static"]._cache.clear()
    vault.go_down()
    with pytest.raises(VaultUnavailable):
        client.get_instead_of(refused)


def test_generation_counts_changes(client: VaultClient, vault: FakeVault, clock: FakeClock) -> None:
    """A confirmation is none; a new version is; and it never starts anew, even if the cache was emptied."""
    seen = [client.get_kv_secret("database").revision]
    clock.pass_time(5)
    seen.append(client.get_kv_secret("database").revision)
    vault.version, vault.created = 2, "2026-11-24T00:00:00Z"
    clock.pass_time(5)
    seen.append(client.get_kv_secret("database").revision)
    vault.destroyed = True
    clock.pass_time(5)
    with pytest.raises(SecretDeleted):
        client.get_kv_secret("database")
    vault.destroyed = False
    clock.pass_time(5)
    seen.append(client.get_kv_secret("database").revision)
    assert seen == [1, 1, 2, 3]
    assert vault.count()[KV_DATA] == 4


def test_generation_of_a_static_password(client: VaultClient, vault: FakeVault, clock: FakeClock) -> None:
    """It is read anew every five minutes, and counts only when it has rotated."""
    for rotation, generation in (("one", 1), ("one", 1), ("two", 2)):
        vault.rotation = rotation
        assert READERS[STATIC](client).revision == generation
        clock.pass_time(301)


@pytest.mark.parametrize(("lease", "turn"), [(60, 5.0), (4, 3.2), (1, 0.8)])
def test_d1_turn_comes_when_the_lease_is_due(
    make_client: ClientFactory, vault: FakeVault, lease: int, turn: float
) -> None:
    """A worker does not sleep through the end of a lease that is shorter than its interval."""
    client = make_client()
    vault.lease = lease
    engine = client.engines["database_dynamic"]
    assert seconds_to_next_turn(engine) == 5
    engine.get("db-demo-dynamic")
    assert seconds_to_next_turn(engine) == pytest.approx(turn)


def test_turns_never_come_without_a_pause(client: VaultClient, vault: FakeVault, clock: FakeClock) -> None:
    """A lease that is due at once does not make a worker spin."""
    vault.lease = 1
    engine = client.engines["database_dynamic"]
    engine.get("db-demo-dynamic")
    clock.pass_time(1)
    assert seconds_to_next_turn(engine) >= 0.1


def test_d1_last_moments_of_a_lease_are_used(client: VaultClient, vault: FakeVault, clock: FakeClock) -> None:
    """However long the back-off has grown: an outage that ends shortly before the lease does costs nothing."""
    READERS[DYNAMIC](client)
    vault.go_down()
    clock.pass_time(50)
    while clock.monotonic() < 1000 + 59.5:
        READERS[DYNAMIC](client)
        clock.pass_time(0.05)
    vault.come_back()
    clock.pass_time(0.4)
    assert not READERS[DYNAMIC](client).stale


@pytest.mark.parametrize("section", ["kv_secret", "database_dynamic", "database_static"])
def test_c2_turns_of_an_outage_are_as_rare_as_its_requests(
    make_client: ClientFactory, vault: FakeVault, clock: FakeClock, section: str
) -> None:
    """Also once all that was cached has ended: else its worker would tell ten times a second that there is nothing."""
    client = make_client(KV_SECRET_MAX_STALE="0")
    vault.token_ttl = 0
    engine = client.engines[section]
    engine.get(*engine.settings.names)
    vault.go_down()
    clock.pass_time(10_000)
    turns = 0
    ended = clock.monotonic() + 60
    while clock.monotonic() < ended:
        with pytest.raises(VaultUnavailable):
            engine.get(*engine.settings.names)
        turns += 1
        clock.pass_time(seconds_to_next_turn(engine))
    assert 60 / engine.settings.refresh_interval <= turns <= 60 / engine.settings.refresh_interval + 8
