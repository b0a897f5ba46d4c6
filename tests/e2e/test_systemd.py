"""The unit for systemd."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

UNIT = Path(__file__).parents[2] / "recipes" / "systemd" / "vault-app.service"


@pytest.mark.tools("systemd-analyze")
def test_unit_is_valid(tmp_path: Path) -> None:
    """systemd finds nothing to say against it, but that the program is not installed."""
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text().replace("/opt/vault-app/.venv/bin/python", "/bin/true"))
    done = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@pytest.mark.tools("systemd-analyze")
def test_unit_shuts_off_what_it_can(tmp_path: Path) -> None:
    """`systemd-analyze security` calls its exposure OK: below 2 of 10."""
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--threshold=20", "--no-pager", UNIT],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-300:]
