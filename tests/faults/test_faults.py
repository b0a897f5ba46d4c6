"""Every way it breaks: one row of docs/RELIABILITY.md each, against the real OpenBao."""

from __future__ import annotations

import re

import pytest

from tests.faults.report import HEAD, PAGE
from tests.faults.runner import ALL_FAULTS, AnyFault, ClusterFault, Result
from tests.faults.trial import DEFAULTS, Pace

SLACK_SECONDS = 8.0
"""What a busy machine may add."""
pytestmark = pytest.mark.timeout(600)  # all of them happen before the first test


@pytest.mark.parametrize("fault", ALL_FAULTS, ids=lambda fault: fault.name)
def test_fault_is_survived(fault: AnyFault, results: dict[str, Result], pace: Pace) -> None:
    """As its row says: what is served, how much is asked, what is said, and well again without help in time."""
    result = results[fault.name]
    assert list(result.complaints) == []
    assert result.requests <= pace.most_requests
    assert result.recovery <= SLACK_SECONDS + (pace.refresh if isinstance(fault, ClusterFault) else pace.bound)


def test_document_holds_every_fault(request: pytest.FixtureRequest) -> None:
    """The table of the document is that of the tests, and its figures keep what it promises."""
    if request.config.getoption("--full"):
        pytest.skip("it is about to be written")
    rows = [line.strip("| ").split(" | ") for line in PAGE.read_text(encoding="utf-8").splitlines() if " | " in line]
    assert rows[0] == HEAD.splitlines()[0].strip("| ").split(" | ")
    told = rows[1:]
    assert [row[:3] for row in told] == [[fault.name, fault.how, fault.says] for fault in ALL_FAULTS], "run make faults"
    for _, _, _, requests, recovery in told:
        assert int(requests) <= DEFAULTS.most_requests
        assert float(re.sub(r"[^0-9.]", "", recovery)) <= DEFAULTS.bound
