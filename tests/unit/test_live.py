"""The live page: what the application tells of itself, and what is kept of it."""

from __future__ import annotations

import json
import os
import threading
import time
from typing import Any

import pytest

from config_loader import VaultConfig
from live.board import MOST_RECENT, Board
from live.feed import MASK, MOST_SECRETS, Feed
from live.health import state_of
from live.outbox import MOST_WAITING, Outbox
from live.page import PAGE
from live.words import told
from tests.fakes import PASSWORD, ROLE_ID, SECRET_ID, TOKEN, FakeVault
from tests.integration.conftest import eventually
from tests.unit.conftest import ClientFactory
from vault_client import VaultClient
from vaultkit import events as all_events
from vaultkit.errors import SecretDeleted, UnexpectedResponse, VaultTimeout, VaultUnreachable
from vaultkit.events import Event, Health, PrefixChanged, TokenLost, Trouble, TurnFailed, TurnTaken
from vaultkit.secret import Secret

CONFIG = VaultConfig.load(environ={"VAULT_ROLE_ID": ROLE_ID, "VAULT_SECRET_ID": SECRET_ID})
SHOWING = VaultConfig.load(
    environ={"VAULT_ROLE_ID": ROLE_ID, "VAULT_SECRET_ID": SECRET_ID, "CONSOLE_SHOW_SECRETS": "true"}
)


# ── The feed ──────────────────────────────────────────────────────────────────────────────────────────────────────────


class Fed:
    """A client on a fake Vault, whose events go to a feed."""

    def __init__(self, client: VaultClient, config: VaultConfig) -> None:
        self.client = client
        self.sent: list[dict[str, Any]] = []
        self.feed = Feed(config, lambda message: self.sent.append(json.loads(json.dumps(message))))
        self.feed.follow(client)
        client.listen(self.feed)

    def snapshot(self) -> dict[str, Any]:
        self.feed.tell()
        return self.sent[-1]

    def secret(self, engine: str) -> dict[str, Any]:
        return next(secret for secret in self.snapshot()["secrets"] if secret["engine"] == engine)

    def happened(self) -> list[str]:
        return [message["kind"] for message in self.sent if message["type"] == "happened"]


@pytest.fixture
def fed(make_client: ClientFactory) -> Fed:
    return Fed(make_client(), CONFIG)


def read_all(client: VaultClient) -> None:
    client.get_kv_secret("database")
    client.get_database_dynamic_secret("db-demo-dynamic")
    client.get_database_static_secret("db-demo-static")


def test_secrets_that_are_not_told_are_counted(fed: Fed) -> None:
    """Of a long prefix fifty are told, and how many there are beyond."""
    came = [Secret(engine="kv_secret", name=f"team/{number}", data={}) for number in range(MOST_SECRETS + 2)]
    fed.feed(TurnTaken("kv_secret", 0, came))
    snapshot = fed.snapshot()
    assert (len(snapshot["secrets"]), snapshot["secrets_beyond"]) == (MOST_SECRETS, 2)
    board = Board("http://vault")
    board.heard(snapshot)
    assert board.state()["secrets_beyond"] == 2


def test_values_leave_the_process_masked(fed: Fed) -> None:
    """P1: neither a value, a username, a token nor a secret_id; the mask tells no length."""
    read_all(fed.client)
    assert {value for secret in fed.snapshot()["secrets"] for value in secret["values"].values()} == {MASK}
    said = json.dumps(fed.sent)
    assert not [secret for secret in (PASSWORD, SECRET_ID, TOKEN, "v-approle") if secret in said]


def test_values_are_shown_where_that_is_wanted(make_client: ClientFactory) -> None:
    """[console] show_secrets."""
    fed = Fed(make_client(), SHOWING)
    read_all(fed.client)
    assert fed.snapshot()["show_secrets"] is True
    assert fed.secret("database_static")["values"]["password"].startswith(PASSWORD)


def test_telling_asks_vault_for_nothing(fed: Fed, vault: FakeVault, clock: Any) -> None:
    """Neither for a secret that is due, nor for a token that has run out."""
    read_all(fed.client)
    clock.pass_time(10_000)
    asked = vault.count().total()
    fed.snapshot()
    assert vault.count().total() == asked


def test_nothing_is_told_of_what_is_not_held(fed: Fed) -> None:
    assert fed.snapshot()["secrets"] == []


def test_refusal_takes_the_value(fed: Fed) -> None:
    """K3: what Vault says is gone, is gone from the page; K4: where it says nothing, it stays."""
    read_all(fed.client)
    fed.client.engines["kv_secret"].clear()
    fed.feed(TurnFailed("kv-secret", VaultTimeout("no answer")))
    assert (fed.secret("kv_secret")["error"], set(fed.secret("kv_secret")["values"])) != (None, set())
    fed.feed(TurnFailed("kv-secret", SecretDeleted("deleted")))
    assert (fed.secret("kv_secret")["error"], fed.secret("kv_secret")["values"]) == ("deleted", {})


def test_lease_ends_with_its_token(fed: Fed) -> None:
    """T8: the credentials of a dead token are told of as such, a static password is not."""
    read_all(fed.client)
    for engine in fed.client.engines.values():
        engine.clear()
    fed.feed(TokenLost("Vault does not accept it any more"))
    assert "ended with the token" in fed.secret("database_dynamic")["error"]
    assert fed.secret("database_static")["error"] is None
    assert fed.snapshot()["token"]["state"] == "none"


def test_what_went_from_a_prefix_goes_from_the_page(fed: Fed) -> None:
    """K5: it would look fresh for ever."""
    read_all(fed.client)
    fed.client.engines["kv_secret"].clear()
    fed.feed(PrefixChanged("data*", frozenset(), frozenset({"database"})))
    assert "kv_secret" not in {secret["engine"] for secret in fed.snapshot()["secrets"]}


def test_token_is_told_from_before_the_request(fed: Fed) -> None:
    """T1, T3: what is left of it, what was granted, and which login it is of."""
    fed.client.login()
    token = fed.snapshot()["token"]
    assert (token["state"], token["generation"], token["renewed"]) == ("valid", 1, 0)
    assert 0 < token["ttl"] <= token["granted"]
    fed.client.renew_token()
    assert fed.snapshot()["token"]["renewed"] == 1


def test_turns_are_told_of(fed: Fed) -> None:
    """A worker waits until its next turn, and is then in it."""
    read_all(fed.client)
    worker = threading.Event()
    thread = threading.Thread(target=worker.wait, name="kv-secret", daemon=True)
    thread.start()
    try:
        fed.feed(TurnTaken("kv_secret", read=1, kept=[]))
        facts = next(each for each in fed.snapshot()["threads"] if each["name"] == "kv-secret")
        assert facts["doing"].startswith("waits ")
        assert 0 < facts["next"] <= CONFIG.kv_secret.refresh_interval
    finally:
        worker.set()
        thread.join()


def test_same_words_are_told_once(fed: Fed) -> None:
    """An outage in which a worker fails ten times a second is one line."""
    for _ in range(10):
        fed.feed(TurnFailed("kv-secret", VaultTimeout("no answer")))
    fed.feed(TurnFailed("kv-secret", VaultTimeout("no answer of another kind")))
    assert fed.happened() == ["TurnFailed", "TurnFailed"]


QUIET = {"Event", "Trouble", "SecretRead", "TurnTaken"}
"""Two that are no events by themselves, and two that come all the time."""


@pytest.mark.parametrize("event", sorted(set(dir(all_events)) - QUIET))
def test_every_event_has_words(event: str) -> None:
    """A new one wants a line; it is found by its type."""
    kind = getattr(all_events, event)
    if isinstance(kind, type) and issubclass(kind, Event):
        assert told.dispatch(kind) is not told.dispatch(Trouble)


# ── The outbox ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_outbox_waits_for_nobody() -> None:
    """A reader that has stopped reading costs the application neither time nor memory: the oldest are dropped."""
    reading, writing = os.pipe()
    outbox = Outbox(writing)
    try:
        began = time.monotonic()
        for number in range(20 * MOST_WAITING):
            outbox.put({"number": number, "filling": "x" * 100})
        assert time.monotonic() - began < 10  # a reader that is waited for is waited for until pytest gives up
        assert len(outbox._waiting) <= MOST_WAITING
    finally:
        os.close(reading)
        outbox.close()


def test_outbox_outlives_its_reader() -> None:
    """The page is gone, and the application goes on."""
    reading, writing = os.pipe()
    outbox = Outbox(writing)
    os.close(reading)
    outbox.put({"a": 1})
    eventually(lambda: not outbox._sender.is_alive())
    outbox.put({"b": 2})
    outbox.close()


def test_outbox_sends_its_last_words() -> None:
    reading, writing = os.pipe()
    outbox = Outbox(writing)
    for number in range(100):
        outbox.put({"number": number})
    outbox.close()
    with open(reading, encoding="utf-8") as pipe:
        assert [json.loads(line)["number"] for line in pipe] == list(range(100))


# ── The board ─────────────────────────────────────────────────────────────────────────────────────────────────────────

SNAPSHOT: dict[str, Any] = {
    "type": "snapshot",
    "show_secrets": False,
    "token": {"state": "valid", "generation": 1, "ttl": 20.0, "granted": 20.0, "renewed": 0},
    "secrets": [],
    "threads": [],
    "pool": None,
}


def test_past_is_told_as_such() -> None:
    """Of a process that has ended, or has not said anything yet: what the one before it said, marked."""
    board = Board("http://vault")
    assert board.state()["application"]["past"] is True
    board.started(1)
    board.heard(SNAPSHOT)
    assert board.state()["application"] | {"since": 0, "heard": 0} == {
        "running": True, "pid": 1, "since": 0, "starts": 1, "past": False, "heard": 0,
    }  # fmt: skip
    board.ended(-9, meant=True)
    assert (board.state()["application"]["running"], board.state()["application"]["past"]) == (False, True)
    board.started(2)
    state = board.state()
    assert (state["application"]["past"], state["application"]["starts"], state["token"]["ttl"]) == (True, 2, 20.0)
    board.heard(SNAPSHOT)
    assert board.state()["application"]["past"] is False


def test_end_by_a_signal_is_told_as_such() -> None:
    board = Board("http://vault")
    for status in (-9, 2):
        board.started(1)
        board.ended(status, meant=False)
    said = [message.data["text"] for message in board.recent() if message.data["kind"] == "ApplicationEnded"]
    assert said == ["The application was ended by signal 9", "The application has ended with status 2"]


@pytest.mark.parametrize(("told", "rule"), [("T7", "T7"), ("C2", None)])
def test_t7_is_the_cause_where_it_was_told(told: str, rule: str | None) -> None:
    """Status 1 has other causes, too (E1); and the next process has its own."""
    board = Board("http://vault")
    board.started(1)
    board.heard({"type": "happened", "at": 0, "kind": "TurnFailed", "level": "warning", "text": "", "rule": told})
    board.ended(1, meant=False)
    assert board.recent()[-1].data["rule"] == rule
    board.started(2)
    board.ended(1, meant=False)
    assert board.recent()[-1].data["rule"] is None


def test_silence_is_the_past(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that hangs, or is stopped, says nothing; its TTLs are not counted on."""
    board = Board("http://vault")
    board.started(1)
    board.heard(SNAPSHOT)
    heard = board.state()["application"]["heard"]
    monkeypatch.setattr(time, "time", lambda: heard + 1)
    assert board.state()["token"]["ttl"] == 19.0
    monkeypatch.setattr(time, "time", lambda: heard + 10)
    assert (board.state()["application"]["past"], board.state()["token"]["ttl"]) == (True, 20.0)


@pytest.mark.parametrize(
    ("said", "state"),
    [
        (Health(initialized=True, sealed=False, standby=False, version="2.7.2"), "active"),
        (Health(initialized=True, sealed=False, standby=True, version="2.7.2"), "standby"),
        (Health(initialized=True, sealed=True, standby=True, version="2.7.2"), "sealed"),
        (VaultTimeout("no answer"), "hangs"),
        (VaultUnreachable("no connection"), "away"),
        (UnexpectedResponse("a web page"), "unusable"),
    ],
)
def test_server_is_called_what_it_is(
    make_client: ClientFactory, monkeypatch: pytest.MonkeyPatch, said: Health | Exception, state: str
) -> None:
    """E1: a standby is not the active one, and an answer that makes no sense came over a connection."""

    def answer() -> Health:
        if isinstance(said, Exception):
            raise said
        return said

    client = make_client()
    monkeypatch.setattr(client, "health_check", answer)
    board = Board("http://vault")
    board.vault_is(*state_of(client))
    assert board.state()["vault"]["state"] == state
    assert f'{state}: ["' in PAGE.read_text(encoding="utf-8")  # the page has a word for it


def test_late_comers_hear_the_last_of_it() -> None:
    board = Board("http://vault")
    for number in range(2 * MOST_RECENT):
        board.happened("Kind", str(number))
        board.requested({"ours": True, "kind": "kv"})
    recent = board.recent()
    assert [message.event for message in recent].count("happened") == MOST_RECENT
    assert recent[0].data["id"] == MOST_RECENT + 1
