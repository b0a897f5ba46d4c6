"""Copied as vaultkit/README.md says, the client works on its own: beside a program, and inside a package."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.backends import Backend
from tests.e2e.conftest import PROJECT, Program, Run

PAGE = (PROJECT / "vaultkit/README.md").read_text(encoding="utf-8")
README = (PROJECT / "README.md").read_text(encoding="utf-8")
COPY, SED = (re.findall(rf"^{command} .*shop.*$", PAGE, flags=re.MULTILINE)[0] for command in ("cp", "sed"))
SNIPPET = re.findall(r"^```python\n(.*?)^```", README, flags=re.MULTILINE | re.DOTALL)[1]
"""The first is the plain script."""

WALK = """
import importlib, pkgutil, shop.vaultkit as kit
modules = [module.name for module in pkgutil.walk_packages(kit.__path__, "shop.vaultkit.")]
print([importlib.import_module(name) for name in modules])
"""
WITHOUT_PREFIXES = """
from vaultkit.errors import SecretNotFound

with VaultClient(VaultConfig.load()) as vault:
    try:
        vault.get_kv_secrets("team/*")
    except SecretNotFound as error:
        print(error)
"""
AS_ON_WINDOWS = """
import os, signal
del signal.SIGHUP, signal.SIGQUIT, os.fork, os.register_at_fork
"""


def typed(line: str, folder: Path) -> None:
    """Type a line of the page, with this folder for ../my-program."""
    subprocess.run(["bash", "-c", line.replace("../my-program", str(folder))], cwd=PROJECT, check=True)


@pytest.fixture
def beside(tmp_path: Path) -> Path:
    """A folder of a program's own, with the client's files in it."""
    typed(re.findall(r"^cp .*", PAGE, flags=re.MULTILINE)[0], tmp_path)
    return tmp_path


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A folder with the package `shop`, and the client's files in that."""
    shop = tmp_path / "shop"
    shop.mkdir()
    (shop / "__init__.py").touch()
    typed(COPY, tmp_path)
    return tmp_path


@pytest.fixture
def runs(start: Run, backend: Backend) -> Run:
    """Runs lines as a program in a folder, on the real server; nothing of this project is on its path."""

    def run(folder: Path, lines: str) -> Program:
        path = folder / "program.py"
        path.write_text(lines, encoding="utf-8")
        program = start(sys.executable, path, **backend.application)
        assert (program.wait(), program.err) == (0, "")
        return program

    return run


def test_copy_runs_the_snippet(runs: Run, beside: Path) -> None:
    """Four items beside a program are all that it needs."""
    assert "connecting as v-approle-" in runs(beside, SNIPPET).out


def test_kv_is_whole_without_prefixes(runs: Run, beside: Path) -> None:
    """Their file can be deleted, with its two lines; a prefix is then refused in words."""
    (beside / "vaultkit/engines/kv_prefix.py").unlink()
    engines = beside / "vaultkit/engines/__init__.py"
    lines = engines.read_text(encoding="utf-8").splitlines(keepends=True)
    kept = [line for line in lines if "KvPrefixEngine" not in line]
    assert len(lines) - len(kept) == 2
    engines.write_text("".join(kept), encoding="utf-8")
    assert "knows no prefixes such as team/*" in runs(beside, SNIPPET + WITHOUT_PREFIXES).out


def test_kit_moves_unedited(runs: Run, package: Path) -> None:
    """Each of its modules imports from wherever the folder lies."""
    assert "shop.vaultkit.engines.cache" in runs(package, WALK).out


def test_package_runs_the_snippet(runs: Run, package: Path) -> None:
    """Inside a package, one line edits the two files above the kit."""
    typed(SED, package)
    snippet = re.sub(r"^from (config_loader|vault)", r"from shop.\1", SNIPPET, flags=re.MULTILINE)
    assert "connecting as v-approle-" in runs(package, snippet).out


def test_kit_runs_where_names_are_missing(runs: Run, beside: Path) -> None:
    """Some systems have no fork and neither SIGHUP nor SIGQUIT."""
    assert "connecting as v-approle-" in runs(beside, AS_ON_WINDOWS + SNIPPET).out


def test_page_installs_what_is_required() -> None:
    """The bounds are those of requirements.txt."""
    line = re.findall(r"^pip install (.*)$", PAGE, flags=re.MULTILINE)[0]
    required = (PROJECT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    assert {part.strip("'") for part in line.split()} < set(required)
