"""Runs the chosen faults once, all at the same time; each test then looks at its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from listeners.progress import Progress
from tests.backends import Backend
from tests.faults import gateway_catalogue, gateway_report, gateway_runner
from tests.faults.report import PAGE, page, table
from tests.faults.runner import ALL_FAULTS, Result, Runner
from tests.faults.trial import DEFAULTS, QUICK, Pace

RESULTS = pytest.StashKey[dict[str, Result]]()
GATEWAY_RESULTS = pytest.StashKey[dict[str, gateway_runner.Result]]()


@pytest.fixture(scope="session")
def pace(request: pytest.FixtureRequest) -> Pace:
    return DEFAULTS if request.config.getoption("--full") else QUICK


@pytest.fixture(scope="session")
def results(
    request: pytest.FixtureRequest, backend: Backend, pace: Pace, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Result]:
    """What came of every fault that was chosen."""
    chosen = chosen_faults(request, "fault", "results")
    results = Runner(backend, tmp_path_factory.mktemp("faults"), pace).run(chosen, teller(request))
    request.config.stash[RESULTS] = results
    return results


def teller(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """With --full, says past pytest's capture how far it is, for that takes minutes; otherwise says nothing."""
    progress, capture = Progress("faults"), request.config.pluginmanager.getplugin("capturemanager")

    def tell(text: str) -> None:
        with capture.global_and_fixture_disabled():
            progress.count(text)

    return tell if request.config.getoption("--full") and capture else lambda text: None


def chosen_faults(request: pytest.FixtureRequest, parameter: str, results: str) -> list[Any]:
    """The faults of all tests that look at these results."""
    if request.config.getoption("--backend") != "embedded":
        pytest.skip("the faults need servers that they can break: --backend=embedded")
    items = [item for item in request.session.items if isinstance(item, pytest.Function)]
    return [item.callspec.params[parameter] for item in items if results in item.fixturenames]


@pytest.fixture(scope="session")
def gateway_pace(request: pytest.FixtureRequest) -> gateway_runner.Pace:
    return gateway_runner.DEFAULTS if request.config.getoption("--full") else gateway_runner.SCALED


@pytest.fixture(scope="session")
def gateway_results(
    request: pytest.FixtureRequest,
    backend: Backend,
    gateway_pace: gateway_runner.Pace,
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, gateway_runner.Result]:
    """What came of every fault of the gateway that was chosen."""
    chosen = chosen_faults(request, "gateway_fault", "gateway_results")
    results = gateway_runner.Runner(backend, tmp_path_factory.mktemp("gateways"), gateway_pace).run(
        chosen, teller(request)
    )
    request.config.stash[GATEWAY_RESULTS] = results
    return results


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """With --full, print the tables; where every fault was tried, write the document."""
    if not config.getoption("--full"):
        return
    results = config.stash.get(RESULTS, {})
    if results:
        terminalreporter.write_line(table(results))
    if len(results) == len(ALL_FAULTS):
        PAGE.write_text(page(results, DEFAULTS), encoding="utf-8")
        terminalreporter.write_line(f"written to {PAGE.name}")
    of_gateway = config.stash.get(GATEWAY_RESULTS, {})
    if of_gateway:
        terminalreporter.write_line(gateway_report.table(of_gateway))
    if len(of_gateway) == len(gateway_catalogue.CATALOGUE):
        text = gateway_report.page(of_gateway, gateway_runner.DEFAULTS)
        gateway_report.PAGE.write_text(text, encoding="utf-8")
        terminalreporter.write_line(f"written to {gateway_report.PAGE.name}")
