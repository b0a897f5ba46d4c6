"""The rules K1 to K4, D1, D2, S1 and C1: how each kind of secret is cached."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from config_loader import VaultConfig
from tests.fakes import (
    DYNAMIC,
    GIVE_BACK,
    KV_DATA,
    KV_METADATA,
    LOGIN,
    PASSWORD,
    SECRET_ID,
    STATIC,
    FakeClock,
    FakeVault,
    Refusal,
)
from tests.unit.conftest import ClientFactory
from tests.unit.test_token_rules import raising
from vault_client import VaultClient
from vaultkit.announcer import Announcer
from vaultkit.engines import KvSettings
from vaultkit.engines.cache import Cached, SecretEngine
from vaultkit.errors import (
    ClientClosed,
    ResponseTooLarge,
    SecretDeleted,
    SecretNotFound,
    UnexpectedResponse,
    VaultTimeout,
    VaultUnavailable,
)
from vaultkit.events import Event, LeaseUnusable, NoVersionQuery, SecretChanged, StaleServed
from vaultkit.transport.answers import expect


class TestK1:
    def test_k1_refresh_asks_for_the_version_only(
        self, client: VaultClient, vault: FakeVault, clock: FakeClock
    ) -> None:
        """In five minutes at a refresh every 5 s: one read, then 59 questions for the version."""
        for _ in range(60):
            client.get_kv_secret("database")
            clock.pass_time(5)
        assert vault.count() == {LOGIN: 5, KV_DATA: 1, KV_METADATA: 59}  # nobody renews here: a login a minute

    def test_k1_fresh_value_costs_nothing(self, client: VaultClient, vault: FakeVault, clock: FakeClock) -> None:
        """Within refresh_interval Vault is not asked at all."""
        first = client.get_kv_secret("database")
        clock.pass_time(4.9)
        assert client.get_kv_secret("database") is first
        assert vault.count()[KV_METADATA] == 0

    def test_k1_new_version_is_read(
        self, client: VaultClient, vault: FakeVault, clock: FakeClock, events: list[Event]
    ) -> None:
        """Even if it was written in the same instant; listeners learn the old and the new."""
        old = client.get_kv_secret("database")
        vault.version = 2
        clock.pass_time(5)
        new = client.get_kv_secret("database")
        assert (new.version, new.data["api_key"]) == (2, f"{PASSWORD}-2")
        assert events[-1] == SecretChanged(new, old)

    def test_k1_recreated_secret_is_read(self, client: VaultClient, vault: FakeVault, clock: FakeClock) -> None:
        """Deleted with its metadata and written anew it is version 1 again: the creation time tells."""
        client.get_kv_secret("database")
        vault.created = "2026-11-24T00:00:00.1Z"
        clock.pass_time(5)
        assert client.get_kv_secret("database").created_time == "2026-11-24T00:00:00.1Z"
        assert vault.count()[KV_DATA] == 2

    def test_k1_values_are_read_every_five_minutes(
        self, client: VaultClient, vault: FakeVault, clock: FakeClock
    ) -> None:
        """Even if the version stands still; the unchanged value stays the same object."""
        first = client.get_kv_secret("database")
        clock.pass_time(300)
        assert client.get_kv_secret("database") is first
        assert vault.count()[KV_DATA] == 2

    def test_k1_future_deletion_is_no_deletion(self, client: VaultClient, vault: FakeVault, clock: FakeClock) -> None:
        """With delete_version_after every version has a deletion_time that is still to come."""
        client.get_kv_secret("database")
        vault.deletion_time = "2030-01-01T00:00:00.123456789Z"
        clock.pass_time(5)
        client.get_kv_secret("database")
        assert vault.count()[KV_DATA] == 1


class TestK2:
    def test_k2_falls_back_to_reading_values(
        self, client: VaultClient, vault: FakeVault, clock: FakeClock, events: list[Event]
    ) -> None:
        """Once forbidden, the version is not asked for again, and the warning comes once."""
        vault.instead[KV_METADATA] = raising(Refusal(403, "permission denied"))
        for _ in range(4):
            client.get_kv_secret("database")
            clock.pass_time(5)
        assert (vault.count()[KV_METADATA], vault.count()[KV_DATA]) == (1, 4)
        assert [type(event) for event in events].count(NoVersionQuery) == 1

    def test_k2_metadata_too_large_to_read(
        self, client: VaultClient, vault: FakeVault, clock: FakeClock, events: list[Event]
    ) -> None:
        """Dozens of kept versions make the metadata longer than a response may be: the same way out."""
        client.get_kv_secret("database")
        vault.instead[KV_METADATA] = raising(ResponseTooLarge("too long"))
        vault.version = 2
        clock.pass_time(5)
        assert client.get_kv_secret("database").version == 2
        assert any(isinstance(event, NoVersionQuery) for event in events)


class TestK3:
    def test_k3_metadata_without_versions(self, client: VaultClient, vault: FakeVault, clock: FakeClock) -> None:
        """Written by `kv metadata put` after a deletion: there are metadata, and no value."""
        client.get_kv_secret("database")
        vault.instead[KV_METADATA] = lambda: {"data": {"current_version": 0, "versions": {}}}
        vault.instead[KV_DATA] = raising(Refusal(404))
        clock.pass_time(5)
        with pytest.raises(SecretNotFound):
            client.get_kv_secret("database")

    @pytest.mark.parametrize("fate", ["deleted", "destroyed"])
    def test_k3_gone_version_is_an_error(
        self, client: VaultClient, vault: FakeVault, clock: FakeClock, fate: str
    ) -> None:
        """The error says which, and the cached value is dropped: it is not served in an outage either."""
        client.get_kv_secret("database")
        vault.deletion_time = "2026-01-01T00:00:00Z" if fate == "deleted" else ""
        vault.destroyed = fate == "destroyed"
        clock.pass_time(5)
        with pytest.raises(SecretDeleted, match=fate):
            client.get_kv_secret("database")
        vault.go_down()
        clock.pass_time(5)
        with pytest.raises(VaultUnavailable):
            client.get_kv_secret("database")

    def test_k3_missing_secret_is_told_apart(self, client: VaultClient) -> None:
        """A path where nothing ever was."""
        with pytest.raises(SecretNotFound, match="nothing at my-vault-app-kv/data/nowhere") as caught:
            client.get_kv_secret("nowhere")
        assert not isinstance(caught.value, SecretDeleted)

    @pytest.mark.parametrize("path", ["", "../sys/seal", "a//b", "/database", "database/", "./x"])
    def test_k3_path_stays_below_its_mount(self, client: VaultClient, vault: FakeVault, path: str) -> None:
        """A path with dots or empty parts is refused before anything is sent."""
        with pytest.raises(SecretNotFound, match="is no path"):
            client.get_kv_secret(path)
        assert vault.asked == []

    def test_k3_emptied_value_is_empty(self, client: VaultClient, vault: FakeVault, clock: FakeClock) -> None:
        """Written as null, which Vault takes: the old value does not serve on."""
        client.get_kv_secret("database")
        vault.version = 2
        facts = {"version": 2, "created_time": vault.created}
        vault.instead[KV_DATA] = lambda: {"data": {"data": None, "metadata": facts}}
        clock.pass_time(5)
        secret = client.get_kv_secret("database")
        assert (secret.data, secret.version, secret.stale) == ({}, 2, False)


class TestK4:
    def test_k4_stale_value_serves_an_outage(
        self, client: VaultClient, vault: FakeVault, clock: FakeClock, events: list[Event]
    ) -> None:
        """Marked stale, up to an hour, and as good as new when Vault is back."""
        first = client.get_kv_secret("database")
        vault.go_down()
        clock.pass_time(5)
        stale = client.get_kv_secret("database")
        assert stale.stale
        assert stale.data is first.data
        assert any(isinstance(event, StaleServed) for event in events)
        clock.pass_time(3594)
        assert client.get_kv_secret("database").stale
        vault.come_back()
        clock.pass_time(30)
        assert not client.get_kv_secret("database").stale

    def test_k4_staleness_has_a_maximum(self, client: VaultClient, vault: FakeVault, clock: FakeClock) -> None:
        """One hour after Vault last confirmed it, the value is gone."""
        client.get_kv_secret("database")
        vault.go_down()
        clock.pass_time(3600)
        with pytest.raises(VaultUnavailable):
            client.get_kv_secret("database")

    def test_k4_no_staleness_at_all(self, make_client: ClientFactory, vault: FakeVault, clock: FakeClock) -> None:
        """max_stale = 0: the value lives for one refresh interval, and no longer."""
        client = make_client(KV_SECRET_MAX_STALE="0")
        vault.latency = 0.1
        client.get_kv_secret("database")
        vault.go_down()
        clock.pass_time(5)
        with pytest.raises(VaultUnavailable):
            client.get_kv_secret("database")

    def test_k4_outage_is_asked_about_with_backoff(
        self, client: VaultClient, vault: FakeVault, clock: FakeClock
    ) -> None:
        """A thousand reads a second do not become a thousand requests."""
        client.get_kv_secret("database")
        clock.pass_time(5)
        vault.go_down()
        vault.forget()
        for _ in range(60):
            for _ in range(10):
                client.get_kv_secret("database")
            clock.pass_time(1)
        assert 1 <= len(vault.asked) <= 12

    @pytest.mark.parametrize("body", [b"<html>", b"[1]", b"{}", b'{"data": {"current_version": true}}', b"[" * 3000])
    def test_k4_nonsense_is_no_answer(
        self, client: VaultClient, vault: FakeVault, clock: FakeClock, body: bytes
    ) -> None:
        """What is not Vault's API leaves open what Vault holds: the cached value serves on."""
        client.get_kv_secret("database")
        vault.instead[KV_METADATA] = lambda: body
        clock.pass_time(5)
        assert client.get_kv_secret("database").stale

    @pytest.mark.parametrize("body", [b"<html>", b"[1]", b"{}", b'{"data": {"data": 7}}', b"[" * 3000])
    def test_k4_nonsense_at_first_is_an_error(self, client: VaultClient, vault: FakeVault, body: bytes) -> None:
        """With nothing to serve, it is said what answered, without quoting it."""
        vault.instead[KV_DATA] = lambda: body
        with pytest.raises(UnexpectedResponse) as caught:
            client.get_kv_secret("database")
        assert "<html>" not in str(caught.value)


class TestD1:
    @pytest.mark.parametrize(("lease", "fresh_for"), [(3600, 3590), (60, 50), (50, 40), (20, 16), (3, 2.4)])
    def test_d1_fetches_when_little_is_left(
        self, make_client: ClientFactory, vault: FakeVault, clock: FakeClock, lease: int, fresh_for: float
    ) -> None:
        """When 10 s are left, or a fifth of a lease that is shorter than 50 s."""
        client, vault.lease, vault.token_ttl = make_client(), lease, 0
        first = client.get_database_dynamic_secret("db-demo-dynamic")
        clock.pass_time(fresh_for - 0.1)
        assert client.get_database_dynamic_secret("db-demo-dynamic") is first
        clock.pass_time(0.2)
        assert client.get_database_dynamic_secret("db-demo-dynamic").data != first.data

    def test_d1_ttl_counts_down_live(self, client: VaultClient, clock: FakeClock) -> None:
        """The same object says less each second, and never less than 0."""
        secret = client.get_database_dynamic_secret("db-demo-dynamic")
        assert secret.ttl == 60
        clock.pass_time(13)
        assert secret.ttl == 47
        clock.pass_time(1000)
        assert secret.ttl == 0

    def test_d1_unknown_role_is_said_so(self, client: VaultClient, vault: FakeVault) -> None:
        """Vault calls it a bad request; the caller is told that the role is missing."""
        vault.instead[DYNAMIC] = raising(Refusal(400, "unknown role: db-demo-dynamic"))
        with pytest.raises(SecretNotFound, match='no role "db-demo-dynamic" at my-vault-app-database'):
            client.get_database_dynamic_secret("db-demo-dynamic")


class TestD2:
    @pytest.mark.parametrize("cause", ["time passed", "the laptop slept"])
    def test_d2_expired_credentials_are_never_returned(
        self, client: VaultClient, vault: FakeVault, clock: FakeClock, cause: str
    ) -> None:
        """Served during an outage while the lease lasts; afterwards an error is better than a dead password."""
        vault.token_ttl = 0
        client.get_database_dynamic_secret("db-demo-dynamic")
        vault.go_down()
        clock.pass_time(59)
        assert client.get_database_dynamic_secret("db-demo-dynamic").stale
        if cause == "time passed":
            clock.pass_time(1)
        else:
            clock.set_wall_clock(by=1)
        with pytest.raises(VaultUnavailable):
            client.get_database_dynamic_secret("db-demo-dynamic")

    @pytest.mark.parametrize("retry_after", ["0", "200"])
    def test_d2_backoff_serves_nothing_expired(
        self, client: VaultClient, vault: FakeVault, clock: FakeClock, retry_after: str
    ) -> None:
        """A back-off that is longer than the lease does not prolong it."""
        vault.token_ttl = 0
        client.get_database_dynamic_secret("db-demo-dynamic")
        vault.instead[DYNAMIC] = raising(Refusal(503, "sealed", headers={"Retry-After": retry_after}))
        for seconds in (51, 8.9):
            clock.pass_time(seconds)
            assert client.get_database_dynamic_secret("db-demo-dynamic").stale
        clock.pass_time(0.1)
        with pytest.raises(VaultUnavailable):
            client.get_database_dynamic_secret("db-demo-dynamic")

    def test_d2_lease_dies_on_the_way(self, client: VaultClient, vault: FakeVault) -> None:
        """The token is lost while the lease is being issued: what comes back is dead and not handed out."""

        def lose_the_token() -> Any:
            client._token._lose(client._token._token, "revoked meanwhile")
            return vault._dynamic()

        client.login()
        vault.instead[DYNAMIC] = lose_the_token
        with pytest.raises(VaultTimeout):
            client.get_database_dynamic_secret("db-demo-dynamic")

    def test_d2_long_token_serves_many_leases(
        self, make_client: ClientFactory, vault: FakeVault, clock: FakeClock
    ) -> None:
        """A batch token of an hour is replaced at 4/5, not before each lease of a minute."""
        vault.renewable, vault.token_ttl = False, 3600
        client = make_client()
        for _ in range(2800):
            client.get_database_dynamic_secret("db-demo-dynamic")
            clock.pass_time(1)
        assert vault.logins == 1

    def test_d2_slow_answer_may_be_dead_on_arrival(self, client: VaultClient, vault: FakeVault) -> None:
        """A lease is counted from before the request; one that ended on the way is an error."""
        client.login()
        vault.lease, vault.latency = 5, 6
        with pytest.raises(VaultTimeout):
            client.get_database_dynamic_secret("db-demo-dynamic")

    def test_d2_dying_token_logs_in_first(self, client: VaultClient, vault: FakeVault, clock: FakeClock) -> None:
        """Near max TTL a lease would die with the token, so the token is replaced before the fetch."""
        client.login()
        clock.pass_time(48)
        vault.renewed_ttl = 20
        client.keep_token_alive()
        vault.forget()
        client.get_database_dynamic_secret("db-demo-dynamic")
        assert vault.asked == [LOGIN, DYNAMIC]

    def test_d2_young_token_is_good_enough(self, client: VaultClient, vault: FakeVault) -> None:
        """A token that cannot be renewed but is new does not cause a login a fetch."""
        vault.renewable = False
        client.get_database_dynamic_secret("db-demo-dynamic")
        assert vault.logins == 1


class TestD3:
    @pytest.fixture
    def unusable(self, vault: FakeVault) -> None:
        """Credentials that cannot be read, under leases that count up."""

        def issue() -> dict[str, Any]:
            vault.leases += 1
            return {"lease_id": f"creds/{vault.leases}", "lease_duration": 60, "data": "nonsense"}

        vault.instead[DYNAMIC] = issue

    @pytest.mark.usefixtures("unusable")
    def test_d3_unusable_credentials_are_given_back(
        self, client: VaultClient, vault: FakeVault, events: list[Event]
    ) -> None:
        """Their lease is revoked, and whoever listens hears of it."""
        with pytest.raises(UnexpectedResponse, match=r'my-vault-app-database/db-demo-dynamic: .* no usable "data"'):
            client.get_database_dynamic_secret("db-demo-dynamic")
        assert vault.asked == [LOGIN, DYNAMIC, GIVE_BACK]
        assert isinstance(events[-1], LeaseUnusable)
        assert (events[-1].given_back, events[-1].left_behind) == (True, 0)

    def test_d3_answer_that_is_cut_off_is_given_back(self, client: VaultClient, vault: FakeVault) -> None:
        """No JSON, but the lease can be read in it."""
        vault.instead[DYNAMIC] = lambda: b'{"request_id": "1", "lease_id": "creds/7", "data": {"user'
        with pytest.raises(UnexpectedResponse, match="not JSON"):
            client.get_database_dynamic_secret("db-demo-dynamic")
        assert vault.asked == [LOGIN, DYNAMIC, GIVE_BACK]

    @pytest.mark.usefixtures("unusable")
    def test_d3_unusable_credentials_are_asked_for_rarely(
        self, client: VaultClient, vault: FakeVault, clock: FakeClock, events: list[Event]
    ) -> None:
        """Once in a minute at most, then ever more rarely; what cannot be given back is counted."""
        vault.instead[GIVE_BACK] = raising(Refusal(403, "permission denied"))
        issued = []
        for _ in range(12 * 60 * 24):
            with pytest.raises(UnexpectedResponse):
                client.get_database_dynamic_secret("db-demo-dynamic")
            clock.pass_time(5)
            issued.append(vault.leases)
        left = [event.left_behind for event in events if isinstance(event, LeaseUnusable)]
        assert issued[11] == 1
        assert issued[-1] < 60
        assert left == list(range(1, issued[-1] + 1))

    @pytest.mark.usefixtures("unusable")
    def test_d3_cached_credentials_serve_on(self, client: VaultClient, vault: FakeVault, clock: FakeClock) -> None:
        """For as long as they live, and without a new lease at each of their last moments."""
        del vault.instead[DYNAMIC]
        first = client.get_database_dynamic_secret("db-demo-dynamic")
        vault.instead[DYNAMIC] = lambda: {"lease_id": "creds/2", "lease_duration": 60, "data": "nonsense"}
        clock.pass_time(50)
        for _ in range(90):
            assert client.get_database_dynamic_secret("db-demo-dynamic").data == first.data
            clock.pass_time(0.1)
        assert vault.count()[DYNAMIC] == 2


class TestS1:
    def test_s1_key_pair_is_handed_out(self, client: VaultClient, vault: FakeVault) -> None:
        """A role of credential_type rsa_private_key has no password."""
        facts = {"ttl": 3600, "last_vault_rotation": vault.rotation, "username": "u"}
        vault.instead[STATIC] = lambda: {"data": {**facts, "rsa_private_key": "-----BEGIN PRIVATE KEY-----"}}
        secret = client.get_database_static_secret("db-demo-static")
        assert secret.data == {"username": "u", "rsa_private_key": "-----BEGIN PRIVATE KEY-----"}

    def test_s1_cached_for_five_minutes(self, make_client: ClientFactory, vault: FakeVault, clock: FakeClock) -> None:
        """And then asked again, though the password lives for an hour."""
        client, vault.token_ttl = make_client(), 0
        first = client.get_database_static_secret("db-demo-static")
        clock.pass_time(299)
        assert client.get_database_static_secret("db-demo-static") is first
        clock.pass_time(1)
        client.get_database_static_secret("db-demo-static")
        assert vault.count()[STATIC] == 2

    def test_s1_never_cached_past_the_rotation(
        self, make_client: ClientFactory, vault: FakeVault, clock: FakeClock
    ) -> None:
        """With 20 s to the next rotation it is asked again after 20 s, and not served in an outage then."""
        client, vault.token_ttl, vault.static_ttl = make_client(), 0, 20
        client.get_database_static_secret("db-demo-static")
        vault.go_down()
        clock.pass_time(19.9)
        client.get_database_static_secret("db-demo-static")
        clock.pass_time(0.1)
        with pytest.raises(VaultUnavailable):
            client.get_database_static_secret("db-demo-static")

    def test_s1_ttl_of_zero_is_asked_again(
        self, make_client: ClientFactory, vault: FakeVault, clock: FakeClock
    ) -> None:
        """The rotation is happening: the password is served, and asked for again a second later."""
        client, vault.token_ttl, vault.static_ttl = make_client(), 0, 0
        client.get_database_static_secret("db-demo-static")
        clock.pass_time(0.9)
        client.get_database_static_secret("db-demo-static")
        assert vault.count()[STATIC] == 1
        clock.pass_time(0.1)
        client.get_database_static_secret("db-demo-static")
        assert vault.count()[STATIC] == 2

    def test_s1_overdue_rotation_is_asked_again(
        self, make_client: ClientFactory, vault: FakeVault, clock: FakeClock
    ) -> None:
        """last_vault_rotation stands still after the rotation was due: whatever the ttl says, ask every second."""
        client, vault.token_ttl, vault.static_ttl = make_client(), 0, 20
        first = client.get_database_static_secret("db-demo-static")
        clock.pass_time(20)
        vault.static_ttl = 3600
        for _ in range(3):
            overdue = client.get_database_static_secret("db-demo-static")
            assert (overdue.ttl, overdue.says_the_same_as(first)) == (0, True)
            clock.pass_time(1)
        assert vault.count()[STATIC] == 4
        vault.rotation = "2026-11-24T00:00:00Z"
        assert client.get_database_static_secret("db-demo-static").ttl == 3600

    def test_s1_overdue_rotation_is_known_after_an_outage(
        self, make_client: ClientFactory, vault: FakeVault, clock: FakeClock
    ) -> None:
        """Vault was away as it should have rotated: a full ttl with the old password is still not believed."""
        client, vault.token_ttl, vault.static_ttl = make_client(), 0, 20
        client.get_database_static_secret("db-demo-static")
        vault.go_down()
        clock.pass_time(20)
        with pytest.raises(VaultUnavailable):
            client.get_database_static_secret("db-demo-static")
        vault.come_back()
        vault.static_ttl = 3600
        clock.pass_time(60)
        assert client.get_database_static_secret("db-demo-static").ttl == 0

    def test_s1_rotation_is_announced(
        self, make_client: ClientFactory, vault: FakeVault, clock: FakeClock, events: list[Event]
    ) -> None:
        """A listener such as a connection pool learns of the new password; a mere re-read is no news."""
        client, vault.token_ttl = make_client(), 0
        client.get_database_static_secret("db-demo-static")
        clock.pass_time(300)
        client.get_database_static_secret("db-demo-static")
        vault.rotation = "2026-11-24T00:00:00Z"
        clock.pass_time(300)
        client.get_database_static_secret("db-demo-static")
        changes = [event for event in events if isinstance(event, SecretChanged)]
        assert [change.previous is None for change in changes] == [True, False]


class TestC1:
    def test_c1_one_request_for_fifty_threads(self, client: VaultClient, vault: FakeVault) -> None:
        """However many ask at once, Vault is asked once, and all get the same object."""
        with ThreadPoolExecutor(50) as pool:
            got = list(pool.map(lambda _: client.get_kv_secret("database"), range(50)))
        assert vault.count() == {LOGIN: 1, KV_DATA: 1}
        assert len(set(map(id, got))) == 1

    def test_c1_one_request_for_a_failure(self, client: VaultClient, vault: FakeVault) -> None:
        """Fifty threads that meet an outage make one request, not fifty in a row."""
        client.login()
        vault.go_down()
        vault.forget()

        def ask(_: int) -> type[BaseException] | None:
            try:
                client.get_kv_secret("database")
            except VaultUnavailable as error:
                return type(error)
            return None

        with ThreadPoolExecutor(50) as pool:
            outcomes = set(pool.map(ask, range(50)))
        assert None not in outcomes
        assert vault.asked == [KV_DATA]

    def test_c1_other_secrets_do_not_wait(self, client: VaultClient, vault: FakeVault) -> None:
        """While one secret hangs in a request, another one is read."""
        hanging, released = threading.Event(), threading.Event()

        def hang() -> Any:
            hanging.set()
            released.wait(10)
            return vault._dynamic()

        client.login()
        vault.instead[DYNAMIC] = hang
        with ThreadPoolExecutor(1) as pool:
            slow = pool.submit(client.get_database_dynamic_secret, "db-demo-dynamic")
            hanging.wait(10)
            client.get_kv_secret("database")
            client.get_database_static_secret("db-demo-static")
            assert not slow.done()
            released.set()
            assert slow.result(10).ttl == 60

    def test_c1_readers_do_not_wait_for_a_refresh(
        self, client: VaultClient, vault: FakeVault, clock: FakeClock
    ) -> None:
        """Whoever comes while another thread refreshes takes the value that is still good."""
        first = client.get_kv_secret("database")
        hanging, released = threading.Event(), threading.Event()

        def hang() -> Any:
            hanging.set()
            released.wait(10)
            return vault._kv_metadata()

        vault.instead[KV_METADATA] = hang
        clock.pass_time(5)
        with ThreadPoolExecutor(1) as pool:
            slow = pool.submit(client.get_kv_secret, "database")
            hanging.wait(10)
            assert client.get_kv_secret("database") is first
            assert not slow.done()
            released.set()
            slow.result(10)

    def test_c1_fresh_read_takes_no_lock(self, client: VaultClient) -> None:
        """With every lock of the client held by somebody else, a cached read still returns."""
        first = client.get_kv_secret("database")
        locks = [
            client._lock,
            client._token._logging_in.lock,
            client.engines["kv_secret"]._lock,
            client.engines["kv_secret"]._flights["database"].lock,
        ]
        for lock in locks:
            lock.acquire()
        try:
            with ThreadPoolExecutor(1) as pool:
                assert pool.submit(client.get_kv_secret, "database").result(5) is first
        finally:
            for lock in locks:
                lock.release()


class TestClosed:
    def test_closed_client_says_so(self, client: VaultClient) -> None:
        """It neither answers from what it had nor logs in again."""
        client.get_kv_secret("database")
        client.close()
        with pytest.raises(ClientClosed):
            client.get_kv_secret("database")

    def test_answer_after_close_is_not_kept(self, client: VaultClient, vault: FakeVault) -> None:
        """A request that was under way when the client was closed leaves nothing behind."""

        def close_meanwhile() -> Any:
            client.close()
            return vault._kv_data()

        client.login()
        vault.instead[KV_DATA] = close_meanwhile
        with pytest.raises(ClientClosed):
            client.get_kv_secret("database")
        assert client.engines["kv_secret"]._cache == {}


class TestListeners:
    def test_everything_is_logged_unasked(
        self, client: VaultClient, vault: FakeVault, clock: FakeClock, caplog: pytest.LogCaptureFixture
    ) -> None:
        """By `logging`, under one name: news at level INFO, trouble as a warning."""
        caplog.set_level("INFO")
        client.get_kv_secret("database")
        vault.go_down()
        clock.pass_time(5)
        client.get_kv_secret("database")
        told = [(record.name, record.levelname, record.message.partition("(")[0]) for record in caplog.records]
        assert told == [
            ("vaultkit", "INFO", "LoggedIn"),
            ("vaultkit", "INFO", "SecretChanged"),
            ("vaultkit", "WARNING", "StaleServed"),
        ]

    def test_listener_that_raises_harms_nobody(self, vault: FakeVault, clock: FakeClock, events: list[Event]) -> None:
        """Neither the caller nor the listeners behind it."""

        def broken(_: Event) -> None:
            raise RuntimeError("out of order")

        config = VaultConfig.load(environ={"VAULT_SECRET_ID": SECRET_ID})
        client = VaultClient(config, clock=clock, session=vault.session, listeners=[broken, events.append])
        assert client.get_kv_secret("database").version == 1
        assert len(events) == 2

    def test_listener_is_called_with_no_lock_held(self, make_client: ClientFactory, clock: FakeClock) -> None:
        """So it may call the client, for the very secret that it hears of."""
        held: list[bool] = []
        client = make_client()

        def listen(_: Event) -> None:
            held.extend(
                lock.locked()
                for lock in (client._token._lock, client._token._logging_in.lock, client.engines["kv_secret"]._lock)
            )
            held.append(client.engines["kv_secret"]._flights["database"].lock.locked())
            client.get_kv_secret("database")

        client.listen(listen)
        client.get_kv_secret("database")
        assert len(held) == 8
        assert not any(held)


class TestAnotherEngine:
    def test_engine_is_one_small_class(self, client: VaultClient, vault: FakeVault, clock: FakeClock) -> None:
        """A time-based cache of anything else: how to ask, and until when the answer is good."""

        class CubbyholeEngine(SecretEngine[KvSettings]):
            section = "cubbyhole"
            mount_suffix = "cubbyhole"

            def fetch(self, name: str, cached: Cached | None) -> Cached:
                answer = self._ask(lambda api: api.adapter.get(f"/v1/{self.mount}/{name}"))
                secret = self.secret(name, expect(answer.body, "data", dict))
                due = answer.asked.after(self.settings.refresh_interval)
                return self.cached(secret, answer, due=due, until=answer.asked.after(60))

        engine = CubbyholeEngine(
            client.engines["kv_secret"].settings,
            client._token.ask,
            entity="my-vault-app",
            clock=clock,
            announcer=Announcer(),
            backoff_max=30,
        )
        path = "GET my-vault-app-cubbyhole/note"
        vault.instead[path] = lambda: {"data": {"note": PASSWORD}}
        assert engine.get("note") is engine.get("note")
        clock.pass_time(5)
        vault.instead[path] = raising(Refusal(503, "Vault is sealed"))
        assert engine.get("note").stale
        assert vault.count()[path] == 2
