"""Every way the gateway's surroundings break: one row of docs/GATEWAY-FAULTS.md each, against the real OpenBao."""

from __future__ import annotations

import re

import pytest

from tests.faults.gateway_catalogue import CATALOGUE, Fault
from tests.faults.gateway_report import HEAD, PAGE, row
from tests.faults.gateway_runner import DEFAULTS, Pace, Result

SLACK_SECONDS = 5.0
"""What a busy machine may add."""
pytestmark = pytest.mark.timeout(600)  # all of them happen before the first test


@pytest.mark.parametrize("gateway_fault", CATALOGUE, ids=lambda fault: fault.name)
def test_gateway_survives_fault(gateway_fault: Fault, gateway_results: dict[str, Result], gateway_pace: Pace) -> None:
    """As its row says: what callers are told, how soon, and well again without help in time."""
    result = gateway_results[gateway_fault.name]
    assert list(result.complaints) == []
    assert result.recovery <= SLACK_SECONDS + gateway_pace.bound


def test_document_holds_every_fault_of_the_gateway(request: pytest.FixtureRequest) -> None:
    """The table of the document is that of the catalogue, and its figures keep what it promises."""
    if request.config.getoption("--full"):
        pytest.skip("it is about to be written")
    lines = [each.strip("|\n ") for each in PAGE.read_text(encoding="utf-8").splitlines() if each.startswith("|")]
    rows = [[cell.strip() for cell in each.split("|")] for each in lines]
    assert lines[0] == HEAD.splitlines()[0].strip("| ")
    assert [each[:5] for each in rows[2:]] == [row(fault) for fault in CATALOGUE], "run make faults"
    for *_, wait, health, recovery in rows[2:]:
        assert float(re.sub(r"[^0-9.]", "", wait)) <= DEFAULTS.patience + 1
        assert float(re.sub(r"[^0-9.]", "", health)) <= 1
        assert float(re.sub(r"[^0-9.]", "", recovery)) <= DEFAULTS.bound
