"""A few seconds of `make soak`: the same code and claims, short of a minute to settle in."""

from __future__ import annotations

import pytest

from tests.backends import Backend
from tests.soak import soak, table


@pytest.mark.alone
def test_short_soak_holds(backend: Backend) -> None:
    """With lifetimes of seconds the program asks as predicted, shows no trouble and no secret, and ends cleanly.

    Memory may still grow by a fifth: the first seconds fill what the ten minutes show to be full.
    """
    try:
        run = soak(backend, seconds=5, warm_up=1)
    finally:
        backend.setup()
    assert [row for row in table(run, growth=0.2) if not row.holds] == []
