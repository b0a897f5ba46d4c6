"""docs/TESTING.md says what is so: its program and its tests, in a folder with a copy of the client."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from devserver.setup import without_vault
from tests.e2e.conftest import PROJECT
from tests.e2e.test_extending import COPY

PAGE = (PROJECT / "docs/TESTING.md").read_text(encoding="utf-8")
FILES = {
    name: text for name, text in re.findall(r"^```python\n# (\S+\.py)\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL)
}
CLIENT = COPY.split()[2:-1]
SERVERS = re.findall(r"`cp -r (.*?) ../my-program`", PAGE)[0].split()
OF_ANOTHER_SERVER = {"VAULT_NAMESPACE": "elsewhere"}
"""What the terminal may still hold."""
SECONDS = 120.0


@pytest.fixture
def my_program(tmp_path: Path) -> Path:
    for name in (*CLIENT, *SERVERS):
        copy = shutil.copytree if (PROJECT / name).is_dir() else shutil.copy
        copy(PROJECT / name, tmp_path / name)
    for name, text in FILES.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    return tmp_path


def run_tests(folder: Path, name: str) -> str:
    """The last line of pytest."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", name]
    environment = {**without_vault(os.environ), **OF_ANOTHER_SERVER}
    ran = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=SECONDS)
    return ran.stdout.splitlines()[-1]


@pytest.mark.parametrize("name", [name for name in FILES if name.startswith("test_")])
def test_page_is_right(my_program: Path, name: str) -> None:
    """Each file of tests that it shows passes."""
    assert run_tests(my_program, name).startswith("2 passed")


@pytest.mark.parametrize("name", [name for name in FILES if name.startswith("test_")])
def test_page_finds_the_mistake(my_program: Path, name: str) -> None:
    """That it speaks of: the key is read once, at the start."""
    (my_program / "payments.py").write_text(
        """
class Payments:
    def __init__(self, vault):
        key = vault.get_kv_secret("database").data["api_key"]
        self.headers = lambda: {"Authorization": f"Bearer {key}"}
""",
        encoding="utf-8",
    )
    assert "failed" in run_tests(my_program, name)
