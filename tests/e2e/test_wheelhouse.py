"""`make wheelhouse`: what it filled is all that an installation needs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.conftest import PROJECT, Run

NOBODY = "http://127.0.0.1:9"
"""An index that never answers."""


@pytest.fixture
def wheelhouse(start: Run, tmp_path: Path) -> Path:
    """What the application alone needs, in a folder such as a stick may have."""
    folder = tmp_path / "a stick" / "räder"
    program = start(
        "make", "wheelhouse", f"WHEELHOUSE={folder}", f"PYTHON={sys.executable}", "REQUIREMENTS=requirements.txt",
        PIP_RETRIES="5" if os.environ.get("CI") else "1",
    )  # fmt: skip
    status = program.wait()
    if status and "connection broken" in program.err and not os.environ.get("CI"):
        pytest.skip("no index of packages answers")
    assert status == 0, program.err
    return folder


def test_everything_installs_without_an_index(start: Run, wheelhouse: Path, tmp_path: Path) -> None:
    """Only wheels, so nothing has to be built; and pip asks nobody, of whose silence it would tell."""
    assert {file.suffix for file in wheelhouse.iterdir()} == {".whl"}
    venv = tmp_path / "venv"
    program = start(
        "make", "venv", f"WHEELHOUSE={wheelhouse}", f"VENV={venv}", f"PYTHON={sys.executable}",
        PIP_INDEX_URL=NOBODY, PIP_RETRIES="1", PIP_CONFIG_FILE=os.devnull,
    )  # fmt: skip
    assert (program.wait(), program.err) == (0, f"Installing 1 of 1 into {venv}: what the application needs …\n")
    where = subprocess.check_output([venv / "bin/python", "-c", "import hvac; print(hvac.__file__)"], text=True)
    assert where.startswith(str(venv))


def test_missing_wheelhouse_is_told_of(start: Run, tmp_path: Path) -> None:
    """Before anything is made."""
    program = start("make", "venv", f"WHEELHOUSE={tmp_path}/none", f"VENV={tmp_path}/venv")
    assert program.wait() == 2
    assert f"WHEELHOUSE={tmp_path}/none: no such folder; `make wheelhouse` fills one" in program.err
    assert not (tmp_path / "venv").exists()


def test_every_file_of_requirements_is_taken(start: Run) -> None:
    """Those of the rooms, too, also of one that comes later."""
    program = start("make", "--dry-run", "wheelhouse")
    assert program.wait() == 0
    files = [*PROJECT.glob("requirements*.txt"), *PROJECT.glob("[!.]*/requirements*.txt")]
    assert set(re.findall(r"-r (\S+)", program.out)) == {path.relative_to(PROJECT).as_posix() for path in files}


@pytest.mark.parametrize(
    "target", ["venv", "demo", "server", "gateway", "test", "check", "kubernetes", "break-glass-drill"]
)
def test_installation_says_how_far_it_is(start: Run, tmp_path: Path, target: str) -> None:
    """One file of requirements after another, the last of them being the number that was said from the start."""
    program = start("make", "--dry-run", target, f"VENV={tmp_path}")
    assert program.wait() == 0
    steps = re.findall(r'echo "Installing (\d) of (\d) into', program.out)
    assert steps == [(str(step), str(len(steps))) for step in range(1, len(steps) + 1)]
    assert steps
