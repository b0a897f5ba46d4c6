"""The console: what is written for an event."""

from __future__ import annotations

import dataclasses
import errno
import inspect
import io
import os
import re
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue

import pytest

from config_loader import VaultConfig
from listeners import login_check
from listeners.console import MASK, MOST_BLOCKS, Console
from listeners.login_check import LoginCheck
from listeners.screen import ERASE_LINE, MOST_WAITING, can_overwrite, wants_colour
from listeners.words import seconds
from tests.fakes import PASSWORD, SECRET_ID, FakeClock
from vaultkit.announcer import Announcer
from vaultkit.errors import VaultUnreachable
from vaultkit.events import (
    DatabaseLoginChecked,
    Event,
    LeaseRenewed,
    LoggedIn,
    NoLeaseRenewal,
    PrefixChanged,
    PrefixStale,
    SecretChanged,
    SecretRead,
    StaleServed,
    TokenRenewed,
    Trouble,
    TurnFailed,
    TurnTaken,
)
from vaultkit.lifetime import Moment
from vaultkit.secret import Secret

CLOCK = FakeClock()
KINDS = [kind for kind in (*Event.__subclasses__(), *Trouble.__subclasses__()) if kind is not Trouble]
KV = Secret("kv_secret", "database", {"api_key": PASSWORD}, version=3, created_time="t")
LEASE = Secret(
    "database_dynamic", "role", {"password": PASSWORD, "username": "v-app"}, lease_id="id",
    expires=Moment.now(CLOCK).after(47.2), clock=CLOCK,
)  # fmt: skip
ERROR = VaultUnreachable("cannot reach Vault")
LET_IN = DatabaseLoginChecked(LEASE, user="v-approle-1", error=None)


STATIC = dataclasses.replace(
    LEASE, engine="database_static", lease_id=None, last_rotation="t", expires=Moment.now(CLOCK).after(17)
)


def console(show: bool = False, in_place: bool = False) -> tuple[Console, io.StringIO]:
    stream = io.StringIO()
    environ = {
        "VAULT_SECRET_ID": SECRET_ID,
        "CONSOLE_SHOW_SECRETS": str(show).lower(),
        "KV_SECRET_REFRESH_INTERVAL": "3600",  # the shortest: nothing new is told once
        "DATABASE_DYNAMIC_REFRESH_INTERVAL": "3600",
        "DATABASE_STATIC_REFRESH_INTERVAL": "3600",
    }
    return Console(VaultConfig.load(environ=environ), stream, colour=False, in_place=in_place), stream


def written(show: Console, stream: io.StringIO) -> str:
    """All that it wrote in the end, without the time of day."""
    assert show.screen.close()
    return re.sub(r"\b\d\d:\d\d:\d\d ", "", stream.getvalue())


def kept(secret: Secret) -> TurnTaken:
    return TurnTaken(secret.engine, read=0, kept=[secret])


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


def test_each_event_has_its_time() -> None:
    """On its first line, whether it takes one or several."""
    show, stream = console()
    show.banner()
    show(SecretRead(KV))
    show(TokenRenewed(60, last=False))
    assert show.screen.close()
    assert len(re.findall(r"^\d\d:\d\d:\d\d (?:🚀|=== KV|🔑) ", stream.getvalue(), flags=re.MULTILINE)) == 3


@pytest.mark.parametrize(
    ("turn", "expected"),
    [
        (kept(KV), "✅ KV secret unchanged (version 3)\n"),
        (kept(LEASE), "✅ dynamic TTL 48s\n"),
        (kept(dataclasses.replace(KV, stale=True)), "⚠️ KV secret stale (version 3)\n"),
        (kept(dataclasses.replace(STATIC, stale=True)), "⚠️ static TTL 17s (stale)\n"),
        (TurnTaken("database_dynamic", read=0, kept=[LEASE, STATIC, LEASE]), "✅ dynamic TTL 17s to 48s\n"),
        (TurnTaken("kv_secret", read=0, kept=[KV] * 2000), "✅ KV: 2,000 secrets unchanged\n"),
        (
            TurnTaken("kv_secret", read=0, kept=[KV] * 10 + [dataclasses.replace(KV, stale=True)] * 20),
            "⚠️ KV: 20 of 30 secrets stale\n",
        ),
    ],
)
def test_nothing_new_is_a_true_line(turn: TurnTaken, expected: str) -> None:
    """It says whether the value was confirmed, is stale, or how long it is good for; of several what holds for all."""
    show, stream = console()
    show(turn)
    assert written(show, stream) == expected


def test_turns_of_all_share_a_line() -> None:
    """Each engine's turn comes at about the same time; the next line comes an interval later."""
    show, stream = console()
    for turn in (kept(LEASE), kept(STATIC), kept(KV)):
        show(turn)
    show._next_line = 0.0  # an interval is over
    show(kept(LEASE))
    told = written(show, stream).splitlines()
    assert told == ["✅ dynamic TTL 48s", "✅ KV secret unchanged (version 3), dynamic TTL 48s, static TTL 17s"]


def test_new_secret_is_the_one_held() -> None:
    """The line never counts down a lease that has been replaced."""
    show, stream = console()
    show(SecretRead(LEASE))
    show(TurnTaken("database_dynamic", read=1, kept=[]))
    show(SecretRead(dataclasses.replace(LEASE, expires=Moment.now(CLOCK).after(60))))
    show(TurnTaken("database_dynamic", read=1, kept=[]))
    show(kept(KV))
    assert written(show, stream).endswith("✅ KV secret unchanged (version 3), dynamic TTL 60s\n")


def test_failed_secret_is_not_unchanged() -> None:
    """What a turn could not read is told as such, and then no longer counted among what is held."""
    show, stream = console()
    show(kept(KV))
    show(TurnFailed("kv-secret", ERROR))
    show._next_line = 0.0
    show(kept(LEASE))
    assert written(show, stream).splitlines()[1:] == ["❌ kv-secret: cannot reach Vault", "✅ dynamic TTL 48s"]


def test_nothing_new_scrolls_nothing_away() -> None:
    """On a terminal the line is replaced, by the next such line as by what happens."""
    show, stream = console(in_place=True)
    for event in (TokenRenewed(60, last=False), kept(KV), TokenRenewed(59, last=False), TokenRenewed(58, last=False)):
        show(event)
    assert show.screen.close()
    rows = stream.getvalue().split("\n")
    assert rows[1].rpartition(ERASE_LINE)[2].endswith("🔑 Token renewed (TTL: 59s)")
    assert [row.count(ERASE_LINE) for row in rows] == [0, 1, 0, 0]
    assert "KV secret unchanged" in rows[1]


def test_many_secrets_are_counted() -> None:
    """The first few of a turn are shown, the others are counted; the next turn shows its first few again."""
    show, stream = console(show=True)
    for number in range(MOST_BLOCKS + 1000):
        show(SecretRead(dataclasses.replace(KV, name=f"team/{number}")))
    show(TurnTaken("kv_secret", read=MOST_BLOCKS + 1000, kept=[]))
    show(SecretRead(KV))
    text = written(show, stream)
    assert text.count("=== KV Secret Refresh ===") == MOST_BLOCKS + 1
    assert "✅ KV: 1,000 more secrets fetched\n" in text


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


def test_login_is_told_after_the_block() -> None:
    """Who the database takes us for, or why it does not let us in; masked as the rest is."""
    refused = DatabaseLoginChecked(LEASE, user=None, error="password authentication failed")
    for event, show, expected in (
        (LET_IN, True, "👤 The database takes us for v-approle-1"),
        (LET_IN, False, "👤 The database takes us for ********"),
        (refused, False, "❌ No login to the database: password authentication failed"),
    ):
        shown, stream = console(show=show)
        shown(SecretRead(LEASE))
        shown(event)
        assert written(shown, stream).splitlines()[-1] == expected
    assert "v-approle-1" not in repr(LET_IN)


def test_login_names_one_of_several_roles() -> None:
    """Where config.ini names several, a masked user does not tell which."""
    environ = {"VAULT_SECRET_ID": SECRET_ID, "DATABASE_DYNAMIC_ROLE_ID": "role, other"}
    stream = io.StringIO()
    show = Console(VaultConfig.load(environ=environ), stream, colour=False)
    show(LET_IN)
    assert written(show, stream) == "👤 The database takes us for ******** (role)\n"


def test_unknown_engine_has_neutral_words() -> None:
    """A secret of an engine that is not in the list is shown all the same, under its section's name."""
    secret = dataclasses.replace(KV, engine="totp")
    show, stream = console()
    for event in (SecretRead(secret), SecretChanged(secret, KV), TurnTaken("totp", read=1, kept=[]), kept(secret)):
        show(event)
    text = written(show, stream)
    assert "=== totp Secret Refresh ===\n" in text
    assert "🔁 totp database secret changed\n" in text
    assert text.endswith("✅ totp secret unchanged (version 3)\n")


@pytest.fixture
def silent_database(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """A stand-in for a database that lets us in and then says nothing until the event is set."""
    answers = threading.Event()
    monkeypatch.setattr(login_check, "TIMEOUT_SECONDS", 0.1)
    monkeypatch.setattr(login_check, "checked_by_login", lambda _: answers.wait(30) and LET_IN)
    yield answers
    answers.set()


@pytest.mark.usefixtures("silent_database")
@pytest.mark.parametrize("wait", [True, False])
def test_login_to_a_silent_database_is_bounded(wait: bool) -> None:
    """It is told as no answer, whether somebody waits for it or not."""
    heard: SimpleQueue[Event] = SimpleQueue()
    LoginCheck(Announcer([heard.put]), wait=wait)(SecretRead(LEASE))
    assert heard.get(timeout=20) == DatabaseLoginChecked(LEASE, None, "no answer within 0.1 s")


def test_login_check_holds_up_no_worker(silent_database: threading.Event, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever announces new credentials goes on before the database has said anything."""
    heard: SimpleQueue[Event] = SimpleQueue()
    monkeypatch.setattr(login_check, "TIMEOUT_SECONDS", 10)
    LoginCheck(Announcer([heard.put]))(SecretRead(LEASE))
    assert heard.empty()
    silent_database.set()
    assert heard.get(timeout=20) == LET_IN


@pytest.mark.parametrize("secret", [KV, STATIC, dataclasses.replace(KV, lease_id="id")])
def test_only_dynamic_credentials_are_checked(secret: Secret, monkeypatch: pytest.MonkeyPatch) -> None:
    """By their engine: what else may come with a lease is no login to a database."""
    asked: list[Secret] = []
    monkeypatch.setattr(login_check, "checked_by_login", asked.append)
    LoginCheck(Announcer(), wait=True)(SecretRead(secret))
    assert asked == []


def test_p1_masks_betray_nothing() -> None:
    """With values hidden, a long and a short one look the same."""
    show, stream = console()
    show(SecretRead(KV))
    show(SecretRead(LEASE))
    assert PASSWORD not in written(show, stream)
    assert written(show, stream).count(MASK) == 3


@pytest.mark.parametrize("kind", KINDS)
def test_every_event_has_words(kind: type[Event]) -> None:
    """No event is forgotten: each has a text of its own."""
    words = inspect.getattr_static(Console, "_words").dispatcher
    assert words.dispatch(kind) is not words.dispatch(Event)


@pytest.mark.parametrize(
    "event",
    [
        TokenRenewed(60, last=False),
        LoggedIn(2, 60),
        StaleServed(KV, ERROR, 2.0),
        LeaseRenewed(LEASE, last=True),
        NoLeaseRenewal(ERROR),
    ],
)
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
        list(pool.map(lambda _: show(LoggedIn(1, 60)), range(200)))
    assert show.screen.close()
    assert len(writes) == 200
    assert len({text.strip().partition(" ")[2] for text in writes}) == 1


@pytest.mark.parametrize(
    ("number", "terminal", "reason", "fails"),
    [
        (errno.EPIPE, False, ["nobody reads the output any more"], False),
        (errno.ENOSPC, False, ["cannot write to stdout: No space left on device"], True),
        (errno.EIO, False, ["cannot write to stdout: Input/output error"], True),
        (errno.EIO, True, [], False),
    ],
)
def test_x1_broken_stream_is_told_apart(number: int, terminal: bool, reason: list[str], fails: bool) -> None:
    """A reader that left is the end, a full or broken disk an error, a terminal that was closed neither."""
    show, stream = console()
    show.screen._is_terminal = terminal
    stream.write = lambda _: (_ for _ in ()).throw(OSError(number, os.strerror(number)))  # type: ignore[method-assign]
    told: list[str] = []
    show.screen.on_closed = told.append
    show(TokenRenewed(60, last=False))
    assert show.screen.close()
    assert (told, show.screen.failure is not None) == (reason, fails)


def test_stopped_terminal_stops_nobody() -> None:
    """Whoever announces goes on at once; what waits is bounded; closing says that it was not all written."""
    show, stream = console()
    released = threading.Event()
    stream.write = lambda _: released.wait(20) and 0  # type: ignore[method-assign]
    for _ in range(2 * MOST_WAITING):
        show(TokenRenewed(60, last=False))
    assert show.screen._texts.qsize() <= MOST_WAITING
    assert not show.screen.close()
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


def test_overwriting_is_for_terminals(monkeypatch: pytest.MonkeyPatch) -> None:
    """Never in a file, and not on a terminal that cannot go back."""
    terminal = io.StringIO()
    terminal.isatty = lambda: True  # type: ignore[method-assign]
    monkeypatch.setenv("TERM", "xterm")
    assert can_overwrite(terminal)
    assert not can_overwrite(io.StringIO())
    monkeypatch.setenv("TERM", "dumb")
    assert not can_overwrite(terminal)


def test_endless_ttl_is_said() -> None:
    """A token that does not expire has no number of seconds."""
    assert seconds(float("inf")) == "no end"
