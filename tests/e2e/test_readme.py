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
from tests.faults.runner import ALL_FAULTS

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
    line = re.sub(r"((?:username:|us for) v-approle-).*|(password: ).*", r"\1\2…", line)
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


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (0, ["an API key of 20 characters", "connecting as v-approle-"]),
        (1, ["psycopg as v-approle-", "SQLAlchemy as my-vault-app-static"]),
    ],
)
def test_snippet_runs(start: Run, backend: Backend, tmp_path: Path, number: int, expected: list[str]) -> None:
    """The programs that the README invites to copy."""
    path = tmp_path / "snippet.py"
    path.write_text(blocks("python")[number], encoding="utf-8")
    where = {f"PG{key.upper()}".replace("DBNAME", "DATABASE"): str(value) for key, value in backend.database.items()}
    program = start(sys.executable, path, PYTHONPATH=str(PROJECT), **where, **backend.application)
    assert (program.wait(), program.err) == (0, "")
    for text in expected:
        assert text in program.out


@pytest.mark.parametrize("page", re.findall(r"`(docs/\w+\.md)`", README))
def test_page_is_there_and_names_its_command(page: str) -> None:
    """No figure in a document that a command did not print."""
    assert re.search(r"`make \w+` (printed this table|writes this page)", (PROJECT / page).read_text(encoding="utf-8"))


def test_number_of_faults_is_right() -> None:
    """As many as the catalogue has."""
    assert f"lists {len(ALL_FAULTS)} faults" in README


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
    targets = ["help", "demo", "server", "test", "check", "bench", "faults", "rotation", "soak", "timing", "clean"]
    assert listed == targets
    assert set(re.findall(r"`make (\w+)", README)) <= set(listed)
