"""The doors of the client for those who need more: any request, any mount, what is fresh, and the news."""

from __future__ import annotations

import threading

import pytest

from tests.fakes import DYNAMIC, KV_DATA, KV_METADATA, LOGIN, LOOKUP, TOKEN, FakeClock, FakeVault, Refusal
from tests.unit.conftest import ClientFactory
from tests.unit.test_token_rules import raising
from vault_client import VaultClient
from vaultkit.engines.cache import MOST_IDLE_NAMES
from vaultkit.errors import ClientClosed, SecretNotFound, UnexpectedResponse
from vaultkit.events import Event, LoggedIn, SecretChanged

TRANSIT = "POST transit/encrypt/key"


def encrypt(client: VaultClient) -> str:
    answer = client.ask(lambda api: api.secrets.transit.encrypt_data("key", "aGVsbG8="))
    return str(answer["data"]["ciphertext"])


@pytest.fixture
def transit(vault: FakeVault) -> None:
    vault.instead[TRANSIT] = lambda: {"data": {"ciphertext": f"vault:v1:{vault.logins}"}}


@pytest.mark.usefixtures("transit")
class TestAsk:
    def test_any_request_has_a_valid_token(self, client: VaultClient, vault: FakeVault) -> None:
        """It logs in when it first must, and hands out what Vault answered."""
        assert encrypt(client) == "vault:v1:1"
        assert (vault.asked, vault.tokens[-1]) == ([LOGIN, TRANSIT], TOKEN + "1")

    def test_what_it_causes_is_delivered(self, client: VaultClient, events: list[Event]) -> None:
        """At once, and not with the next read."""
        encrypt(client)
        assert [type(event) for event in events] == [LoggedIn]

    def test_t9_dead_token_is_a_login(self, client: VaultClient, vault: FakeVault) -> None:
        """As with any other request: one login, one retry."""
        encrypt(client)
        answer = vault.instead.pop(TRANSIT)
        vault.dead.add(TOKEN + "1")
        vault.instead[TRANSIT] = lambda: answer() if vault.logins == 2 else raising(Refusal(403, "permission denied"))()
        assert encrypt(client) == "vault:v1:2"
        assert vault.asked[2:] == [TRANSIT, LOOKUP, LOGIN, TRANSIT]

    def test_closed_client_says_so(self, client: VaultClient) -> None:
        """Like every other call."""
        client.close()
        with pytest.raises(ClientClosed):
            encrypt(client)


def test_mount_may_be_any(make_client: ClientFactory, vault: FakeVault) -> None:
    """Where the engine is mounted otherwise than the entity is called; each section says so for itself."""
    facts = {"version": 1, "created_time": vault.created}
    vault.instead["GET secret/shop/data/db"] = lambda: {"data": {"data": {"k": "v"}, "metadata": facts}}
    client = make_client(KV_SECRET_MOUNT="secret/shop")
    assert client.get_kv_secret("db").data == {"k": "v"}
    assert client.engines["database_static"].mount == "my-vault-app-database"


class TestPeek:
    def test_only_what_is_fresh_is_seen(self, client: VaultClient, vault: FakeVault, clock: FakeClock) -> None:
        """Nothing before the first read, nothing when it is due, and never a request."""
        assert client.peek("database") is None
        secret = client.get_kv_secret("database")
        vault.forget()
        assert client.peek("database") is secret
        clock.pass_time(5)
        assert client.peek("database") is None
        assert vault.asked == []

    def test_other_engines_have_it_too(self, client: VaultClient) -> None:
        """By their section."""
        lease = client.get_database_dynamic_secret("db-demo-dynamic")
        assert client.peek("db-demo-dynamic", "database_dynamic") is lease

    def test_it_waits_for_no_lock(self, client: VaultClient) -> None:
        """An event loop may call it in the middle of anybody's refresh."""
        client.get_kv_secret("database")
        engine = client.engines["kv_secret"]
        with engine._lock, engine._flights["database"].lock:
            seen: list[object] = []
            thread = threading.Thread(target=lambda: seen.append(client.peek("database")))
            thread.start()
            thread.join(5)
        assert seen == [client.get_kv_secret("database")]


class TestListen:
    def test_listener_may_join_and_leave(self, client: VaultClient, vault: FakeVault, clock: FakeClock) -> None:
        """It hears what happens in between, and may leave twice."""
        heard: list[Event] = []
        client.get_kv_secret("database")
        leave = client.listen(heard.append)
        vault.version = 2
        clock.pass_time(5)
        client.get_kv_secret("database")
        leave()
        leave()
        vault.version = 3
        clock.pass_time(5)
        client.get_kv_secret("database")
        assert [event.secret.version for event in heard if isinstance(event, SecretChanged)] == [2]

    def test_who_listens_twice_leaves_twice(self, client: VaultClient) -> None:
        """To leave takes back one joining, however often it is called."""
        heard: list[Event] = []
        leave = client.listen(heard.append)
        client.listen(heard.append)
        leave()
        leave()
        client.login()
        assert [type(event) for event in heard] == [LoggedIn]

    def test_listener_may_leave_as_it_hears(self, client: VaultClient) -> None:
        """The others hear it all the same."""
        heard: list[str] = []

        def hear_once(_: Event) -> None:
            heard.append("once")
            leave()

        leave = client.listen(hear_once)
        client.listen(lambda _: heard.append("always"))
        client.get_kv_secret("database")
        assert heard == ["once", "always", "always"]


class TestBounds:
    def test_c1_wrong_names_leave_nothing(self, client: VaultClient, vault: FakeVault) -> None:
        """However many there were, so many are remembered at most; what is cached stays."""
        secret = client.get_kv_secret("database")
        for number in range(MOST_IDLE_NAMES + 1):
            with pytest.raises(SecretNotFound):
                client.get_kv_secret(f"nowhere/{number}")
        engine = client.engines["kv_secret"]
        assert len(engine._flights) <= MOST_IDLE_NAMES + 1
        assert client.peek("database") is secret

    def test_d3_lease_in_vain_is_remembered(self, client: VaultClient, vault: FakeVault) -> None:
        """Whatever else is asked for meanwhile: it would cost another lease."""
        vault.instead[DYNAMIC] = lambda: {"lease_id": "creds/1", "lease_duration": 60, "data": "nonsense"}
        for _ in range(2):
            with pytest.raises(UnexpectedResponse):
                client.get_database_dynamic_secret("db-demo-dynamic")
            for number in range(MOST_IDLE_NAMES + 1):
                with pytest.raises(SecretNotFound):
                    client.get_database_dynamic_secret(f"nobody-{number}")
        assert vault.count()[DYNAMIC] == 1

    def test_c1_revision_never_counts_backwards(self, client: VaultClient, vault: FakeVault, clock: FakeClock) -> None:
        """Even of a secret that was forgotten meanwhile: pools compare it."""
        client.get_kv_secret("database")
        vault.version = 2
        clock.pass_time(5)
        seen = client.get_kv_secret("database").revision
        clock.pass_time(2 * 3600)
        for number in range(MOST_IDLE_NAMES + 1):
            with pytest.raises(SecretNotFound):
                client.get_kv_secret(f"nowhere/{number}")
        assert "database" not in client.engines["kv_secret"]._flights
        assert client.get_kv_secret("database").revision > seen

    def test_c1_refused_name_keeps_its_pause(self, client: VaultClient, vault: FakeVault) -> None:
        """Among few names none is forgotten: whoever asks again at once costs no request."""
        for _ in range(3):
            with pytest.raises(SecretNotFound):
                client.get_kv_secret("nowhere")
        assert vault.asked == [LOGIN, "GET my-vault-app-kv/data/nowhere"]
        assert vault.count()[KV_DATA] == vault.count()[KV_METADATA] == 0
