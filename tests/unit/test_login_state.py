"""What a login method remembers, and for how long: of a token that was handed over, of a file that goes."""

from __future__ import annotations

from pathlib import Path

from tests.fakes import LOOKUP, RENEW, SECRET_ID, FakeClock, FakeVault, Refusal
from tests.unit.conftest import ClientFactory
from tests.unit.test_token_rules import raising
from vaultkit.auth.login import LOGINS
from vaultkit.events import Event, LoginFailed

GIVEN = {"VAULT_AUTH_METHOD": "token", "VAULT_TOKEN": "hvs.handed-over"}
ALIVE = {"ttl": 60, "renewable": False, "policies": ["web"], "expire_time": "2027-01-01T00:00:00Z"}


def test_t1_clock_jump_costs_no_given_token(make_client: ClientFactory, vault: FakeVault, clock: FakeClock) -> None:
    """It is taken for dead, tried once more, and found to be alive."""
    vault.instead[LOOKUP] = lambda: {"data": ALIVE}
    client = make_client(**GIVEN)
    client.login()
    clock.set_wall_clock(by=3600)
    assert client.get_kv_secret("database").data
    assert client.get_token_info().generation == 2


def test_given_token_in_its_last_moment(make_client: ClientFactory, vault: FakeVault, events: list[Event]) -> None:
    """Less than a second is told as 0, which is not what it is for a token that never ends."""
    vault.instead[LOOKUP] = lambda: {"data": {**ALIVE, "ttl": 0}}
    client = make_client(**GIVEN)
    client.keep_token_alive()
    assert [type(event) for event in events] == [LoginFailed]
    assert not client.logged_in


def test_given_token_lost_answer_is_no_use(make_client: ClientFactory, vault: FakeVault, clock: FakeClock) -> None:
    """A renewal that gets no answer was no login: the next one takes the same token."""
    vault.instead = {LOOKUP: lambda: {"data": {**ALIVE, "renewable": True}}, RENEW: raising(Refusal(503, "sealed"))}
    client = make_client(**GIVEN)
    client.keep_token_alive()
    del vault.instead[RENEW]
    clock.pass_time(5)
    client.keep_token_alive()
    assert client.logged_in


def test_t2_file_that_goes_stops_no_watcher(
    make_client: ClientFactory, vault: FakeVault, clock: FakeClock, tmp_path: Path
) -> None:
    """The token is renewed meanwhile, and a login waits for the file."""
    path = tmp_path / "secret-id"
    path.write_text(SECRET_ID)
    client = make_client(VAULT_SECRET_ID="", VAULT_SECRET_ID_FILE=str(path))
    client.login()
    path.unlink()
    clock.pass_time(48)
    client.keep_token_alive()
    assert vault.count()[RENEW] == 1
    assert client.seconds_to_next_look() == 6


def test_c1_logins_are_forgotten(make_client: ClientFactory, vault: FakeVault, tmp_path: Path) -> None:
    """Whatever came of them, but for refusals: a file has another secret each hour."""
    path = tmp_path / "secret-id"
    path.write_text(SECRET_ID)
    client = make_client(VAULT_SECRET_ID="", VAULT_SECRET_ID_FILE=str(path))
    vault.go_down()
    client.keep_token_alive()
    assert LOGINS == {}
