"""K5: all secrets below a prefix such as team/*, at a request a refresh."""

from __future__ import annotations

import math
import random
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.fakes import KV, LIST, LOGIN, SCAN, FakeClock, FakeVault, Refusal
from tests.unit.conftest import ClientFactory
from tests.unit.test_token_rules import raising
from vault_client import VaultClient
from vault_errors import (
    PermissionDenied,
    SecretDeleted,
    SecretNotFound,
    UnexpectedResponse,
    VaultError,
    VaultUnavailable,
)
from vault_events import Event, NoScan, SecretChanged, StaleServed
from vault_secret import Secret

NO_FULL_READS = {"KV_SECRET_PATH": "team/*", "KV_SECRET_FULL_READ_INTERVAL": "86400"}


def data(path: str) -> str:
    return f"GET {KV}/data/{path}"


def metadata(path: str) -> str:
    return f"GET {KV}/metadata/{path}"


@pytest.fixture
def vault(clock: FakeClock) -> FakeVault:
    """Three secrets below team/, and a token that outlives the test."""
    return FakeVault(clock, token_ttl=86_400, below={"team/a": 1, "team/b": 1, "team/c": 1})


@pytest.fixture
def client(make_client: ClientFactory) -> VaultClient:
    return make_client(**NO_FULL_READS)


def turn(client: VaultClient) -> list[Secret | VaultError]:
    """What the worker's turn reads."""
    return list(client.engines["kv_secret"].read_all())


def versions(client: VaultClient) -> dict[str, int | None]:
    outcomes = turn(client)
    assert not [outcome for outcome in outcomes if isinstance(outcome, VaultError)]
    return {outcome.name: outcome.version for outcome in outcomes if isinstance(outcome, Secret)}


class TestOneRequest:
    def test_k5_one_request_tells_all_versions(self, client: VaultClient, vault: FakeVault, clock: FakeClock) -> None:
        """Ten refreshes with nothing changed: ten scans, and each secret was read once."""
        for _ in range(10):
            assert versions(client) == {"team/a": 1, "team/b": 1, "team/c": 1}
            clock.pass_time(5)
        assert vault.count() == {LOGIN: 1, SCAN: 10, data("team/a"): 1, data("team/b"): 1, data("team/c"): 1}

    def test_k5_fresh_list_costs_nothing(self, client: VaultClient, vault: FakeVault, clock: FakeClock) -> None:
        """Within refresh_interval Vault is not asked, neither by the worker nor by a reader."""
        turn(client)
        vault.forget()
        clock.pass_time(4.9)
        turn(client)
        client.get_kv_secret("team/a")
        assert vault.asked == []

    def test_k5_only_what_changed_is_read(
        self, client: VaultClient, vault: FakeVault, clock: FakeClock, events: list[Event]
    ) -> None:
        """One new version: one scan, one read; listeners learn the old and the new."""
        turn(client)
        vault.forget()
        vault.below["team/b"] = 2
        clock.pass_time(5)
        assert versions(client) == {"team/a": 1, "team/b": 2, "team/c": 1}
        assert vault.asked == [SCAN, data("team/b")]
        changes = [event.secret.name for event in events if isinstance(event, SecretChanged) and event.previous]
        assert changes == ["team/*", "team/b"]

    def test_k5_new_version_is_seen_at_once_after_another(
        self, client: VaultClient, vault: FakeVault, clock: FakeClock
    ) -> None:
        """A secret that was read within a turn is due with the list all the same, not a turn later."""
        turn(client)
        clock.pass_time(5)
        vault.latency = 0.5
        vault.below["team/b"] = 2
        turn(client)
        vault.latency = 0
        vault.below["team/b"] = 3
        clock.pass_time(4)
        assert versions(client)["team/b"] == 3

    def test_k5_long_turn_keeps_its_list_up_to_date(
        self, client: VaultClient, vault: FakeVault, clock: FakeClock
    ) -> None:
        """Hundreds of new versions take longer to read than a list stays fresh: none is asked for alone."""
        vault.below = {f"team/{number}": 1 for number in range(200)}
        turn(client)
        vault.below = dict.fromkeys(vault.below, 2)
        vault.latency = 0.1
        clock.pass_time(5)
        vault.forget()
        turn(client)
        scans = vault.count().pop(SCAN)
        assert 4 <= scans <= 6
        assert vault.count() == {SCAN: scans, **dict.fromkeys(map(data, vault.below), 1)}

    def test_k5_recreated_secrets_are_read(self, client: VaultClient, vault: FakeVault, clock: FakeClock) -> None:
        """The creation time tells version 1 from another version 1."""
        turn(client)
        vault.created = "2026-11-24T00:00:00.1Z"
        clock.pass_time(5)
        turn(client)
        assert vault.count()[data("team/a")] == 2

    def test_k5_values_are_read_in_their_time(
        self, make_client: ClientFactory, vault: FakeVault, clock: FakeClock
    ) -> None:
        """Each once in five minutes, and not all in one turn."""
        random.seed(1)
        vault.below = {f"team/{number}": 1 for number in range(200)}
        client = make_client(KV_SECRET_PATH="team/*")
        turn(client)
        reads: Counter[str] = Counter()
        most = 0
        for _ in range(60):
            clock.pass_time(5)
            vault.forget()
            turn(client)
            reads += vault.count()
            most = max(most, len(vault.asked))
        assert all(reads[data(path)] == 1 for path in vault.below)
        assert most < 20

    def test_k5_whole_mount_is_a_prefix(self, make_client: ClientFactory, vault: FakeVault) -> None:
        """A * alone."""
        scan = SCAN.removesuffix("/team")
        vault.instead[scan] = lambda: {"data": {"key_info": {"team/a": vault._kv_metadata("team/a")["data"]}}}
        assert versions(make_client(KV_SECRET_PATH="*")) == {"team/a": 1}

    def test_several_paths_are_asked_one_by_one(
        self, make_client: ClientFactory, vault: FakeVault, clock: FakeClock
    ) -> None:
        """Without a prefix each has its version query; with one, a path below it has none."""
        client = make_client(**{**NO_FULL_READS, "KV_SECRET_PATH": "database, team/*, team/a"})
        turn(client)
        vault.forget()
        clock.pass_time(5)
        assert set(versions(client)) == {"database", "team/a", "team/b", "team/c"}
        assert vault.asked == [metadata("database"), SCAN]


class TestComingsAndGoings:
    def test_k5_new_secret_is_read(self, client: VaultClient, vault: FakeVault, clock: FakeClock) -> None:
        """It needs no mention in config.ini."""
        turn(client)
        vault.below["team/d"] = 1
        clock.pass_time(5)
        assert versions(client)["team/d"] == 1

    @pytest.mark.parametrize("fate", ["metadata gone", "deleted", "destroyed"])
    def test_k3_gone_secret_is_dropped(
        self, client: VaultClient, vault: FakeVault, clock: FakeClock, fate: str
    ) -> None:
        """The list tells; from then on it is not served, not even in an outage."""
        turn(client)
        facts: dict[str, Any] = vault._scan()["data"]["key_info"]
        if fate == "metadata gone":
            del facts["b"]
        else:
            gone = {"deletion_time": "2026-01-01T00:00:00Z"} if fate == "deleted" else {"destroyed": True}
            facts["b"]["versions"]["1"].update(gone)
        vault.instead[SCAN] = lambda: {"data": {"key_info": facts}}
        clock.pass_time(5)
        assert set(versions(client)) == {"team/a", "team/c"}
        vault.go_down()
        with pytest.raises(VaultUnavailable):
            client.get_kv_secret("team/b")

    def test_k3_nothing_below_is_an_error(self, client: VaultClient, vault: FakeVault, clock: FakeClock) -> None:
        """A prefix with a typing error looks like this; what was cached of it is dropped."""
        turn(client)
        vault.below = {}
        vault.instead[SCAN] = lambda: {"data": {}}
        clock.pass_time(5)
        (error,) = turn(client)
        assert isinstance(error, SecretNotFound)
        assert str(error) == "there is nothing below my-vault-app-kv/team/"
        assert client.engines["kv_secret"]._cache == {}

    def test_k5_secret_that_goes_meanwhile_is_no_error(self, client: VaultClient, vault: FakeVault) -> None:
        """It is listed, and deleted before it is read."""
        gone = {"version": 1, "deletion_time": "2026-01-01T00:00:00Z", "destroyed": False}
        vault.instead[data("team/b")] = raising(Refusal(404, data={"data": None, "metadata": gone}))
        assert set(versions(client)) == {"team/a", "team/c"}

    def test_forbidden_secret_leaves_the_others(self, client: VaultClient, vault: FakeVault) -> None:
        """A policy may allow less than the prefix promises."""
        vault.instead[data("team/b")] = raising(Refusal(403, "permission denied"))
        a, error, c = turn(client)
        assert isinstance(error, PermissionDenied)
        assert {each.name for each in (a, c) if isinstance(each, Secret)} == {"team/a", "team/c"}


class TestWithoutScan:
    @pytest.mark.parametrize("status", [403, 404, 405])
    def test_k5_vault_is_asked_one_by_one(
        self, client: VaultClient, vault: FakeVault, clock: FakeClock, events: list[Event], status: int
    ) -> None:
        """A Vault answers 405, a policy 403: then names are listed, versions asked for, with one warning."""
        vault.instead[SCAN] = raising(Refusal(status))
        turn(client)
        clock.pass_time(5)
        vault.forget()
        vault.below["team/b"] = 2
        assert versions(client) == {"team/a": 1, "team/b": 2, "team/c": 1}
        assert vault.asked == [LIST, metadata("team/a"), metadata("team/b"), data("team/b"), metadata("team/c")]
        assert [type(event) for event in events].count(NoScan) == 1

    def test_k5_folders_are_listed_too(self, client: VaultClient, vault: FakeVault) -> None:
        """LIST shows one folder, SCAN all: the same secrets come of both."""
        vault.instead[SCAN] = raising(Refusal(405))
        vault.instead[LIST] = lambda: {"data": {"keys": ["a", "deep/"]}}
        vault.instead[f"{LIST}/deep"] = lambda: {"data": {"keys": ["deeper/"]}}
        vault.instead[f"{LIST}/deep/deeper"] = lambda: {"data": {"keys": ["d"]}}
        vault.below["team/deep/deeper/d"] = 1
        assert set(versions(client)) == {"team/a", "team/deep/deeper/d"}

    def test_endless_folders_are_nonsense(self, client: VaultClient, vault: FakeVault) -> None:
        """What answers so is no Vault, and is not followed for ever (C2)."""
        vault.instead[SCAN] = raising(Refusal(405))
        for depth in range(200):
            vault.instead[LIST + "/a" * depth] = lambda: {"data": {"keys": ["a/"]}}
        (error,) = turn(client)
        assert isinstance(error, UnexpectedResponse)

    def test_k5_passing_refusal_is_no_reason_to_give_up(
        self, client: VaultClient, vault: FakeVault, clock: FakeClock, events: list[Event]
    ) -> None:
        """Where the names cannot be listed either, the scan is tried again."""
        vault.instead[SCAN] = vault.instead[LIST] = raising(Refusal(403))
        (error,) = turn(client)
        assert 'grants "list" on "my-vault-app-kv/metadata/team/"' in str(error)
        vault.come_back()
        clock.pass_time(5)
        assert len(versions(client)) == 3
        assert not [event for event in events if isinstance(event, NoScan)]


class TestOutage:
    def test_k4_outage_costs_what_one_secret_costs(
        self, make_client: ClientFactory, vault: FakeVault, clock: FakeClock, events: list[Event]
    ) -> None:
        """A thousand stale secrets: the list is asked for with back-off, and nobody asks for each of them."""
        vault.below = {f"team/{number}": 1 for number in range(1000)}
        client = make_client(KV_SECRET_PATH="team/*", KV_SECRET_FULL_READ_INTERVAL="60")
        turn(client)
        clock.pass_time(5)
        vault.go_down()
        vault.forget()
        for _ in range(60):
            outcomes = turn(client)
            clock.pass_time(5)
        assert len(outcomes) == 1000
        assert all(outcome.stale for outcome in outcomes if isinstance(outcome, Secret))
        assert 1 <= len(vault.asked) <= 30
        stale = [event for event in events if isinstance(event, StaleServed)]
        assert {event.secret.name for event in stale} == {"team/*"}

    def test_k4_back_as_good_as_new(self, client: VaultClient, vault: FakeVault, clock: FakeClock) -> None:
        """A scan confirms all of them."""
        turn(client)
        vault.go_down()
        clock.pass_time(5)
        assert [outcome.stale for outcome in turn(client) if isinstance(outcome, Secret)] == [True] * 3
        vault.come_back()
        clock.pass_time(30)
        assert not [outcome for outcome in turn(client) if isinstance(outcome, VaultError) or outcome.stale]

    def test_k4_staleness_has_a_maximum(self, client: VaultClient, vault: FakeVault, clock: FakeClock) -> None:
        """One hour after the last list, the values are gone, and one failure tells of it."""
        turn(client)
        vault.go_down()
        for _ in range(math.ceil(3600 / 5)):
            clock.pass_time(5)
            outcomes = turn(client)
        assert [type(outcome) for outcome in outcomes if isinstance(outcome, VaultError)]
        with pytest.raises(VaultUnavailable):
            client.get_kv_secret("team/a")

    @pytest.mark.parametrize("reads", [False, True])
    def test_k4_staleness_counts_from_the_last_list(
        self, client: VaultClient, vault: FakeVault, clock: FakeClock, reads: bool
    ) -> None:
        """However long ago the values were read, and whether anybody asked for them since."""
        for _ in range(800):
            turn(client)
            if reads:
                client.get_kv_secret("team/a")
            clock.pass_time(5)
        vault.go_down()
        turn(client)
        assert client.get_kv_secret("team/a").stale

    def test_k4_outdated_value_is_no_younger_for_a_list(
        self, client: VaultClient, vault: FakeVault, clock: FakeClock
    ) -> None:
        """The list told of a new version before the outage: the old one counts from when it was last right."""
        turn(client)
        vault.below["team/b"] = 2
        vault.instead[data("team/b")] = vault.go_down
        clock.pass_time(5)
        turn(client)
        clock.pass_time(3597)
        turn(client)
        assert client.get_kv_secret("team/a").stale
        with pytest.raises(VaultUnavailable):
            client.get_kv_secret("team/b")

    def test_c2_outage_during_the_first_turn(
        self, make_client: ClientFactory, vault: FakeVault, clock: FakeClock
    ) -> None:
        """What was never read is not tried a thousand times in a row."""
        vault.below = {f"team/{number}": 1 for number in range(1000)}
        client = make_client(**NO_FULL_READS)
        vault.instead[data("team/10")] = vault.go_down
        outcomes = turn(client)
        assert len(outcomes) < 20
        vault.forget()
        for _ in range(12):
            clock.pass_time(5)
            turn(client)
        assert len(vault.asked) <= 24


class TestReaders:
    def test_c1_reader_waits_for_no_scan(self, client: VaultClient, vault: FakeVault, clock: FakeClock) -> None:
        """While the list is on its way, what is cached is served, and what is not is read alone."""
        turn(client)
        hanging, released = threading.Event(), threading.Event()

        def hang() -> Any:
            hanging.set()
            released.wait(10)
            return vault._scan()

        vault.instead[SCAN] = hang
        vault.below["team/d"] = 1
        clock.pass_time(5)
        with ThreadPoolExecutor(1) as pool:
            slow = pool.submit(turn, client)
            hanging.wait(10)
            vault.forget()
            assert client.get_kv_secret("team/a").version == 1
            assert client.get_kv_secret("team/d").version == 1
            assert vault.asked == [data("team/d")]
            assert not slow.done()
            released.set()
            assert len(slow.result(10)) == 4

    def test_c1_reader_never_scans(self, client: VaultClient, vault: FakeVault, clock: FakeClock) -> None:
        """With a list out of date (the worker is late, or there is none), a reader asks for one version."""
        turn(client)
        vault.forget()
        vault.below["team/a"] = 2
        clock.pass_time(5)
        assert client.get_kv_secret("team/a").version == 2
        assert vault.asked == [metadata("team/a"), data("team/a")]

    def test_k5_reader_of_a_confirmed_secret_asks_nobody(
        self, client: VaultClient, vault: FakeVault, clock: FakeClock
    ) -> None:
        """The list speaks for it."""
        first = turn(client)[0]
        clock.pass_time(5)
        turn(client)
        vault.forget()
        assert client.get_kv_secret("team/a") is first
        assert vault.asked == []

    def test_all_below_a_prefix_by_path(self, client: VaultClient, vault: FakeVault) -> None:
        """For a program that wants them all; the first error is raised."""
        assert {path: secret.version for path, secret in client.get_kv_secrets("team/*").items()} == vault.below
        vault.below["team/d"] = 1
        vault.instead[data("team/d")] = raising(Refusal(403))
        client.engines["kv_secret"]._make_due("team/*")
        with pytest.raises(PermissionDenied):
            client.get_kv_secrets("team/*")

    @pytest.mark.parametrize("prefix", ["team", "team/", "", "../*", "team/**"])
    def test_what_is_no_prefix_is_told(self, client: VaultClient, vault: FakeVault, prefix: str) -> None:
        """Nothing is sent."""
        with pytest.raises(SecretNotFound, match="is no p"):
            client.get_kv_secrets(prefix)
        assert vault.asked == []

    def test_k3_deleted_secret_is_told_to_its_reader(
        self, client: VaultClient, vault: FakeVault, clock: FakeClock
    ) -> None:
        """The list knows that it is gone; Vault says how."""
        turn(client)
        gone = {"version": 1, "deletion_time": "2026-01-01T00:00:00Z", "destroyed": False}
        vault.instead[SCAN] = lambda: {"data": {"key_info": {"b": vault._kv_metadata("team/b")["data"]}}}
        vault.instead[data("team/a")] = raising(Refusal(404, data={"data": None, "metadata": gone}))
        clock.pass_time(5)
        turn(client)
        with pytest.raises(SecretDeleted):
            client.get_kv_secret("team/a")
