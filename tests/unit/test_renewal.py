"""The rules D1 to D3 where leases are renewed (on_expiry = renew), and S1 where a password outlives its rotation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.fakes import (
    DYNAMIC,
    GIVE_BACK,
    LOGIN,
    LOOKUP,
    RENEW_LEASE,
    STATIC,
    FakeClock,
    FakeVault,
    Refusal,
)
from tests.unit.conftest import ClientFactory
from tests.unit.test_token_rules import raising
from vault_app import seconds_to_next_turn
from vault_client import VaultClient
from vaultkit.errors import PermissionDenied, VaultUnavailable
from vaultkit.events import Event, LeaseRenewed, NoLeaseRenewal, SecretChanged, StaleServed
from vaultkit.secret import Secret

ROLE = "db-demo-dynamic"
HOUR, DAY = 3600, 86_400
LEASE_LENGTHS = [(60, 50), (50, 40), (20, 16), (3, 2.4)]
"""And when D1 has them renewed: with 10 s or a fifth left."""

Read = Callable[[], Secret]


@pytest.fixture
def renewing(make_client: ClientFactory, vault: FakeVault) -> VaultClient:
    """A client that renews, under a token that does not expire."""
    vault.token_ttl = 0
    return make_client(DATABASE_DYNAMIC_ON_EXPIRY="renew")


@pytest.fixture
def read(renewing: VaultClient) -> Read:
    """Reads the credentials."""
    return lambda: renewing.get_database_dynamic_secret(ROLE)


def take_turns(client: VaultClient, clock: FakeClock, seconds: float) -> set[str]:
    """Read as often as the application does; return the users that were served."""
    engine, end, users = client.engines["database_dynamic"], clock.monotonic() + seconds, set()
    while clock.monotonic() < end:
        users.add(client.get_database_dynamic_secret(ROLE).data["username"])
        clock.pass_time(seconds_to_next_turn(engine))
    return users


def of(events: list[Event], kind: type[Event]) -> list[Any]:
    return [event for event in events if isinstance(event, kind)]


class TestAnHour:
    def test_d1_renewal_keeps_one_user(self, renewing: VaultClient, vault: FakeVault, clock: FakeClock) -> None:
        """Of leases of 60 s with a max TTL of 24 h, in an hour."""
        vault.max_lease = DAY
        assert len(take_turns(renewing, clock, HOUR)) == 1
        assert (vault.count()[DYNAMIC], vault.count()[RENEW_LEASE]) == (1, HOUR // 50 - 1)

    def test_d1_rotation_takes_no_more_than_it_must(
        self, make_client: ClientFactory, vault: FakeVault, clock: FakeClock
    ) -> None:
        """Without renewal: a user each 50 s, and no more than 5 % above."""
        vault.token_ttl = 0
        least = HOUR / 50
        take_turns(make_client(), clock, HOUR)
        assert least <= vault.count()[DYNAMIC] <= least * 1.05
        assert vault.count()[RENEW_LEASE] == 0

    def test_d1_max_ttl_brings_the_next_user(self, renewing: VaultClient, vault: FakeVault, clock: FakeClock) -> None:
        """Each day of 24 h a user lives nearly as long as it may, and the next one is there in time."""
        vault.lease, vault.max_lease = HOUR, DAY
        assert len(take_turns(renewing, clock, 10 * DAY)) == 11
        assert vault.count()[DYNAMIC] == 11


class TestRenewed:
    @pytest.mark.parametrize(("lease", "fresh_for"), LEASE_LENGTHS)
    def test_d1_renewal_comes_when_little_is_left(
        self, read: Read, vault: FakeVault, clock: FakeClock, lease: int, fresh_for: float
    ) -> None:
        """At the point where it would have been replaced, and with the whole lease asked for."""
        vault.lease = lease
        first = read()
        clock.pass_time(fresh_for - 0.1)
        assert read() is first
        clock.pass_time(0.2)
        assert read().ttl == pytest.approx(lease)
        assert vault.sent == {"lease_id": "creds/1", "increment": lease}

    def test_d1_renewed_secret_is_the_same(
        self, renewing: VaultClient, read: Read, clock: FakeClock, events: list[Event]
    ) -> None:
        """No change is announced, and its revision stays: a pool keeps its connections."""
        first = read()
        clock.pass_time(50)
        again = read()
        assert (again.revision, again.says_the_same_as(first), again.ttl) == (first.revision, True, 60)
        assert renewing.peek(ROLE, "database_dynamic") is again
        assert len(of(events, SecretChanged)) == 1
        assert of(events, LeaseRenewed) == [LeaseRenewed(again, last=False)]

    @pytest.mark.parametrize("granted", [53, 30, 11])
    def test_d1_short_grant_is_the_last(
        self, read: Read, vault: FakeVault, clock: FakeClock, events: list[Event], granted: int
    ) -> None:
        """Max TTL is near: what is left is used, and replaced with 10 s of it left, as ever."""
        vault.max_lease = 50 + granted
        first = read()
        clock.pass_time(50)
        assert read().ttl == granted
        assert of(events, LeaseRenewed)[0].last
        clock.pass_time(granted - 10.1)
        assert read().says_the_same_as(first)
        clock.pass_time(0.1)
        assert read().data != first.data
        assert vault.count()[RENEW_LEASE] == 1

    @pytest.mark.parametrize("granted", [10, 1, 0])
    def test_d1_grant_that_gains_nothing(
        self, read: Read, vault: FakeVault, clock: FakeClock, events: list[Event], granted: int
    ) -> None:
        """No more than what should be left anyway: replaced at once, and nothing is called renewed."""
        vault.max_lease = 50 + granted
        first = read()
        clock.pass_time(50)
        assert read().data != first.data
        assert of(events, LeaseRenewed) == []

    def test_d1_unrenewable_lease_is_replaced(self, read: Read, vault: FakeVault, clock: FakeClock) -> None:
        """Vault says so as it issues it: no renewal is tried."""
        vault.instead[DYNAMIC] = lambda: {**vault._dynamic(), "renewable": False}
        read()
        clock.pass_time(50)
        read()
        assert (vault.count()[DYNAMIC], vault.count()[RENEW_LEASE]) == (2, 0)

    def test_d2_ended_lease_is_not_renewed(self, read: Read, vault: FakeVault, clock: FakeClock) -> None:
        """Nobody looked for a while: Vault has dropped the user by now."""
        read()
        clock.pass_time(60)
        assert read().data["username"] == "v-approle-2"
        assert vault.count()[RENEW_LEASE] == 0

    def test_d1_refused_credentials_are_not_renewed(
        self, renewing: VaultClient, read: Read, vault: FakeVault, clock: FakeClock
    ) -> None:
        """The database does not know the user, Vault would renew the lease all the same; also after an outage."""
        first = read()
        vault.go_down()
        assert renewing.get_instead_of(first).stale
        vault.come_back()
        clock.pass_time(3)
        assert read().data != first.data
        assert vault.count()[RENEW_LEASE] == 0


class TestNoAnswer:
    def test_d1_unanswered_renewal_is_tried_again(
        self, read: Read, vault: FakeVault, clock: FakeClock, events: list[Event]
    ) -> None:
        """The credentials serve on to the end of their lease, with several tries, the last of them near the end."""
        first = read()
        clock.pass_time(50)
        vault.go_down()
        vault.forget()
        tries = []
        for _ in range(99):
            assert read().says_the_same_as(first)
            tries.append(len(vault.asked))
            clock.pass_time(0.1)
        assert 4 <= tries[-1] <= 20
        assert tries[-1] > tries[-6]
        assert set(vault.asked) == {RENEW_LEASE}
        assert of(events, StaleServed)
        clock.pass_time(0.2)
        with pytest.raises(VaultUnavailable):
            read()

    def test_d1_answer_after_an_outage_keeps_the_user(self, read: Read, vault: FakeVault, clock: FakeClock) -> None:
        """As good as new, and no new user."""
        first = read()
        vault.go_down()
        clock.pass_time(51)
        assert read().stale
        vault.come_back()
        clock.pass_time(5)
        again = read()
        assert (again.says_the_same_as(first), again.stale, again.ttl) == (True, False, 60)

    def test_d1_renewal_leaves_time_for_another(
        self, make_client: ClientFactory, vault: FakeVault, clock: FakeClock
    ) -> None:
        """A request that hangs has half of what is left, and never more than [http] timeout."""
        vault.token_ttl, vault.lease = 0, HOUR
        for threshold, timeout in (("10", 5), ("600", 30)):
            client = make_client(DATABASE_DYNAMIC_ON_EXPIRY="renew", DATABASE_DYNAMIC_TTL_THRESHOLD=threshold)
            client.get_database_dynamic_secret(ROLE)
            clock.pass_time(HOUR - int(threshold))
            client.get_database_dynamic_secret(ROLE)
            assert vault.asked[-1] == RENEW_LEASE
            assert vault.timeouts[-1] == timeout

    @pytest.mark.parametrize(
        "body", [b'{"lease_id": "creds/1", "lease_dur', b"<html>", b"{}", b'{"lease_duration": "60"}']
    )
    def test_d3_good_lease_is_not_given_back(self, read: Read, vault: FakeVault, clock: FakeClock, body: bytes) -> None:
        """The answer to a renewal is cut off, or nonsense: the lease in it is the one that serves on."""
        first = read()
        vault.instead[RENEW_LEASE] = lambda: body
        clock.pass_time(50)
        assert (read().says_the_same_as(first), read().stale) == (True, True)
        assert vault.count()[GIVE_BACK] == 0
        clock.pass_time(5)
        read()
        assert vault.count()[RENEW_LEASE] > 1


class TestRefused:
    @pytest.mark.parametrize("words", ["lease not found", "lease is not renewable", "past the max TTL, cannot renew"])
    def test_d1_refused_renewal_brings_new_ones(
        self, read: Read, vault: FakeVault, clock: FakeClock, events: list[Event], words: str
    ) -> None:
        """At once; and the next lease is renewed again."""
        first = read()
        vault.instead[RENEW_LEASE] = raising(Refusal(400, words))
        clock.pass_time(50)
        second = read()
        assert second.data != first.data
        assert of(events, SecretChanged)[-1] == SecretChanged(second, first)
        vault.come_back()
        clock.pass_time(50)
        assert read().says_the_same_as(second)

    def test_d3_policy_forbids_renewal(
        self, renewing: VaultClient, vault: FakeVault, clock: FakeClock, events: list[Event]
    ) -> None:
        """From then on they are replaced, without a try and without a login, after one warning."""
        vault.instead[RENEW_LEASE] = raising(Refusal(403, "permission denied"))
        take_turns(renewing, clock, 600)
        assert vault.count() == {LOGIN: 1, DYNAMIC: 12, RENEW_LEASE: 1, LOOKUP: 1}
        (warning,) = of(events, NoLeaseRenewal)
        assert 'no policy of this token grants "update" on "sys/leases/renew"' in str(warning.error)

    def test_d3_two_refusals_are_one_warning(
        self, renewing: VaultClient, read: Read, vault: FakeVault, clock: FakeClock, events: list[Event]
    ) -> None:
        """While one renewal is under way, that of another role is refused, too."""
        vault.instead["GET my-vault-app-database/creds/other"] = vault._dynamic
        renewing.get_database_dynamic_secret("other")
        read()
        clock.pass_time(50)

        def forbid() -> Any:
            vault.instead[RENEW_LEASE] = raising(Refusal(403, "permission denied"))
            renewing.get_database_dynamic_secret("other")
            raise Refusal(403, "permission denied")

        vault.instead[RENEW_LEASE] = forbid
        read()
        assert vault.count()[RENEW_LEASE] == 2
        assert len(of(events, NoLeaseRenewal)) == 1

    def test_d3_policy_that_forbids_all_tells_nothing(
        self, read: Read, vault: FakeVault, clock: FakeClock, events: list[Event]
    ) -> None:
        """Neither renewed nor issued: it may be given back, and then leases are renewed again."""
        read()
        vault.instead = dict.fromkeys((RENEW_LEASE, DYNAMIC), raising(Refusal(403, "permission denied")))
        clock.pass_time(50)
        with pytest.raises(PermissionDenied):
            read()
        vault.come_back()
        clock.pass_time(5)
        second = read()
        clock.pass_time(50)
        assert read().says_the_same_as(second)
        assert of(events, NoLeaseRenewal) == []


class TestUnderAToken:
    def test_t8_login_brings_new_ones(self, renewing: VaultClient, read: Read, vault: FakeVault) -> None:
        """A lease of the token before is not renewed: it dies with that token."""
        first = read()
        renewing.login()
        assert read().data != first.data
        assert vault.count()[RENEW_LEASE] == 0

    def test_d2_dying_token_renews_no_lease(
        self, make_client: ClientFactory, vault: FakeVault, clock: FakeClock
    ) -> None:
        """What it renews dies with it: there is a login first, and new credentials under its token."""
        vault.renewable, vault.token_ttl = False, 80
        client = make_client(DATABASE_DYNAMIC_ON_EXPIRY="renew")
        first = client.get_database_dynamic_secret(ROLE)
        clock.pass_time(50)
        second = client.get_database_dynamic_secret(ROLE)
        assert second.data != first.data
        assert (vault.logins, second.ttl) == (2, 60)
        clock.pass_time(1)
        assert client.get_database_dynamic_secret(ROLE) is second

    def test_t9_dead_token_brings_new_ones(self, read: Read, vault: FakeVault, clock: FakeClock) -> None:
        """The renewal finds that the token was revoked, and the lease with it."""
        first = read()
        vault.dead.add(vault.tokens[-1])
        vault.issued.clear()
        clock.pass_time(50)
        assert read().data != first.data
        assert vault.logins == 2

    def test_d2_lease_ends_with_its_token(self, make_client: ClientFactory, vault: FakeVault, clock: FakeClock) -> None:
        """Also one that was renewed for longer."""
        client = make_client(DATABASE_DYNAMIC_ON_EXPIRY="renew")
        first = client.get_database_dynamic_secret(ROLE)
        clock.pass_time(50)
        assert client.get_database_dynamic_secret(ROLE).says_the_same_as(first)
        clock.pass_time(10)
        assert client.get_database_dynamic_secret(ROLE).data != first.data

    def test_t10_child_renews_anew(self, renewing: VaultClient, read: Read, vault: FakeVault, clock: FakeClock) -> None:
        """What the parent learned of a policy is forgotten along with all else."""
        vault.instead[RENEW_LEASE] = raising(Refusal(403, "permission denied"))
        take_turns(renewing, clock, 60)
        vault.come_back()
        renewing.start_anew()
        take_turns(renewing, clock, 120)
        assert vault.count()[RENEW_LEASE] > 1


class TestStaticStaleness:
    @pytest.fixture
    def patient(self, make_client: ClientFactory, vault: FakeVault) -> VaultClient:
        """A client with a password that rotates in 20 s, and a minute of patience then."""
        vault.token_ttl, vault.static_ttl = 0, 20
        return make_client(DATABASE_STATIC_MAX_STALE="60")

    def test_s1_last_password_serves_on(
        self, patient: VaultClient, vault: FakeVault, clock: FakeClock, events: list[Event]
    ) -> None:
        """Marked stale, with a TTL of 0, for as long as the setting says, and no longer."""
        first = patient.get_database_static_secret("db-demo-static")
        vault.go_down()
        for seconds in (20, 59.9):
            clock.pass_time(seconds)
            late = patient.get_database_static_secret("db-demo-static")
            assert (late.stale, late.ttl, late.says_the_same_as(first)) == (True, 0, True)
        assert of(events, StaleServed)
        clock.pass_time(0.2)
        with pytest.raises(VaultUnavailable):
            patient.get_database_static_secret("db-demo-static")

    def test_s1_rotation_is_asked_about_in_time(self, patient: VaultClient, vault: FakeVault, clock: FakeClock) -> None:
        """With Vault there, nothing is served past the rotation unasked."""
        patient.get_database_static_secret("db-demo-static")
        clock.pass_time(20)
        vault.rotation = "2026-11-24T00:00:00Z"
        assert patient.get_database_static_secret("db-demo-static").last_rotation == vault.rotation

    def test_s1_new_password_follows_an_outage(
        self, patient: VaultClient, vault: FakeVault, clock: FakeClock, events: list[Event]
    ) -> None:
        """The stale one is replaced as soon as Vault answers."""
        first = patient.get_database_static_secret("db-demo-static")
        vault.go_down()
        clock.pass_time(21)
        assert patient.get_database_static_secret("db-demo-static").stale
        vault.come_back()
        vault.rotation = "2026-11-24T00:00:00Z"
        clock.pass_time(5)
        new = patient.get_database_static_secret("db-demo-static")
        assert (new.stale, new.ttl) == (False, 20)
        assert of(events, SecretChanged)[-1].previous.says_the_same_as(first)

    def test_s1_overdue_rotation_serves_on(self, patient: VaultClient, vault: FakeVault, clock: FakeClock) -> None:
        """Vault was there when it was due, had not rotated yet, and is away now."""
        vault.static_ttl = 0
        patient.get_database_static_secret("db-demo-static")
        vault.go_down()
        clock.pass_time(2)
        assert patient.get_database_static_secret("db-demo-static").stale

    def test_s1_refusal_ends_the_staleness(self, patient: VaultClient, vault: FakeVault, clock: FakeClock) -> None:
        """What Vault says, as that the role is gone, is no silence."""
        patient.get_database_static_secret("db-demo-static")
        vault.go_down()
        clock.pass_time(20)
        assert patient.get_database_static_secret("db-demo-static").stale
        vault.instead[STATIC] = raising(Refusal(403, "permission denied"))
        vault.instead.pop(LOOKUP)
        clock.pass_time(30)
        with pytest.raises(PermissionDenied):
            patient.get_database_static_secret("db-demo-static")
