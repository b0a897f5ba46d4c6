"""The console: what is written for an event."""

from __future__ import annotations

import dataclasses
import inspect
import io
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

import login_check
import vault_events
from config_loader import VaultConfig
from console import MASK, MOST_BLOCKS, MOST_WAITING, Console, seconds, wants_colour
from lifetime import Moment
from login_check import LoginCheck
from tests.fakes import PASSWORD, SECRET_ID, FakeClock
from vault_errors import VaultUnreachable
from vault_events import (
    Event,
    LoggedIn,
    PrefixChanged,
    PrefixStale,
    SecretChanged,
    SecretRead,
    StaleServed,
    TokenRenewed,
    TurnTaken,
)
from vault_secret import Secret

CLOCK = FakeClock()
KV = Secret("kv_secret", "database", {"api_key": PASSWORD}, version=3, created_time="t")
LEASE = Secret(
    "database_dynamic", "role", {"password": PASSWORD, "username": "v-app"}, lease_id="id",
    expires=Moment.now(CLOCK).after(47.2), clock=CLOCK,
)  # fmt: skip
ERROR = VaultUnreachable("cannot reach Vault")


def console(show: bool = False, colour: bool = False) -> tuple[Console, io.StringIO]:
    stream = io.StringIO()
    environ = {"VAULT_SECRET_ID": SECRET_ID, "CONSOLE_SHOW_SECRETS": str(show).lower()}
    return Console(VaultConfig.load(environ=environ), stream, colour=colour), stream


def written(show: Console, stream: io.StringIO) -> str:
    """All that it wrote in the end."""
    assert show.close()
    return stream.getvalue()


def test_block_of_a_lease() -> None:
    """Heading, outcome and values, the username first; a TTL is rounded up as it counts down."""
    show, stream = console(show=True)
    show(SecretRead(LEASE))
    assert written(show, stream) == (
        "=== Database Dynamic Secret Refresh ===\n"
        "✅ Database Dynamic secret fetch successful (TTL: 48s)\n"
        "🗄️ Database Dynamic Secret (TTL: 48s):\n"
        f"  username: v-app\n  password: {PASSWORD}\n"
    )


@pytest.mark.parametrize(
    ("secret", "fetched", "expected"),
    [
        (KV, True, "✅ KV secret fetch successful (version 3)"),
        (KV, False, "✅ KV secret unchanged (version 3)"),
        (LEASE, False, "✅ Database Dynamic secret from the cache (TTL: 48s)"),
        (dataclasses.replace(KV, stale=True), False, "⚠️ KV secret from the cache, stale"),
    ],
)
def test_outcome_is_true(secret: Secret, fetched: bool, expected: str) -> None:
    """It says whether the value was fetched, confirmed, cached or stale."""
    show, stream = console()
    show(SecretRead(secret) if fetched else TurnTaken("kv_secret", read=0, kept=[secret]))
    assert expected in written(show, stream)


def test_many_secrets_take_a_line() -> None:
    """The first few of a turn are shown, the others are counted, and so are those that stayed as they were."""
    show, stream = console(show=True)
    for number in range(MOST_BLOCKS + 1000):
        show(SecretRead(dataclasses.replace(KV, name=f"team/{number}")))
    show(TurnTaken("kv_secret", read=MOST_BLOCKS + 1000, kept=[KV] * 2000))
    show(SecretRead(KV))
    text = written(show, stream)
    assert text.count("=== KV Secret Refresh ===") == MOST_BLOCKS + 1
    assert "✅ KV: 1,000 more secrets fetched\n✅ KV: 2,000 secrets unchanged\n" in text


def test_blocks_of_a_turn_stand_apart() -> None:
    """A blank line between two secrets that stayed as they were."""
    show, stream = console()
    show(TurnTaken("kv_secret", read=0, kept=[KV, KV]))
    assert "}\n\n=== KV Secret Refresh ===\n" in written(show, stream)


def test_stale_secrets_are_counted() -> None:
    """Among those that stayed as they were."""
    show, stream = console()
    show(TurnTaken("kv_secret", read=0, kept=[KV] * 10 + [dataclasses.replace(KV, stale=True)] * 20))
    assert written(show, stream) == "⚠️ KV: 20 of 30 secrets stale: Vault gives no answer\n"


def test_secrets_are_named_where_there_are_several() -> None:
    """By their path or role; a single one needs no name."""
    environ = {"VAULT_SECRET_ID": SECRET_ID, "KV_SECRET_PATH": "team/*"}
    stream = io.StringIO()
    show = Console(VaultConfig.load(environ=environ), stream, colour=False)
    show(SecretRead(KV))
    show(SecretRead(LEASE))
    text = written(show, stream)
    assert "✅ KV database secret fetch successful (version 3)" in text
    assert "✅ Database Dynamic secret fetch successful" in text


def test_news_of_a_prefix_is_counted() -> None:
    """Paths that came and went, secrets that serve an outage; of many changes the first few."""
    show, stream = console()
    show(PrefixChanged("team/*", came={"team/d"}, went={"team/b", "team/c"}))
    show(PrefixStale("team/*", 10_000, ERROR, 2.0))
    for _ in range(MOST_BLOCKS + 1000):
        show(SecretChanged(dataclasses.replace(KV, version=4), KV))
    first, second, *changes = written(show, stream).splitlines()
    assert first == "🔁 KV team/*: 1 came, 2 went"
    assert second == "⏳ KV team/* not refreshed: cannot reach Vault; 10,000 cached secrets serve on"
    assert len(changes) == MOST_BLOCKS


def test_login_is_told_in_the_block() -> None:
    """Who the database takes us for, or why it does not let us in; masked as the rest is."""
    read = SecretRead(LEASE, database_user="v-approle-1")
    refused = SecretRead(LEASE, login_error="password authentication failed")
    for event, show, expected in (
        (read, True, "👤 The database takes us for v-approle-1"),
        (read, False, "👤 The database takes us for ********"),
        (refused, False, "❌ No login to the database: password authentication failed"),
    ):
        shown, stream = console(show=show)
        shown(event)
        assert written(shown, stream).splitlines()[-1] == expected
    assert "v-approle-1" not in repr(read)


def test_login_to_a_silent_database_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that lets us in and then says nothing holds up no worker."""
    heard: list[Event] = []
    ended = threading.Event()
    monkeypatch.setattr(login_check, "TIMEOUT_SECONDS", 0.1)
    monkeypatch.setattr(login_check, "checked_by_login", lambda event: ended.wait(30) and event)
    LoginCheck(heard.append)(SecretRead(LEASE))
    ended.set()
    assert [event.login_error for event in heard if isinstance(event, SecretRead)] == ["no answer within 0.1 s"]


def test_p1_masks_betray_nothing() -> None:
    """With values hidden, a long and a short one look the same."""
    show, stream = console()
    show(SecretRead(KV))
    show(SecretRead(LEASE))
    assert PASSWORD not in written(show, stream)
    assert written(show, stream).count(MASK) == 3


@pytest.mark.parametrize("kind", [kind for kind in vars(vault_events).values() if kind in Event.__subclasses__()])
def test_every_event_has_words(kind: type[Event]) -> None:
    """No event is forgotten: each has a text of its own."""
    words = inspect.getattr_static(Console, "_text").dispatcher
    assert words.dispatch(kind) is not words.dispatch(Event)


@pytest.mark.parametrize("event", [TokenRenewed(60, last=False), LoggedIn(2, 60), StaleServed(KV, ERROR, 2.0)])
def test_news_is_one_line(event: Event) -> None:
    """What happens between the blocks takes one line each."""
    show, stream = console()
    show(event)
    assert written(show, stream).count("\n") == 1


def test_change_names_both_versions() -> None:
    """A new KV version says which it replaces."""
    show, stream = console()
    show(SecretChanged(dataclasses.replace(KV, version=4), KV))
    assert "version 3 → 4" in written(show, stream)


def test_blocks_are_never_garbled() -> None:
    """One event is one write, and every block arrives whole, however many threads announce."""
    writes: list[str] = []
    show, stream = console()
    stream.write = lambda text: writes.append(text) or len(text)  # type: ignore[method-assign,func-returns-value]
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda _: show(TurnTaken("kv_secret", read=0, kept=[KV])), range(200)))
    assert show.close()
    assert len(writes) == 200
    assert len({text.strip() for text in writes}) == 1


def test_closed_stream_is_told() -> None:
    """Nobody reads any more (`| head`): the console says so instead of failing for ever."""
    show, stream = console()
    stream.write = lambda _: (_ for _ in ()).throw(BrokenPipeError())  # type: ignore[method-assign]
    told: list[bool] = []
    show.on_closed = lambda: told.append(True)
    show(TokenRenewed(60, last=False))
    assert show.close()
    assert told


def test_stopped_terminal_stops_nobody() -> None:
    """Whoever announces goes on at once; what waits is bounded; closing says that it was not all written."""
    show, stream = console()
    released = threading.Event()
    stream.write = lambda _: released.wait(20) and 0  # type: ignore[method-assign]
    for _ in range(2 * MOST_WAITING):
        show(TokenRenewed(60, last=False))
    assert show._texts.qsize() <= MOST_WAITING
    assert not show.close()
    released.set()


def test_secret_cannot_steer_the_terminal() -> None:
    """Escape sequences in a value are made harmless."""
    show, stream = console(show=True)
    show(SecretRead(dataclasses.replace(KV, data={"k": "\x1b[2J"})))
    show(SecretRead(dataclasses.replace(LEASE, data={"password": "\x1b[2J"})))
    assert "\x1b" not in written(show, stream)


def test_colour_is_for_terminals(monkeypatch: pytest.MonkeyPatch) -> None:
    """Never into a file, and never where NO_COLOR is set."""
    terminal = io.StringIO()
    terminal.isatty = lambda: True  # type: ignore[method-assign]
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert wants_colour(terminal)
    assert not wants_colour(io.StringIO())
    monkeypatch.setenv("NO_COLOR", "1")
    assert not wants_colour(terminal)


def test_endless_ttl_is_said() -> None:
    """A token that does not expire has no number of seconds."""
    assert seconds(float("inf")) == "no end"
