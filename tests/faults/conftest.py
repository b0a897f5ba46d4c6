"""Runs the chosen faults once, all at the same time; each test then looks at its own."""

from __future__ import annotations

from typing import Any

import pytest

from tests.backends import Backend
from tests.faults.report import PAGE, page, table
from tests.faults.runner import ALL_FAULTS, Result, Runner
from tests.faults.trial import DEFAULTS, QUICK, Pace

RESULTS = pytest.StashKey[dict[str, Result]]()


@pytest.fixture(scope="session")
def pace(request: pytest.FixtureRequest) -> Pace:
    return DEFAULTS if request.config.getoption("--full") else QUICK


@pytest.fixture(scope="session")
def results(
    request: pytest.FixtureRequest, backend: Backend, pace: Pace, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Result]:
    """What came of every fault that was chosen."""
    if request.config.getoption("--backend") != "embedded":
        pytest.skip("the faults need servers that they can break: --backend=embedded")
    items = [item for item in request.session.items if isinstance(item, pytest.Function)]
    chosen: list[Any] = [item.callspec.params["fault"] for item in items if "results" in item.fixturenames]
    results = Runner(backend, tmp_path_factory.mktemp("faults"), pace).run(chosen)
    request.config.stash[RESULTS] = results
    return results


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """With --full, print the table; if every fault was tried, write the document."""
    results = config.stash.get(RESULTS, {})
    if not config.getoption("--full") or not results:
        return
    terminalreporter.write_line(table(results))
    if len(results) == len(ALL_FAULTS):
        PAGE.write_text(page(results, DEFAULTS), encoding="utf-8")
        terminalreporter.write_line(f"written to {PAGE.name}")
