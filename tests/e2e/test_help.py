"""--help of every command opens with an example."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.conftest import PROJECT

OF_MAKE = {"tests/soak.py", "tests/timing.py"}
"""Commands that live among the tests; what else can be run there is for tests to start."""
NO_COMMANDS = {
    ".ci/run",  # takes no options: it is what a machine runs
    "recipes/asyncio_program.py",  # to copy from
    "devserver/live_traffic.py", "live/application.py", "workshop/servers.py",  # what other commands start
}  # fmt: skip
OF_LABS = re.compile(r"workshop/(solutions/\w+|(?!run_labs)\w+)\.py")
"""To read, and to type as the lab says."""


def commands() -> dict[str, list[str]]:
    """What git knows and can be run: how it is called, by the name of its file."""
    listed = subprocess.run(["git", "ls-files"], cwd=PROJECT, check=True, capture_output=True, text=True)
    names = [name for name in listed.stdout.splitlines() if not name.startswith("tests/") or name in OF_MAKE]
    found = {}
    for name in sorted(set(names) - NO_COMMANDS):
        path = PROJECT / name
        if not path.is_file() or OF_LABS.fullmatch(name):
            continue
        if os.access(path, os.X_OK):
            found[name] = [f"./{name}"]
        elif path.suffix == ".py" and '__name__ == "__main__"' in path.read_text(encoding="utf-8"):
            found[name] = [sys.executable, "-m", called(name)]
    return found


def called(name: str) -> str:
    """What a person types: the name of a module, or of a script."""
    module = name.removesuffix(".py").removesuffix("/__main__").replace("/", ".")
    return module if "-" not in name and name.endswith(".py") else name


COMMANDS = commands()


def shown(command: list[str]) -> str:
    """What its --help prints, with no server to ask and nothing set: it does nothing else."""
    environment = {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}", "COLUMNS": "120"}
    run = subprocess.run(
        [*command, "--help"], cwd=PROJECT, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True,
        timeout=60, check=False,
    )  # fmt: skip
    assert (run.returncode, run.stderr) == (0, "")
    return run.stdout


def example_in(text: str) -> str:
    """That of the first lines: before the usage, or right behind it."""
    examples = re.findall(r"^example: (.+)", "\n".join(text.splitlines()[:3]), re.MULTILINE)
    assert len(examples) == 1, text
    return str(examples[0])


@pytest.mark.parametrize("name", COMMANDS)
def test_help_opens_with_an_example(name: str) -> None:
    """That of the command itself, and of each that it is the first word of."""
    text = shown(COMMANDS[name])
    assert Path(called(name)).stem in example_in(text)
    for word in re.findall(r"^    ([a-z]+)\b", text, re.MULTILINE) if "COMMAND ..." in text else []:
        assert f"{called(name)} {word}" in example_in(shown([*COMMANDS[name], word]))


def test_commands_are_found() -> None:
    """Some that must be among them, or the test above shows nothing."""
    assert {"vault_app.py", "setup-vault.sh", "issuer/__main__.py", "tests/soak.py"} <= COMMANDS.keys()
    assert len(COMMANDS) >= 19
