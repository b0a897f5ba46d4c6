"""K5: all secrets below a prefix such as team/*, at a request a refresh."""

from __future__ import annotations

import math
import random
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest

from tests.fakes import KV, LIST, LOGIN, SCAN, FakeClock, FakeVault, Refusal
from tests.unit.conftest import ClientFactory
from tests.unit.test_token_rules import raising
from vault_client import VaultClient
from vaultkit.errors import (
    PermissionDenied,
    ResponseTooLarge,
    SecretDeleted,
    SecretNotFound,
    UnexpectedResponse,
    VaultError,
    VaultUnavailable,
)
from vaultkit.events import Event, NoScan, NoVersionQuery, PrefixChanged, PrefixStale, SecretChanged, StaleServed
from vaultkit.secret import Secret

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
    return list(client.engines["kv_secret"].read_all(threading.Event()))


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
        assert changes == ["team/b"]

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

    def test_k5_slow_listing_is_asked_for_once(self, client: VaultClient, vault: FakeVault, clock: FakeClock) -> None:
        """One that takes longer than the interval: not again for each secret, and the server rests as long."""
        vault.below = {f"team/{number}": 1 for number in range(50)}

        def slow() -> Any:
            clock.pass_time(6)
            return vault._scan()

        vault.instead[SCAN] = slow
        turn(client)
        assert vault.count()[SCAN] == 1
        clock.pass_time(5.9)
        turn(client)
        assert vault.count()[SCAN] == 1
        clock.pass_time(0.1)
        turn(client)
        assert vault.count()[SCAN] == 2

    def test_k5_worker_asks_at_the_interval(self, client: VaultClient, vault: FakeVault, clock: FakeClock) -> None:
        """Counted from when it asked: a login, a scan and three reads take one second of the five."""
        vault.latency = 0.2
        turn(client)
        assert client.engines["kv_secret"].seconds_until_due() == pytest.approx(4)

    def test_t8_login_ends_what_is_stale(self, client: VaultClient, vault: FakeVault, clock: FakeClock) -> None:
        """Of all that is below a prefix, too: its listing need not wait for the end of its back-off."""
        turn(client)
        vault.go_down()
        for _ in range(20):
            clock.pass_time(31)
            turn(client)
        vault.come_back()
        client.login()
        assert {secret.stale for secret in turn(client) if isinstance(secret, Secret)} == {False}

    def test_k1_paths_are_due_together(self, make_client: ClientFactory, vault: FakeVault, clock: FakeClock) -> None:
        """Read one after the other, they need one turn an interval, not one each."""
        vault.latency = 0.2
        client = make_client(KV_SECRET_PATH="database, team/a, team/b")
        turn(client)
        vault.latency = 0
        vault.forget()
        for _ in range(4):
            clock.pass_time(client.engines["kv_secret"].seconds_until_due())
            turn(client)
        assert vault.asked == [metadata("database"), metadata("team/a"), metadata("team/b")] * 4

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
        assert [outcome.name for outcome in turn(client) if isinstance(outcome, Secret)] == [
            "database", "team/a", "team/b", "team/c",
        ]  # fmt: skip
        assert vault.asked == [metadata("database"), SCAN]


class TestComingsAndGoings:
    def test_k5_new_secret_is_read(self, client: VaultClient, vault: FakeVault, clock: FakeClock) -> None:
        """It needs no mention in config.ini."""
        turn(client)
        vault.below["team/d"] = 1
        clock.pass_time(5)
        assert versions(client)["team/d"] == 1

    def test_comings_and_goings_are_announced(
        self, client: VaultClient, vault: FakeVault, clock: FakeClock, events: list[Event]
    ) -> None:
        """Once, with the paths."""
        turn(client)
        del vault.below["team/a"]
        vault.below["team/d"] = 1
        for _ in range(2):
            clock.pass_time(5)
            turn(client)
        (change,) = [event for event in events if isinstance(event, PrefixChanged)]
        assert (set(change.came), set(change.went)) == ({"team/d"}, {"team/a"})

    def test_odd_entry_is_asked_for_alone(self, client: VaultClient, vault: FakeVault, clock: FakeClock) -> None:
        """It is no reason to do without the versions of all others."""
        turn(client)
        facts: dict[str, Any] = vault._scan()["data"]["key_info"]
        facts["a"] = {"current_version": True}
        facts["b"]["versions"]["1"]["deletion_time"] = "soon"
        facts["../c"] = facts["c"]
        vault.instead[SCAN] = lambda: {"data": {"key_info": facts}}
        clock.pass_time(5)
        vault.forget()
        assert versions(client) == {"team/a": 1, "team/b": 1, "team/c": 1}
        assert vault.asked == [SCAN, metadata("team/a"), metadata("team/b")]

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

    def test_k3_late_answer_is_dropped(self, client: VaultClient, vault: FakeVault, clock: FakeClock) -> None:
        """A reader's answer from before a deletion arrives after the listing that tells of it."""
        turn(client)
        client.engines["kv_secret"]._cache.pop("team/b")
        answered, released = threading.Event(), threading.Event()

        def late() -> Any:
            body = vault._kv_data("team/b")
            answered.set()
            released.wait(10)
            return body

        vault.instead[data("team/b")] = late
        with ThreadPoolExecutor(1) as pool:
            reader = pool.submit(client.get_kv_secret, "team/b")
            answered.wait(10)
            del vault.below["team/b"]
            clock.pass_time(5)
            turn(client)
            released.set()
            reader.result(10)
        vault.below["team/b"] = 1
        vault.go_down()
        clock.pass_time(5)
        turn(client)
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

    def test_k5_too_long_a_listing_is_no_outage(
        self, client: VaultClient, vault: FakeVault, clock: FakeClock, events: list[Event]
    ) -> None:
        """Its limit is reached as versions are kept: the names fit, and new versions are seen all the same."""
        turn(client)
        vault.instead[SCAN] = raising(ResponseTooLarge("too long"))
        vault.below["team/b"] = 2
        clock.pass_time(5)
        assert versions(client)["team/b"] == 2
        assert [type(event) for event in events].count(NoScan) == 1

    def test_k5_scan_is_given_up_for_one_prefix_alone(
        self, make_client: ClientFactory, vault: FakeVault, clock: FakeClock, events: list[Event]
    ) -> None:
        """And tried again after full_read_interval: a policy can be mended."""
        client = make_client(KV_SECRET_PATH="team/*, other/*")
        other = SCAN.replace("team", "other")
        vault.below = {"team/a": 1}
        vault.instead[other] = raising(Refusal(403))
        vault.instead[LIST.replace("team", "other")] = lambda: {"data": {"keys": ["x"]}}
        turn(client)
        vault.forget()
        clock.pass_time(5)
        turn(client)
        assert (vault.count()[SCAN], vault.count()[other]) == (1, 0)
        clock.pass_time(300)
        turn(client)
        assert vault.count()[other] == 1
        assert [event.prefix for event in events if isinstance(event, NoScan)] == ["other/*"]

    def test_k5_folder_that_goes_meanwhile_is_empty(self, client: VaultClient, vault: FakeVault) -> None:
        """It goes with the last secret in it; the others are still there."""
        vault.instead[SCAN] = raising(Refusal(405))
        vault.instead[LIST] = lambda: {"data": {"keys": ["a", "deep/", "", "../"]}}
        assert set(versions(client)) == {"team/a"}

    def test_k5_nothing_there_yet_is_no_reason_to_give_up(
        self, client: VaultClient, vault: FakeVault, clock: FakeClock, events: list[Event]
    ) -> None:
        """A mount that is made later: neither way finds anything."""
        vault.instead[SCAN] = vault.instead[LIST] = raising(Refusal(404))
        (error,) = turn(client)
        assert isinstance(error, SecretNotFound)
        vault.come_back()
        clock.pass_time(5)
        assert len(versions(client)) == 3
        assert not [event for event in events if isinstance(event, NoScan)]

    def test_forbidden_listing_is_told(self, client: VaultClient, vault: FakeVault, clock: FakeClock) -> None:
        """A policy that was changed is no outage; who wants one secret still gets it."""
        turn(client)
        vault.instead[SCAN] = vault.instead[LIST] = raising(Refusal(403))
        clock.pass_time(5)
        (error,) = turn(client)
        assert isinstance(error, PermissionDenied)
        assert client.engines["kv_secret"].seconds_until_due() == math.inf
        assert not client.get_kv_secret("team/a").stale

    def test_k3_all_gone_on_a_vault(self, client: VaultClient, vault: FakeVault, clock: FakeClock) -> None:
        """It answers 404 where nothing is below; what was cached is dropped."""
        vault.instead[SCAN] = raising(Refusal(405))
        turn(client)
        vault.instead[LIST] = raising(Refusal(404))
        clock.pass_time(5)
        (error,) = turn(client)
        assert isinstance(error, SecretNotFound)
        vault.go_down()
        with pytest.raises(VaultUnavailable):
            client.get_kv_secret("team/a")

    def test_k2_without_metadata_is_told_once(
        self, client: VaultClient, vault: FakeVault, clock: FakeClock, events: list[Event]
    ) -> None:
        """Not for each secret."""
        vault.instead[SCAN] = raising(Refusal(405))
        vault.instead.update({metadata(path): raising(Refusal(403)) for path in vault.below})
        turn(client)
        clock.pass_time(5)
        turn(client)
        assert [type(event) for event in events].count(NoVersionQuery) == 1

    def test_x1_stops_between_deleted_secrets(self, client: VaultClient, vault: FakeVault) -> None:
        """LIST shows them, too: a thousand requests that yield nothing, and any of them may be the last."""
        stop = threading.Event()
        vault.below = {f"team/{number:03}": 1 for number in range(1000)}
        vault.instead[SCAN] = raising(Refusal(405))
        vault.instead.update({data(path): raising(Refusal(404)) for path in vault.below})
        vault.instead[data("team/010")] = lambda: stop.set() or vault._kv_data("team/010")  # type: ignore[func-returns-value]
        assert list(client.engines["kv_secret"].read_all(stop)) == []
        assert len(vault.asked) < 20

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
        assert not [event for event in events if isinstance(event, StaleServed)]
        assert {event.secrets for event in events if isinstance(event, PrefixStale)} == {1000}

    def test_k4_all_are_stale_at_once(self, client: VaultClient, vault: FakeVault, clock: FakeClock) -> None:
        """Though a listing is good until the next one should be there: that is before the next try."""
        turn(client)
        clock.pass_time(5)
        vault.latency = 0.2
        turn(client)
        clock.pass_time(4.8)
        vault.go_down()
        vault.latency = 0
        assert [outcome.stale for outcome in turn(client) if isinstance(outcome, Secret)] == [True] * 3

    def test_secrets_without_an_answer_leave_the_others(self, client: VaultClient, vault: FakeVault) -> None:
        """A few that the server fails to read, scattered among those that it reads, are no outage."""
        vault.below = {f"team/{number}": 1 for number in range(10)}
        broken = [f"team/{number}" for number in (1, 3, 5, 7)]
        vault.instead.update({data(path): raising(Refusal(500)) for path in broken})
        read = {outcome.name for outcome in turn(client) if isinstance(outcome, Secret)}
        assert read == vault.below.keys() - broken

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

    def test_c2_outage_while_each_is_asked(
        self, client: VaultClient, vault: FakeVault, clock: FakeClock, events: list[Event]
    ) -> None:
        """Without SCAN: a few requests without an answer, and the others serve as they are."""
        vault.below = {f"team/{number:03}": 1 for number in range(1000)}
        vault.instead[SCAN] = raising(Refusal(405))
        turn(client)
        clock.pass_time(5)
        vault.forget()
        vault.instead[metadata("team/010")] = lambda: vault.go_down() or b""  # type: ignore[func-returns-value]
        assert len(turn(client)) == 1000
        assert len(vault.asked) < 20
        assert [type(event) for event in events].count(StaleServed) <= 4

    @pytest.mark.parametrize("by_balancer", [False, True])
    def test_c2_outage_during_the_first_turn(
        self, make_client: ClientFactory, vault: FakeVault, clock: FakeClock, by_balancer: bool
    ) -> None:
        """What was never read is not tried a thousand times in a row, whoever answers instead of Vault."""
        vault.below = {f"team/{number}": 1 for number in range(1000)}
        client = make_client(**NO_FULL_READS)

        def go_down() -> None:
            vault.go_down()
            if by_balancer:
                vault.instead = dict.fromkeys(vault.instead, raising(Refusal(502)))

        vault.instead[data("team/10")] = go_down
        outcomes = turn(client)
        assert len(outcomes) < 20
        vault.forget()
        for _ in range(12):
            clock.pass_time(5)
            turn(client)
        assert len(vault.asked) < 40


@contextmanager
def hanging_scan(client: VaultClient, vault: FakeVault) -> Iterator[None]:
    """A turn of the worker that waits for its SCAN, while others ask for what they want."""
    hanging, released = threading.Event(), threading.Event()

    def hang() -> Any:
        hanging.set()
        released.wait(10)
        return vault._scan()

    vault.instead[SCAN] = hang
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(turn, client)
        hanging.wait(10)
        vault.forget()
        yield
        assert not slow.done()
        released.set()
        assert len(slow.result(10)) == len(vault.below)


class TestReaders:
    def test_c1_reader_waits_for_no_scan(self, client: VaultClient, vault: FakeVault, clock: FakeClock) -> None:
        """While the listing is on its way, whoever wants one secret asks for one."""
        turn(client)
        vault.below["team/d"] = 1
        clock.pass_time(5)
        with hanging_scan(client, vault):
            assert client.get_kv_secret("team/a").version == 1
            assert client.get_kv_secret("team/d").version == 1
            assert vault.asked == [metadata("team/a"), data("team/d")]

    def test_c1_reader_leaves_the_listing_its_time(
        self, client: VaultClient, vault: FakeVault, clock: FakeClock
    ) -> None:
        """While the next one should be on its way, nobody asks for what the last one has confirmed."""
        turn(client)
        clock.pass_time(5)
        vault.latency = 1
        turn(client)
        vault.forget()
        clock.pass_time(4.9)  # 0.9 s after it was due
        client.get_kv_secret("team/a")
        assert vault.asked == []
        clock.pass_time(0.1)
        client.get_kv_secret("team/a")
        assert vault.asked == [metadata("team/a")]

    def test_c1_reader_never_scans(self, client: VaultClient, vault: FakeVault, clock: FakeClock) -> None:
        """With a list out of date (the worker is late, or there is none), a reader asks for one version."""
        turn(client)
        vault.forget()
        vault.below["team/a"] = 2
        clock.pass_time(5)
        assert client.get_kv_secret("team/a").version == 2
        assert vault.asked == [metadata("team/a"), data("team/a")]

    def test_c1_hot_reader_asks_once_an_interval(self, client: VaultClient, vault: FakeVault, clock: FakeClock) -> None:
        """While a listing hangs, a secret that is newer than the last one is no reason to ask at each read."""
        turn(client)
        vault.below.update({"team/a": 2, "team/d": 1})
        client.get_kv_secret("team/d")
        clock.pass_time(5)
        with hanging_scan(client, vault):
            for _ in range(100):
                assert (client.get_kv_secret("team/a").version, client.get_kv_secret("team/d").version) == (2, 1)
            assert vault.asked == [metadata("team/a"), data("team/a"), metadata("team/d")]

    def test_refused_secret_is_asked_for_anew(self, client: VaultClient, vault: FakeVault, clock: FakeClock) -> None:
        """By whom it was used and refused; the listing does not know yet."""
        old = next(secret for secret in turn(client) if isinstance(secret, Secret))
        vault.below["team/a"] = 2
        assert client.get_instead_of(old).version == 2

    def test_k4_reader_comes_before_the_worker(
        self, make_client: ClientFactory, vault: FakeVault, clock: FakeClock
    ) -> None:
        """What a listing has confirmed is as old as that, for whoever asks first in an outage."""
        client = make_client(KV_SECRET_PATH="team/*", KV_SECRET_MAX_STALE="120")
        for _ in range(50):
            turn(client)
            clock.pass_time(5)
        vault.go_down()
        assert client.get_kv_secret("team/a").stale

    def test_path_with_a_star_is_a_path(self, client: VaultClient, vault: FakeVault) -> None:
        """OpenBao takes such names; the listing of a prefix is no secret."""
        vault.below["team/*"] = 7
        turn(client)
        assert client.get_kv_secret("team/*").version == 7
        assert client.get_kv_secrets("team/*")["team/*"].version == 7

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

    def test_all_below_a_prefix_by_path(self, client: VaultClient, vault: FakeVault, clock: FakeClock) -> None:
        """For a program that wants them all; the first error is raised."""
        assert {path: secret.version for path, secret in client.get_kv_secrets("team/*").items()} == vault.below
        vault.below["team/d"] = 1
        vault.instead[data("team/d")] = raising(Refusal(403))
        clock.pass_time(5)
        with pytest.raises(PermissionDenied):
            client.get_kv_secrets("team/*")

    @pytest.mark.parametrize("prefix", ["team", "team/", "", "../*", "team/**"])
    def test_what_is_no_prefix_is_told(self, client: VaultClient, vault: FakeVault, prefix: str) -> None:
        """Nothing is sent."""
        with pytest.raises(SecretNotFound, match="is no prefix such as"):
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
