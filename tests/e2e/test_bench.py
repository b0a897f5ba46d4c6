"""The benchmarks run: every section, with tiny counts; how fast anything is, is for `make bench` to say."""

from __future__ import annotations

import os
import re
import signal
import sys
import tempfile
from pathlib import Path

import pytest

from benchmarks.__main__ import SECTIONS
from tests.e2e.conftest import Run
from tests.e2e.test_devserver import servers_of


@pytest.mark.timeout(240)
def test_quick_benchmarks_write_their_page(start: Run, tmp_path: Path) -> None:
    """One table, printed and on the page, notes and plots for each section."""
    program = start(sys.executable, "-m", "benchmarks", "--quick", "--docs", tmp_path)
    assert program.process.wait(200) == 0, program.err
    program.wait()
    page = (tmp_path / "BENCHMARKS.md").read_text(encoding="utf-8")
    assert program.out.strip() in page
    assert len(re.findall("^## ", page, flags=re.MULTILINE)) == len(SECTIONS)
    plots = re.findall(r"\]\((.*\.svg)\)", page)
    assert len(plots) == 2
    assert all((tmp_path / plot).read_text(encoding="utf-8").startswith("<?xml") for plot in plots)


def test_interrupted_benchmarks_leave_nothing(start: Run) -> None:
    """Ctrl+C in the middle: servers, contenders and folders are gone."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o711)  # PostgreSQL runs as another user
        program = start(sys.executable, "-m", "benchmarks", "--quick", TMPDIR=folder)
        program.wait_for("benchmarks: 1 of 7, reads: cached reads, 4 threads")
        status, seconds = program.stop(signal.SIGINT)
        assert (status, program.err.splitlines()[-1]) == (1, "benchmarks: stopped by SIGINT")
        assert seconds < 10
        assert os.listdir(folder) == servers_of(Path(folder)) == []
