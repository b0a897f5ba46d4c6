"""The corners of the rules: each test stands for a break of the code that the tests of the plain rule let pass."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from config_loader import VaultConfig
from tests.fakes import (
    DYNAMIC,
    KV_DATA,
    KV_METADATA,
    LOGIN,
    LOOKUP,
    PASSWORD,
    RENEW,
    REVOKE,
    ROLE_ID,
    SECRET_ID,
    TOKEN,
    FakeClock,
    FakeVault,
    Refusal,
)
from tests.unit.conftest import ClientFactory
from tests.unit.test_token_rules import raising
from vault_app import VaultApplication
from vault_client import VaultClient
from vaultkit.errors import (
    ClientClosed,
    PermissionDenied,
    SecretDeleted,
    SecretNotFound,
    UnexpectedResponse,
    VaultUnavailable,
)
from vaultkit.events import Event, NoVersionQuery, StaleServed, TokenLost
from vaultkit.lifetime import backoff
from vaultkit.transport.session import BriefRetry


class TestToken:
    def test_t1_cached_read_ends_by_the_monotonic_clock(
        self, client: VaultClient, vault: FakeVault, clock: FakeClock
    ) -> None:
        """A wall clock set back an hour does not keep a value fresh for an hour."""
        client.get_kv_secret("database")
        clock.set_wall_clock(by=-3600)
        clock.pass_time(5)
        client.get_kv_secret("database")
        assert vault.count()[KV_METADATA] == 1

    def test_t3_jitter_is_a_share_of_the_ttl(self, make_client: ClientFactory, clock: FakeClock) -> None:
        """0.3 of 60 seconds are up to 18, not up to 0.3."""
        points = []
        for _ in range(20):
            client = make_client(TOKEN_RENEW_JITTER="0.3")
            client.login()
            assert client._token._token is not None
            points.append(client._token._token.next_step.left(clock))
        assert min(points) < 45

    def test_t4_a_second_less_is_not_clearly_less(
        self, client: VaultClient, vault: FakeVault, clock: FakeClock
    ) -> None:
        """Servers round: 59 of 60 seconds do not mean that max TTL is near."""
        client.login()
        vault.renewed_ttl = 59
        for _ in range(3):
            clock.pass_time(48)
            client.keep_token_alive()
        assert (vault.logins, vault.count()[RENEW]) == (1, 3)

    def test_t5_endless_token_renewed_stays_endless(self, client: VaultClient, vault: FakeVault) -> None:
        """0 means for ever after a renewal, too."""
        vault.token_ttl = vault.renewed_ttl = 0
        assert (client.renew_token().ttl, vault.logins) == (math.inf, 1)

    def test_t6_retry_after_is_honoured(self, client: VaultClient, vault: FakeVault, clock: FakeClock) -> None:
        """With time enough left, a server that asks for 100 s of peace gets them."""
        vault.token_ttl = 3600
        client.login()
        vault.instead[RENEW] = raising(Refusal(429, "slow down", headers={"Retry-After": "100"}))
        clock.pass_time(2880)
        for _ in range(99):
            client.keep_token_alive()
            clock.pass_time(1)
        assert vault.count()[RENEW] == 1

    def test_t7_looks_when_the_backoff_ends(self, client: VaultClient, vault: FakeVault) -> None:
        """Without a token the next look is not 10 s away, but where the next try is due."""
        vault.go_down()
        client.keep_token_alive()
        assert client.seconds_to_next_look() <= 1

    def test_t7_backoff_is_random(self) -> None:
        """Replicas that failed together do not come back together."""
        assert len({backoff(6, 30) for _ in range(20)}) > 1

    def test_t8_revoked_token_takes_its_leases(self, client: VaultClient, vault: FakeVault, clock: FakeClock) -> None:
        """Found dead by a read of something else, with its TTL far from over."""
        vault.token_ttl = vault.lease = 3600
        client.get_database_dynamic_secret("db-demo-dynamic")
        client.get_kv_secret("database")
        vault.dead.add(TOKEN + "1")
        vault.go_down()
        del vault.instead[KV_METADATA], vault.instead[LOOKUP]
        clock.pass_time(5)
        client.get_kv_secret("database")
        with pytest.raises(VaultUnavailable):
            client.get_database_dynamic_secret("db-demo-dynamic")

    def test_t8_renewal_prolongs_the_leases(self, client: VaultClient, vault: FakeVault, clock: FakeClock) -> None:
        """A lease of an hour under a token of a minute lives as long as the token is renewed."""
        vault.lease = 3600
        first = client.get_database_dynamic_secret("db-demo-dynamic")
        clock.pass_time(48)
        client.keep_token_alive()
        clock.pass_time(30)
        assert client.get_database_dynamic_secret("db-demo-dynamic") is first

    def test_t8_renewal_never_overwrites_a_login(self, client: VaultClient, vault: FakeVault, clock: FakeClock) -> None:
        """Answered after another thread has logged in: the new token stays."""

        def log_in_meanwhile() -> object:
            client.login()
            return vault._auth(60)

        client.login()
        vault.instead[RENEW] = log_in_meanwhile
        clock.pass_time(48)
        client.keep_token_alive()
        assert client.get_token_info().generation == 2

    def test_t9_login_of_another_thread_is_enough(
        self, client: VaultClient, vault: FakeVault, events: list[Event]
    ) -> None:
        """Two threads find the token dead: one logs in, the other uses that."""

        def log_in_meanwhile() -> object:
            client.login()
            raise Refusal(403, "permission denied")

        client.login()
        vault.dead.add(TOKEN + "1")
        vault.instead[LOOKUP] = log_in_meanwhile
        client.get_kv_secret("database")
        assert vault.logins == 2
        assert not [event for event in events if isinstance(event, TokenLost)]


class TestSecrets:
    def test_k1_values_are_read_in_steady_state(self, client: VaultClient, vault: FakeVault, clock: FakeClock) -> None:
        """The five minutes run from the last read of the values, not from the last look at the version."""
        for _ in range(61):
            client.get_kv_secret("database")
            clock.pass_time(5)
        assert vault.count()[KV_DATA] == 2

    def test_k1_unreadable_deletion_time_is_checked(
        self, client: VaultClient, vault: FakeVault, clock: FakeClock
    ) -> None:
        """What cannot be understood may be a deletion: reading the values tells."""
        client.get_kv_secret("database")
        vault.deletion_time = "soon"
        clock.pass_time(5)
        with pytest.raises(SecretDeleted):
            client.get_kv_secret("database")

    def test_k2_falls_back_for_one_path_alone(self, client: VaultClient, vault: FakeVault, clock: FakeClock) -> None:
        """A policy that hides the metadata of one secret makes no other one dearer."""
        vault.instead["GET my-vault-app-kv/data/other"] = vault._kv_data
        vault.instead["GET my-vault-app-kv/metadata/other"] = raising(Refusal(403, "permission denied"))
        for _ in range(3):
            client.get_kv_secret("other")
            client.get_kv_secret("database")
            clock.pass_time(5)
        assert vault.count()[KV_METADATA] == 2

    def test_k2_passing_refusal_is_no_reason_to_fall_back(
        self, client: VaultClient, vault: FakeVault, clock: FakeClock, events: list[Event]
    ) -> None:
        """Where the values could not be read either, the version is asked for again when they can."""
        client.get_kv_secret("database")
        vault.instead = dict.fromkeys((KV_METADATA, KV_DATA), raising(Refusal(403, "permission denied")))
        clock.pass_time(5)
        with pytest.raises(PermissionDenied):
            client.get_kv_secret("database")
        vault.come_back()
        vault.forget()
        for _ in range(2):
            clock.pass_time(5)
            client.get_kv_secret("database")
        assert vault.asked == [KV_DATA, KV_METADATA]
        assert not [event for event in events if isinstance(event, NoVersionQuery)]

    def test_k3_missing_secret_is_asked_for_each_turn(
        self, client: VaultClient, vault: FakeVault, clock: FakeClock
    ) -> None:
        """A no is no outage: however often it came, within an interval Vault is asked again."""
        vault.instead[KV_DATA] = raising(Refusal(404))
        for _ in range(6):
            with pytest.raises(SecretNotFound):
                client.get_kv_secret("database")
            clock.pass_time(30)
        with pytest.raises(SecretNotFound):
            client.get_kv_secret("database")
        vault.come_back()
        clock.pass_time(5)
        assert client.get_kv_secret("database").version == 1

    @pytest.mark.parametrize(("interval", "turn"), [("5", 5), ("0.1", 1)])
    def test_c2_refusals_do_not_add_up(
        self, make_client: ClientFactory, vault: FakeVault, clock: FakeClock, interval: str, turn: float
    ) -> None:
        """A reader that asks all the time for what it may not read costs a request a turn, or at most one a second."""
        client = make_client(KV_SECRET_REFRESH_INTERVAL=interval)
        vault.instead[KV_DATA] = raising(Refusal(403))
        for _ in range(600):
            with pytest.raises(PermissionDenied):
                client.get_kv_secret("database")
            clock.pass_time(0.1)
        assert 60 / turn <= vault.count()[KV_DATA] <= 2 * 60 / turn + 3

    def test_t8_login_ends_the_pauses(self, client: VaultClient, vault: FakeVault, clock: FakeClock) -> None:
        """What failed for want of a login does not wait on: else two back-offs would follow each other."""
        vault.go_down()
        for _ in range(6):
            with pytest.raises(VaultUnavailable):
                client.get_database_dynamic_secret("db-demo-dynamic")
            clock.pass_time(30)
        with pytest.raises(VaultUnavailable):
            client.get_database_dynamic_secret("db-demo-dynamic")
        vault.come_back()
        clock.pass_time(15)  # the shortest pause that it may be now
        while not client.logged_in:
            client.keep_token_alive()
            clock.pass_time(0.5)
        assert client.get_database_dynamic_secret("db-demo-dynamic").ttl

    def test_t8_login_ends_what_is_stale(self, client: VaultClient, vault: FakeVault, clock: FakeClock) -> None:
        """Vault has answered: what serves on without it is asked for, however far off the end of its back-off is."""
        vault.token_ttl = 86_400
        client.get_kv_secret("database")
        vault.go_down()
        for _ in range(20):
            clock.pass_time(31)
            assert client.get_kv_secret("database").stale
        vault.come_back()
        client.login()
        assert not client.get_kv_secret("database").stale

    def test_t8_only_a_login_ends_the_pauses(self, client: VaultClient, vault: FakeVault, clock: FakeClock) -> None:
        """A renewal does not; and should the next try fail, too, the back-off goes on from where it was."""
        vault.token_ttl = vault.renewed_ttl = 3600

        def requests_after(step: Callable[[], object]) -> int:
            step()
            vault.forget()
            with pytest.raises(VaultUnavailable):
                client.get_database_dynamic_secret("db-demo-dynamic")
            return vault.count()[DYNAMIC]

        vault.instead[DYNAMIC] = raising(Refusal(503))
        for _ in range(6):
            assert requests_after(lambda: clock.pass_time(31)) == 1
        assert requests_after(client.renew_token) == 0
        assert requests_after(client.login) == 1
        assert requests_after(lambda: clock.pass_time(10)) == 0

    def test_d2_renewable_token_is_not_replaced(self, client: VaultClient, vault: FakeVault, clock: FakeClock) -> None:
        """Half-way through its life a token that will be renewed is good for any lease."""
        client.login()
        clock.pass_time(30)
        client.get_database_dynamic_secret("db-demo-dynamic")
        assert vault.logins == 1

    def test_c1_waiting_threads_take_what_the_first_got(self, client: VaultClient, vault: FakeVault) -> None:
        """With an answer slow enough that all are waiting for it."""

        def slowly() -> object:
            time.sleep(0.2)
            return vault._kv_data()

        vault.instead[KV_DATA] = slowly
        with ThreadPoolExecutor(10) as pool:
            list(pool.map(lambda _: client.get_kv_secret("database"), range(10)))
        assert vault.asked == [LOGIN, KV_DATA]

    def test_c1_login_is_single(self, client: VaultClient, vault: FakeVault) -> None:
        """Three engines that need a token at once get one."""

        def slowly() -> object:
            time.sleep(0.2)
            return vault._login()

        vault.instead[LOGIN] = slowly
        with ThreadPoolExecutor(3) as pool:
            reads = [
                pool.submit(client.get_kv_secret, "database"),
                pool.submit(client.get_database_static_secret, "db-demo-static"),
                pool.submit(client.get_database_dynamic_secret, "db-demo-dynamic"),
            ]
            for read in reads:
                read.result(10)
        assert vault.logins == 1

    def test_c2_backoff_starts_anew_after_success(
        self, client: VaultClient, vault: FakeVault, clock: FakeClock, events: list[Event]
    ) -> None:
        """The second outage of a day begins with a short pause, like the first."""
        vault.token_ttl = 0
        client.get_kv_secret("database")
        vault.go_down()
        for _ in range(200):
            clock.pass_time(1)
            client.get_kv_secret("database")
        vault.come_back()
        clock.pass_time(30)
        client.get_kv_secret("database")
        vault.go_down()
        clock.pass_time(5)
        events.clear()
        client.get_kv_secret("database")
        assert [event.retry_in <= 1 for event in events if isinstance(event, StaleServed)] == [True]

    def test_c2_retry_pauses_are_jittered(self) -> None:
        """Between a tenth and half of a second."""
        pauses = {BriefRetry().get_backoff_time() for _ in range(20)}
        assert len(pauses) > 1
        assert all(0.1 <= pause <= 0.5 for pause in pauses)

    def test_enormous_number_is_nonsense(self, client: VaultClient, vault: FakeVault) -> None:
        """A TTL with 400 digits is an answer of nobody's Vault, and no OverflowError."""
        vault.token_ttl = 10**400
        with pytest.raises(UnexpectedResponse):
            client.login()


class TestEnd:
    def test_x1_login_under_way_is_revoked(self, client: VaultClient, vault: FakeVault) -> None:
        """Answered after the client was closed: the new token is of no use to anybody."""

        def close_meanwhile() -> object:
            client.close()
            return vault._login()

        vault.instead[LOGIN] = close_meanwhile
        with pytest.raises(ClientClosed):
            client.login()
        assert (vault.count()[REVOKE], client.logged_in) == (1, False)

    def test_x1_expired_token_is_not_revoked(self, client: VaultClient, vault: FakeVault, clock: FakeClock) -> None:
        """It is gone already; asking would only take time."""
        client.login()
        clock.pass_time(61)
        client.close()
        assert vault.count()[REVOKE] == 0


class TestPrivacy:
    def test_p1_kept_errors_hold_no_frames(
        self, client: VaultClient, vault: FakeVault, clock: FakeClock, events: list[Event]
    ) -> None:
        """A traceback holds the frames of its functions, and they hold tokens and values."""
        client.get_kv_secret("database")
        vault.go_down()
        clock.pass_time(48)
        client.keep_token_alive()
        client.get_kv_secret("database")
        clock.pass_time(60)
        client.keep_token_alive()
        errors = [event.error for event in events if hasattr(event, "error")] + [client._token._logging_in._error]
        assert len(errors) == 4
        assert [(error.__traceback__, error.__cause__) for error in errors] == [(None, None)] * 4

    def test_p1_each_caller_gets_an_error_of_its_own(self, client: VaultClient, vault: FakeVault) -> None:
        """One that is raised in several threads would collect the frames of all."""
        vault.go_down()
        errors = []
        for _ in range(3):
            with pytest.raises(VaultUnavailable) as caught:
                client.login()
            errors.append(caught.value)
        assert errors[1] is not errors[2]

    def test_p1_unexpected_error_is_not_quoted(self, caplog: pytest.LogCaptureFixture) -> None:
        """Neither on the console nor in the log, which says where it arose."""
        heard: list[Event] = []
        config = VaultConfig.load(environ={"VAULT_ROLE_ID": ROLE_ID, "VAULT_SECRET_ID": SECRET_ID})
        application = VaultApplication(config, listeners=[heard.append])
        application._turn_failed("kv-secret", ValueError(PASSWORD))
        assert PASSWORD not in repr(heard) + caplog.text
        assert "kv-secret: unexpected ValueError" in caplog.text


def test_d1_lease_counts_for_its_own_generation(client: VaultClient, vault: FakeVault) -> None:
    """A second login does not make a lease of the second generation old."""
    client.login()
    client.login()
    first = client.get_database_dynamic_secret("db-demo-dynamic")
    assert client.get_database_dynamic_secret("db-demo-dynamic") is first
    assert vault.count()[DYNAMIC] == 1
