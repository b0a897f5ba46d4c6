"""Tests that need a tool of the system: CI installs it; where it is missing elsewhere, they are told of at the end."""

from __future__ import annotations

import os
import shutil
from typing import Any

import pytest

NO_CLUSTER = "KUBECONFIG names no cluster for `make kubernetes-test`"
MISSING = ("not installed", NO_CLUSTER)
"""How the reasons end that are told of."""


def skip_without_tool(item: pytest.Item) -> None:
    """`@pytest.mark.tools("promtool")`: run it where all of these are installed; `cluster`: where KUBECONFIG is set."""
    if item.get_closest_marker("cluster") and not os.environ.get("KUBECONFIG"):
        pytest.skip(NO_CLUSTER)
    names = [name for marker in item.iter_markers("tools") for name in marker.args]
    missing = [name for name in names if shutil.which(name) is None]
    if not missing:
        return
    words = f"{', '.join(missing)} not installed"
    if os.environ.get("CI"):
        pytest.fail(f"{words}, which CI has to do")
    pytest.skip(words)


def tell_of_missing(reporter: Any) -> None:
    """One line: how many tests were not run, and why. From all workers of xdist, whose skips arrive as reports."""
    skipped = [report.longrepr[2] for report in reporter.stats.get("skipped", []) if isinstance(report.longrepr, tuple)]
    why = sorted({words.removeprefix("Skipped: ") for words in skipped if words.endswith(MISSING)})
    if why:
        count = sum(words.endswith(MISSING) for words in skipped)
        reporter.write_line(f"{count} test{'s' if count > 1 else ''} not run: {'; '.join(why)}")
