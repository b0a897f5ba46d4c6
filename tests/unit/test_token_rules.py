"""The rules T1 to T9: the life of the token."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest
import requests

from config_loader import VaultConfig
from tests.fakes import (
    DYNAMIC,
    KV_DATA,
    KV_METADATA,
    LOGIN,
    LOOKUP,
    RENEW,
    REVOKE,
    SECRET_ID,
    TOKEN,
    FakeClock,
    FakeVault,
    Refusal,
)
from tests.unit.conftest import ClientFactory
from vault_client import VaultClient
from vaultkit.errors import ConfigurationError, LoginRefused, PermissionDenied, VaultSealed, VaultUnavailable
from vaultkit.events import Event, LoggedIn, LoginFailed, RenewalFailed, TokenLost, TokenRenewed
from vaultkit.lifetime import backoff


def refuse(status: int, *errors: str) -> Refusal:
    return Refusal(status, *errors)


def raising(error: Exception):  # type: ignore[no-untyped-def]  # a lambda cannot raise
    def answer() -> None:
        raise error

    return answer


class TestT1:
    def test_t1_life_starts_before_the_request(self, client: VaultClient, vault: FakeVault) -> None:
        """A login or a renewal that takes 7 of 60 seconds leaves 53."""
        vault.latency = 7
        assert client.login().ttl == 53
        assert client.renew_token().ttl == 53

    @pytest.mark.parametrize("clock_moves", ["monotonic", "wall"])
    def test_t1_either_clock_ends_the_token(
        self, client: VaultClient, vault: FakeVault, clock: FakeClock, clock_moves: str
    ) -> None:
        """After a suspend only the wall clock has moved, after a step back only the monotonic one."""
        client.login()
        clock.set_wall_clock(by=61 if clock_moves == "wall" else -3600)
        if clock_moves == "monotonic":
            clock.pass_time(61)
        client.get_kv_secret("database")
        assert vault.logins == 2


class TestT2:
    @pytest.mark.parametrize(("ttl", "look"), [(3600, 10), (60, 6), (5, 0.5), (1, 0.1)])
    def test_t2_ten_looks_in_a_short_life(self, client: VaultClient, vault: FakeVault, ttl: int, look: float) -> None:
        """The watcher looks every 10 s, at least ten times in a TTL, and never sooner than 0.1 s."""
        vault.token_ttl = ttl
        client.login()
        assert client.seconds_to_next_look() == pytest.approx(look)

    def test_t2_looks_when_a_step_is_due(self, client: VaultClient, clock: FakeClock) -> None:
        """A look comes at 4/5 even if the last one was a moment before."""
        client.login()
        clock.pass_time(47.5)
        assert client.seconds_to_next_look() == pytest.approx(0.5)

    def test_t2_never_spins(self, client: VaultClient, clock: FakeClock) -> None:
        """A step that is overdue does not make the watcher look without a pause."""
        client.login()
        clock.pass_time(100)
        assert client.seconds_to_next_look() == pytest.approx(0.1)


class TestT3:
    def test_t3_renews_at_four_fifths(self, client: VaultClient, vault: FakeVault, clock: FakeClock) -> None:
        """Not a moment before 48 of 60 seconds, and then once."""
        client.login()
        clock.pass_time(47.9)
        client.keep_token_alive()
        assert vault.count()[RENEW] == 0
        clock.pass_time(0.2)
        client.keep_token_alive()
        client.keep_token_alive()
        assert vault.count()[RENEW] == 1

    def test_t3_jitter_only_moves_earlier(self, make_client: ClientFactory, clock: FakeClock) -> None:
        """With a jitter of 0.3, twenty replicas renew between half and 4/5 of the TTL, and not together."""
        points = []
        for _ in range(20):
            client = make_client(TOKEN_RENEW_JITTER="0.3", TOKEN_CHECK_INTERVAL="1000")
            client.login()
            token = client._token._token
            assert token is not None
            points.append(token.next_step.left(clock))
        assert all(30 <= point <= 48 for point in points)
        assert len(set(points)) > 1


class TestT4:
    def test_t4_shrunken_grant_leads_to_login(
        self, client: VaultClient, vault: FakeVault, clock: FakeClock, events: list[Event]
    ) -> None:
        """Max TTL is told by the grant alone: `renewable` stays true. At 4/5 of what is left comes a login."""
        client.login()
        clock.pass_time(48)
        vault.renewed_ttl = 20
        client.keep_token_alive()
        assert TokenRenewed(20, last=True) in events
        clock.pass_time(15.9)
        client.keep_token_alive()
        assert vault.logins == 1
        clock.pass_time(0.2)
        client.keep_token_alive()
        assert (vault.logins, vault.count()[RENEW]) == (2, 1)

    def test_t4_full_grant_leads_to_renewal(self, client: VaultClient, vault: FakeVault, clock: FakeClock) -> None:
        """A renewal that grants what was asked is followed by the next one."""
        client.login()
        for _ in range(5):
            clock.pass_time(48)
            client.keep_token_alive()
        assert (vault.logins, vault.count()[RENEW]) == (1, 5)


class TestT5:
    def test_t5_unrenewable_token_is_replaced(self, client: VaultClient, vault: FakeVault, clock: FakeClock) -> None:
        """A batch token, or one with renewable=false, is never renewed; at 4/5 comes a login."""
        vault.renewable = False
        client.login()
        clock.pass_time(47.9)
        client.keep_token_alive()
        assert vault.logins == 1
        clock.pass_time(0.2)
        client.keep_token_alive()
        assert (vault.logins, vault.count()[RENEW]) == (2, 0)

    def test_t5_forbidden_renewal_is_a_login(self, client: VaultClient, vault: FakeVault, clock: FakeClock) -> None:
        """A policy without renew-self: the token is alive, and replaced at 4/5."""
        client.login()
        vault.instead[RENEW] = raising(refuse(403, "permission denied"))
        clock.pass_time(48)
        client.keep_token_alive()
        assert (vault.logins, vault.count()[LOOKUP]) == (2, 1)

    def test_t5_endless_token_needs_no_step(self, client: VaultClient, vault: FakeVault, clock: FakeClock) -> None:
        """A lease_duration of 0 means that the token does not expire."""
        vault.token_ttl = 0
        client.login()
        clock.pass_time(10**7)
        client.keep_token_alive()
        assert (vault.logins, vault.count()[RENEW]) == (1, 0)


class TestT6:
    def test_t6_unanswered_renewal_is_tried_again(
        self, client: VaultClient, vault: FakeVault, clock: FakeClock, events: list[Event]
    ) -> None:
        """The token lives on, tries come with a growing pause, and the first answer makes all well."""
        client.login()
        vault.go_down()
        clock.pass_time(48)
        for _ in range(8):
            client.keep_token_alive()
            clock.pass_time(1)
        assert 2 <= vault.count()[RENEW] <= 6
        vault.come_back()
        clock.pass_time(3)
        client.keep_token_alive()
        assert vault.logins == 1
        assert isinstance(events[-1], TokenRenewed)

    def test_t6_cached_secrets_go_on_serving(self, client: VaultClient, vault: FakeVault, clock: FakeClock) -> None:
        """All three, while no renewal gets through."""
        secrets = [
            client.get_kv_secret("database"),
            client.get_database_dynamic_secret("db-demo-dynamic"),
            client.get_database_static_secret("db-demo-static"),
        ]
        vault.go_down()
        clock.pass_time(48)
        client.keep_token_alive()
        served = [
            client.get_kv_secret("database"),
            client.get_database_dynamic_secret("db-demo-dynamic"),
            client.get_database_static_secret("db-demo-static"),
        ]
        assert [secret.data for secret in served] == [secret.data for secret in secrets]

    @pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
    def test_t6_overloaded_or_sealed_is_no_refusal(
        self, client: VaultClient, vault: FakeVault, clock: FakeClock, events: list[Event], status: int
    ) -> None:
        """A status that will pass is no reason for a login."""
        client.login()
        vault.instead[RENEW] = raising(refuse(status, "Vault is sealed"))
        clock.pass_time(48)
        client.keep_token_alive()
        assert vault.logins == 1
        assert isinstance(events[-1], RenewalFailed)

    def test_t6_hanging_renewal_leaves_time_for_another(
        self, client: VaultClient, vault: FakeVault, clock: FakeClock
    ) -> None:
        """With 12 s left, a renewal may take 6 of them, not the 30 of [http] timeout."""
        client.login()
        clock.pass_time(48)
        client.keep_token_alive()
        assert vault.timeouts[-1] == 6

    def test_t6_renewal_at_the_last_moment(self, client: VaultClient, vault: FakeVault, clock: FakeClock) -> None:
        """With nothing left it is still a request with a timeout, not an error of the HTTP library."""
        client.login()
        token = client._token._token
        assert token is not None
        clock.pass_time(60)
        client._token.renew(token)
        assert vault.timeouts[-1] == 0.1


class TestT7:
    @pytest.mark.parametrize("status", [400, 403])
    def test_t7_refused_renewal_is_a_login(
        self, client: VaultClient, vault: FakeVault, clock: FakeClock, events: list[Event], status: int
    ) -> None:
        """The token was revoked from outside: log in at once."""
        client.login()
        vault.dead.add(TOKEN + "1")
        vault.instead[RENEW] = raising(refuse(status, "token not found"))
        clock.pass_time(48)
        client.keep_token_alive()
        assert [type(event) for event in events[-2:]] == [TokenLost, LoggedIn]

    def test_t7_past_max_ttl_is_a_login(
        self, client: VaultClient, vault: FakeVault, clock: FakeClock, events: list[Event]
    ) -> None:
        """A refusal with status 500, while the token lives: its leases drain, as after any login."""
        client.login()
        vault.instead[RENEW] = raising(refuse(500, "1 error occurred:\n\t* past the max TTL, cannot renew\n\n"))
        clock.pass_time(48)
        client.keep_token_alive()
        assert [type(event) for event in events] == [LoggedIn, LoggedIn]

    @pytest.mark.parametrize("status", [400, 403, 404])
    def test_t7_refused_login_is_final(self, client: VaultClient, vault: FakeVault, status: int) -> None:
        """Bad credentials are not tried again and again."""
        vault.instead[LOGIN] = raising(refuse(status, "invalid role or secret ID"))
        with pytest.raises(LoginRefused, match=r"Vault at http://127\.0\.0\.1:8200 refused the login"):
            client.keep_token_alive()

    def test_t7_refused_login_is_not_tried_again(
        self, make_client: ClientFactory, vault: FakeVault, clock: FakeClock
    ) -> None:
        """By nobody in the process: not by readers, not by a keeper, not by another client, for a minute."""
        vault.instead[LOGIN] = raising(refuse(400, "invalid role or secret ID"))
        for _ in range(12):
            reader, keeper = make_client(), make_client()
            for ask in (partial(reader.get_kv_secret, "database"), keeper.keep_token_alive, keeper.login):
                with pytest.raises(LoginRefused, match="invalid role or secret ID"):
                    ask()
            clock.pass_time(5)
        assert vault.asked == [LOGIN]

    def test_t7_refused_login_is_tried_ever_more_rarely(
        self, make_client: ClientFactory, vault: FakeVault, clock: FakeClock
    ) -> None:
        """Four times in the first ten minutes at most, once an hour at last; what was put right is noticed."""
        client = make_client()
        vault.instead[LOGIN] = raising(refuse(400, "invalid role or secret ID"))
        tried = []
        for _ in range(24 * 360):
            with pytest.raises(LoginRefused):
                client.keep_token_alive()
            clock.pass_time(max(10, client.seconds_to_next_look()))
            tried.append(len(vault.asked))
        assert 2 <= tried[60] <= 4
        assert 24 <= tried[-1] <= 60
        vault.instead = {}
        clock.pass_time(3600)
        assert client.get_kv_secret("database").version == 1

    def test_t7_clients_that_start_together_try_once(self, make_client: ClientFactory, vault: FakeVault) -> None:
        """What the first of them is refused, the others do not try."""
        clients, together = [make_client() for _ in range(8)], threading.Barrier(8)

        def refuse_slowly() -> None:
            time.sleep(0.05)
            raise refuse(400, "invalid role or secret ID")

        def log_in(client: VaultClient) -> None:
            together.wait(10)
            with pytest.raises(LoginRefused):
                client.login()

        vault.instead[LOGIN] = refuse_slowly
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(log_in, clients))
        assert vault.asked == [LOGIN]

    def test_t7_other_credentials_are_tried_at_once(self, make_client: ClientFactory, vault: FakeVault) -> None:
        """What was refused was this secret_id."""
        vault.instead[LOGIN] = raising(refuse(400, "invalid role or secret ID"))
        for secret_id in ("one", "two"):
            with pytest.raises(LoginRefused):
                make_client(VAULT_SECRET_ID=secret_id).login()
        assert vault.asked == [LOGIN, LOGIN]

    @pytest.mark.parametrize(
        ("secret_id", "hint"),
        [
            (f'"{SECRET_ID}"', "begins or ends with a blank or a quotation mark"),
            (f"{SECRET_ID} ", "begins or ends with a blank or a quotation mark"),
            ("hvs.CAESIJlwqz", "looks like a token; if it is wrapped"),
        ],
    )
    def test_e1_odd_secret_id_is_noticed(
        self, make_client: ClientFactory, vault: FakeVault, secret_id: str, hint: str
    ) -> None:
        """What can be seen of it from here is said, and the secret_id is not."""
        vault.instead[LOGIN] = raising(refuse(400, "invalid role or secret ID"))
        with pytest.raises(LoginRefused, match=hint) as caught:
            make_client(VAULT_SECRET_ID=secret_id).login()
        assert secret_id.strip(' "') not in str(caught.value)

    def test_e1_second_factor_is_named(self, client: VaultClient, vault: FakeVault, clock: FakeClock) -> None:
        """A login that asks for MFA is no outage: it is refused, with Vault's own warning."""
        auth = {"client_token": "", "mfa_requirement": {"mfa_request_id": "d0c9eec7"}, "lease_duration": 0}
        vault.instead[LOGIN] = lambda: {"auth": auth, "warnings": ["A login request was issued that is subject to MFA"]}
        for _ in range(3):
            with pytest.raises(LoginRefused, match=r"second factor \(login MFA\).*subject to MFA"):
                client.login()
            clock.pass_time(15)
        assert vault.asked == [LOGIN]

    def test_t7_login_waits_for_a_server(
        self, client: VaultClient, vault: FakeVault, clock: FakeClock, events: list[Event]
    ) -> None:
        """Without a server a login is tried again, with a pause that grows up to its cap and no further."""
        vault.go_down()
        for _ in range(600):
            client.keep_token_alive()
            clock.pass_time(1)
        tries = vault.count()[LOGIN]
        assert 600 / 30 <= tries <= 600 / 15 + 6
        assert all(isinstance(event, LoginFailed) and event.retry_in <= 30 for event in events)
        vault.come_back()
        clock.pass_time(30)
        client.keep_token_alive()
        assert client.logged_in

    def test_t7_retry_after_is_honoured(self, client: VaultClient, vault: FakeVault, clock: FakeClock) -> None:
        """A server that asks for 100 s of peace gets them."""
        vault.instead[LOGIN] = raising(Refusal(429, "slow down", headers={"Retry-After": "100"}))
        for _ in range(99):
            client.keep_token_alive()
            clock.pass_time(1)
        assert vault.count()[LOGIN] == 1

    def test_t7_backoff_grows_to_its_cap(self) -> None:
        """1, 2, 4, … seconds, at most half of it taken away, never above the cap."""
        assert all(2 ** (n - 1) / 2 <= backoff(n, 30) <= 2 ** (n - 1) for n in range(1, 6))
        assert all(15 <= backoff(n, 30) <= 30 for n in (6, 50, 5000))

    @pytest.mark.parametrize("lookup", [Refusal(503, "sealed"), Refusal(400, "bad"), Refusal(500, "oops")])
    def test_t7_refused_renewal_never_spins(
        self, client: VaultClient, vault: FakeVault, clock: FakeClock, lookup: Refusal
    ) -> None:
        """Refused, and no word on whether the token is good: tried again with a pause, not at every look."""
        client.login()
        vault.instead[RENEW] = raising(refuse(403, "permission denied"))
        vault.instead[LOOKUP] = raising(lookup)
        clock.pass_time(48)
        for _ in range(60):
            client.keep_token_alive()
            clock.pass_time(0.1)
        assert vault.count()[RENEW] <= 6

    def test_t7_absurd_retry_after_has_a_limit(self, client: VaultClient, vault: FakeVault, clock: FakeClock) -> None:
        """One bad header does not stop the program for a day."""
        vault.instead[LOGIN] = raising(Refusal(429, "slow down", headers={"Retry-After": "86400"}))
        client.keep_token_alive()
        vault.come_back()
        clock.pass_time(300)
        client.keep_token_alive()
        assert client.logged_in


class TestT8:
    def test_t8_new_login_fetches_new_leases(self, client: VaultClient, vault: FakeVault) -> None:
        """First the login, then the fetch; the old token is not revoked, so its users can drain."""
        old = client.get_database_dynamic_secret("db-demo-dynamic")
        vault.forget()
        client.login()
        new = client.get_database_dynamic_secret("db-demo-dynamic")
        assert vault.asked == [LOGIN, DYNAMIC]
        assert vault.tokens == ["", TOKEN + "2"]
        assert new.data != old.data

    def test_t8_old_credentials_bridge_a_failed_fetch(
        self, client: VaultClient, vault: FakeVault, clock: FakeClock
    ) -> None:
        """They are good until the old token ends, and not a second longer."""
        vault.lease = 3600
        old = client.get_database_dynamic_secret("db-demo-dynamic")
        clock.pass_time(50)
        client.login()
        vault.instead[DYNAMIC] = raising(refuse(500, "the database is down"))
        assert client.get_database_dynamic_secret("db-demo-dynamic").data == old.data
        clock.pass_time(11)
        with pytest.raises(VaultUnavailable):
            client.get_database_dynamic_secret("db-demo-dynamic")

    def test_t8_login_during_a_failing_fetch(self, client: VaultClient, vault: FakeVault, clock: FakeClock) -> None:
        """Within the back-off of a fetch that failed, the credentials that still work are served, login or not."""
        old = client.get_database_dynamic_secret("db-demo-dynamic")
        clock.pass_time(51)
        vault.instead[DYNAMIC] = raising(refuse(500, "the database is down"))
        client.get_database_dynamic_secret("db-demo-dynamic")
        client.login()
        assert client.get_database_dynamic_secret("db-demo-dynamic").data == old.data

    def test_t8_lease_issued_during_a_login(self, client: VaultClient, vault: FakeVault, clock: FakeClock) -> None:
        """Asked for under the old token, answered under the new one: it dies with the old."""

        def log_in_meanwhile() -> object:
            client.login()
            return vault._dynamic()

        vault.lease = 3600
        client.login()
        vault.instead[DYNAMIC] = log_in_meanwhile
        client.get_database_dynamic_secret("db-demo-dynamic")
        vault.go_down()
        clock.pass_time(59)
        client.get_database_dynamic_secret("db-demo-dynamic")
        clock.pass_time(1)
        with pytest.raises(VaultUnavailable):
            client.get_database_dynamic_secret("db-demo-dynamic")

    def test_t8_other_secrets_survive_a_login(self, client: VaultClient, vault: FakeVault) -> None:
        """KV values have no lease: nothing is read again for the new token."""
        client.get_kv_secret("database")
        client.login()
        vault.forget()
        client.get_kv_secret("database")
        assert vault.asked == []

    def test_t8_lost_token_takes_its_leases(self, client: VaultClient, vault: FakeVault, clock: FakeClock) -> None:
        """Vault revokes the leases with the token, so they are not served even though their TTL goes on."""
        vault.lease = 3600
        client.get_database_dynamic_secret("db-demo-dynamic")
        clock.pass_time(61)
        vault.go_down()
        with pytest.raises(VaultUnavailable):
            client.get_database_dynamic_secret("db-demo-dynamic")


class TestT9:
    def test_t9_missing_permission_is_no_login(self, client: VaultClient, vault: FakeVault) -> None:
        """The token is asked about once; the error names the path and the capability."""
        vault.instead[KV_DATA] = raising(refuse(403, "permission denied"))
        with pytest.raises(PermissionDenied, match='"read" on "my-vault-app-kv/data/database"'):
            client.get_kv_secret("database")
        assert vault.asked == [LOGIN, KV_DATA, LOOKUP]

    def test_t9_dead_token_is_a_login(self, client: VaultClient, vault: FakeVault, clock: FakeClock) -> None:
        """Revoked from outside: one login, one retry, and the caller notices nothing."""
        client.get_kv_secret("database")
        vault.dead.add(TOKEN + "1")
        clock.pass_time(5)
        vault.forget()
        assert client.get_kv_secret("database").version == 1
        assert vault.asked == [KV_METADATA, LOOKUP, LOGIN, KV_METADATA]

    def test_t9_forbidden_lookup_makes_no_storm(self, client: VaultClient, vault: FakeVault, clock: FakeClock) -> None:
        """Without lookup-self a missing permission looks like a dead token: a login now and then, not one a read."""
        vault.token_ttl = 0
        vault.instead[KV_DATA] = vault.instead[LOOKUP] = raising(refuse(403, "permission denied"))
        logins = []
        for turn in range(1, 721):
            client.get_database_static_secret("db-demo-static")  # others may well be read
            with pytest.raises(PermissionDenied):
                client.get_kv_secret("database")
            clock.pass_time(5)
            if turn in (1, 12, 720):
                logins.append(vault.logins)
        assert logins[:2] == [2, 2]
        assert logins[2] < 10

    def test_t9_a_bad_spell_is_forgotten(self, client: VaultClient, vault: FakeVault, clock: FakeClock) -> None:
        """A policy that granted nothing for a while: afterwards a dead token is noticed as before."""
        vault.instead[KV_DATA] = vault.instead[LOOKUP] = raising(refuse(403, "permission denied"))
        for _ in range(2):
            with pytest.raises(PermissionDenied):
                client.get_kv_secret("database")
            clock.pass_time(5)
        vault.instead = {}
        client.get_kv_secret("database")
        vault.dead.add(f"{TOKEN}{vault.logins}")
        clock.pass_time(5)
        vault.forget()
        assert client.get_kv_secret("database").version == 1
        assert vault.asked == [KV_METADATA, LOOKUP, LOGIN, KV_METADATA]

    def test_t9_cause_is_named_where_it_was_checked(
        self, client: VaultClient, vault: FakeVault, clock: FakeClock
    ) -> None:
        """That no policy grants it is known of a token that is good; of any other, what the server said."""
        vault.instead[KV_DATA] = raising(refuse(403, "permission denied"))
        with pytest.raises(PermissionDenied, match=r'^permission denied: no policy of this token grants "read" on'):
            client.get_kv_secret("database")
        vault.instead[LOOKUP] = raising(refuse(403, "permission denied"))
        clock.pass_time(5)
        with pytest.raises(PermissionDenied, match=r'^permission denied: "read" on "my-vault-app-kv/data/database"$'):
            client.get_kv_secret("database")

    def test_t9_unanswered_lookup_decides_nothing(self, client: VaultClient, vault: FakeVault) -> None:
        """While Vault cannot say whether the token is good, it is kept."""
        vault.instead[KV_DATA] = raising(refuse(403, "permission denied"))
        vault.instead[LOOKUP] = raising(refuse(503, "Vault is sealed"))
        with pytest.raises(VaultSealed):
            client.get_kv_secret("database")
        assert client.logged_in


def test_x1_close_revokes_what_drains(client: VaultClient, vault: FakeVault, clock: FakeClock) -> None:
    """The token before, too, if it is still alive: nobody drains any more."""
    client.login()
    client.login()
    client.close()
    assert [token for what, token in zip(vault.asked, vault.tokens, strict=True) if what == REVOKE] == [
        TOKEN + "2",
        TOKEN + "1",
    ]


def test_x1_dead_token_keeps_nothing_alive(client: VaultClient, vault: FakeVault) -> None:
    """The one before is revoked though the current one was, behind our back; the end says so."""
    client.login()
    client.login()
    vault.dead.add(TOKEN + "2")
    vault.forget()
    client.close()
    assert vault.asked == [REVOKE, REVOKE]
    assert vault.tokens == [TOKEN + "2", TOKEN + "1"]


def test_t10_child_without_a_session_has_no_token(vault: FakeVault, clock: FakeClock) -> None:
    """Where no session can be made in the child, whoever asks is told; the parent's token is not used."""
    sessions = iter([vault.session()])

    def new_session() -> requests.Session:
        for session in sessions:
            return session
        raise ConfigurationError(["HTTPS_PROXY: found (not shown), expected a proxy"])

    client = VaultClient(VaultConfig.load(environ={"VAULT_SECRET_ID": SECRET_ID}), clock=clock, session=new_session)
    client.login()
    client.start_anew()
    assert not client.logged_in
    with pytest.raises(ConfigurationError):
        client.get_kv_secret("database")


def test_x1_close_revokes_and_forgets(client: VaultClient, vault: FakeVault) -> None:
    """The token is revoked once, however often the client is closed."""
    client.login()
    client.close()
    client.close()
    assert vault.count()[REVOKE] == 1
