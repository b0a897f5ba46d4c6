"""The README says what is so: its settings, its screen, its snippet."""

from __future__ import annotations

import re
import signal
import sys
from pathlib import Path

import pytest

from config_loader import DEFAULT_PATH, variable
from tests.backends import Backend
from tests.e2e.conftest import PROJECT, Run

README = (PROJECT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    """The code blocks of the README in this language."""
    return re.findall(rf"^```{language}\n(.*?)^```", README, flags=re.MULTILINE | re.DOTALL)


def settings_table() -> str:
    """The settings table as config.ini has it."""
    rows, section, comment = ["| Setting | Environment | Default | Meaning |", "|---|---|---|---|"], "", ""
    for line in DEFAULT_PATH.read_text(encoding="utf-8").splitlines():
        if line.startswith("["):
            section = line.strip("[]")
        elif line.startswith("# "):
            comment = line.removeprefix("# ")
        elif " =" in line:
            key, _, default = line.partition(" =")
            shown = f"`{default.strip()}`" if default.strip() else ""
            rows.append(f"| `[{section}] {key}` | `{variable(section, key)}` | {shown} | {comment} |")
    return "\n".join(rows)


def shape(line: str) -> str:
    """A line of the screen without what differs from run to run."""
    line = re.sub(r"http://\S+", "URL", line)
    line = re.sub(r"/\S*/vault-dev-\w+", "FOLDER", line)
    line = re.sub(r"(username: v-approle-).*|(password: ).*", r"\1\2…", line)
    return re.sub(r"\d+s\b", "…s", line)


def test_settings_are_those_of_config_ini() -> None:
    """The table is made from config.ini: on failure, paste what is expected."""
    assert settings_table() in README, f"expected:\n{settings_table()}"


def test_screen_is_what_the_program_shows(start: Run) -> None:
    """Every line of the README's screen comes on a real one: a whole cycle, with lifetimes short on purpose."""
    shown = [line for line in blocks("text")[0].splitlines() if line not in ("", "…")]
    program = start(
        sys.executable, "-m", "devserver", "--", sys.executable, "vault_app.py", "--show-secrets",
        TOKEN_PERIOD="4s", DB_DYNAMIC_TTL="6s", DATABASE_DYNAMIC_REFRESH_INTERVAL="1", KV_SECRET_REFRESH_INTERVAL="1",
    )  # fmt: skip
    program.wait_for("🔑 Token renewed")
    program.wait_for("🔁 Database Dynamic credentials replaced")
    program.wait_for("from the cache")
    program.wait_for("KV secret unchanged")
    program.stop(signal.SIGINT)
    seen = {shape(line) for line in (program.out + program.err).splitlines()}
    assert [line for line in shown if shape(line) not in seen] == []


def test_snippet_runs(start: Run, backend: Backend, tmp_path: Path) -> None:
    """The program that the README invites to copy."""
    (snippet,) = blocks("python")
    path = tmp_path / "snippet.py"
    path.write_text(snippet, encoding="utf-8")
    program = start(sys.executable, path, PYTHONPATH=str(PROJECT), **backend.application)
    assert (program.wait(), program.err) == (0, "")
    assert "an API key of 20 characters" in program.out
    assert "connecting as v-approle-" in program.out


@pytest.mark.parametrize("rule", re.findall(r"^\| ([A-Z]\d) \|", README, flags=re.MULTILINE))
def test_every_rule_has_a_test(rule: str) -> None:
    """The rules of the README are tested under their names."""
    tests = "".join(path.read_text(encoding="utf-8") for path in PROJECT.glob("tests/**/test_*.py"))
    assert f"def test_{rule.lower()}_" in tests


def test_readme_is_short_enough() -> None:
    """Read in one sitting."""
    assert len(README.splitlines()) <= 250


def test_make_help_lists_the_targets(start: Run) -> None:
    """One line each, and all that the README speaks of."""
    program = start("make", "help")
    program.wait()
    listed = re.findall(r"^  make (\w+)", program.out, flags=re.MULTILINE)
    assert listed == ["help", "demo", "server", "test", "check", "faults", "rotation", "soak", "timing", "clean"]
    assert set(re.findall(r"`make (\w+)", README)) <= set(listed)
