"""docs/TIMING.md: its figures are those of the code, and keep what the rules promise."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from tests.timing import PAGE, READER_PAUSE_SECONDS, RENEWED_TTLS, RENEWS, TTLS, Stage, lease_outage, page, token_outage
from vaultkit.events import TokenLost

each_ttl = pytest.mark.parametrize("ttl", TTLS)
each_kind = pytest.mark.parametrize("deaf", [False, True], ids=["refused", "deaf"])


@pytest.fixture
def quiet() -> Iterator[None]:
    """Thousands of outages, each told of: to keep that costs more than to reckon it."""
    logging.disable()
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.usefixtures("quiet")
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


@each_kind
@pytest.mark.parametrize("ttl", RENEWED_TTLS)
def test_at_least_three_renewals_fit(ttl: int, deaf: bool) -> None:
    """Of a lease, too: the last of them comes in the last half second of it."""
    tries = lease_outage(ttl, 0, deaf=deaf, pause=READER_PAUSE_SECONDS, environ=RENEWS).tries
    assert len(tries) >= 3
    assert ttl - 0.5 <= tries[-1] < ttl
