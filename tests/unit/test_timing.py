"""docs/TIMING.md: its figures are those of the code, and keep what the rules promise."""

from __future__ import annotations

import pytest

from tests.timing import PAGE, TTLS, Stage, page, token_outage
from vault_events import TokenLost

each_ttl = pytest.mark.parametrize("ttl", TTLS)
each_kind = pytest.mark.parametrize("deaf", [False, True], ids=["refused", "deaf"])


def test_page_is_current() -> None:
    """The page is what the code does now."""
    assert PAGE.read_text(encoding="utf-8") == page(), "docs/TIMING.md is not what the code does: run make timing"


@each_ttl
def test_renewal_comes_at_four_fifths(ttl: int) -> None:
    """For each TTL, however short or long."""
    assert token_outage(ttl, 0, deaf=False).tries[0] == pytest.approx(ttl * 4 / 5, abs=0.2)


@each_ttl
@each_kind
def test_at_least_three_tries_fit(ttl: int, deaf: bool) -> None:
    """The last of them comes in the last half second of the token."""
    tries = token_outage(ttl, 0, deaf=deaf).tries
    assert len(tries) >= 3
    assert ttl - 0.5 <= tries[-1] < ttl


@each_kind
@pytest.mark.parametrize("ttl", [10, 60, 900])
@pytest.mark.parametrize(("too_long", "lost"), [(0.0, False), (0.01, True)])
def test_outage_survived_is_the_longest(ttl: int, deaf: bool, too_long: float, lost: bool) -> None:
    """An outage as long as the page tells costs nothing; one that is longer costs the token."""
    outage = token_outage(ttl, 0, deaf=deaf)
    stage = Stage(0, token_ttl=ttl)
    stage.client.login()
    stage.cut_off(deaf=deaf)
    stage.watch_token(ttl * 1.5, back_at=outage.at_best + too_long)
    assert any(isinstance(event, TokenLost) for event in stage.events) is lost
    assert (stage.client.get_token_info().generation > 1) is lost
