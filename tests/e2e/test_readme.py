"""The README says what is so: its settings, its screen, its snippet."""

from __future__ import annotations

import re
import signal
import sys
from pathlib import Path

import pytest

from config_loader import DEFAULT_PATH
from tests.backends import Backend
from tests.e2e.conftest import PROJECT, Run
from tests.faults.runner import ALL_FAULTS
from vault_client import VaultClient
from vaultkit.settings import variable

GATEWAY_INI = PROJECT / "gateway/gateway.ini"
README = (PROJECT / "README.md").read_text(encoding="utf-8")
RULES = (PROJECT / "docs/RULES.md").read_text(encoding="utf-8")
PAGES = {page.stem for page in PROJECT.glob("docs/*.md")}
WRITTEN = {"AUDIT", "EXTENDING", "FRAMEWORKS", "GLOSSARY", "KUBERNETES", "LOGIN", "PRODUCTION", "RULES", "SETTINGS"}
WRITTEN |= {"CLUSTER", "OFFLINE", "README", "RUNBOOK", "SECURITY", "TESTING", "TROUBLESHOOTING"}
ROOMS = sorted({*PROJECT.glob("[!.]*/README.md")} - {PROJECT / "docs/README.md"})


def blocks(language: str, page: str = README) -> list[str]:
    """The code blocks of a page in this language."""
    return re.findall(rf"^```{language}\n(.*?)^```", page, flags=re.MULTILINE | re.DOTALL)


def snippet(page: str, number: int) -> str:
    return blocks("python", (PROJECT / page).read_text(encoding="utf-8"))[number]


def files_testing(rule: str) -> list[str]:
    """The files that hold the tests of a rule."""
    holds = f"def test_{rule.lower()}_"
    files = [path for path in PROJECT.glob("tests/**/test_*.py") if holds in path.read_text(encoding="utf-8")]
    return sorted(path.relative_to(PROJECT).as_posix() for path in files)


def settings_table(file: Path) -> str:
    """The settings table as an ini file has it."""
    rows, section, comment = ["| Setting | Environment | Default | Meaning |", "|---|---|---|---|"], "", ""
    for line in file.read_text(encoding="utf-8").splitlines():
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
    line = re.sub(r"^\d\d:\d\d:\d\d ", "TIME ", line)
    line = re.sub(r"http://\S+", "URL", line)
    line = re.sub(r"/\S*/vault-dev-\w+", "FOLDER", line)
    line = re.sub(r"((?:username:|us for) v-approle-).*|(password: ).*", r"\1\2…", line)
    return re.sub(r"\d+s\b", "…s", line)


@pytest.mark.parametrize(("file", "number"), [(DEFAULT_PATH, 0), (GATEWAY_INI, 1)], ids=lambda value: str(value)[-11:])
def test_settings_are_those_of_the_files(file: Path, number: int) -> None:
    """The tables are made from config.ini and gateway.ini: on failure, paste what is expected."""
    page = (PROJECT / "docs/SETTINGS.md").read_text(encoding="utf-8")
    found = re.findall(r"^\| Setting .*\n(?:\|.*\n)*", page, re.MULTILINE)
    assert found[number] == f"{settings_table(file)}\n", f"expected:\n{settings_table(file)}"


def test_screen_is_what_the_program_shows(start: Run) -> None:
    """Every line of the README's screen comes on a real one: a whole cycle, with lifetimes short on purpose."""
    shown = [line for line in blocks("text")[0].splitlines() if line not in ("", "…")]
    program = start(
        sys.executable, "-m", "devserver", "--port", "0", "--", sys.executable, "vault_app.py", "--show-secrets",
        TOKEN_PERIOD="4s", DB_DYNAMIC_TTL="6s", DB_ROTATION_PERIOD="5s", KV_SECRET_REFRESH_INTERVAL="1",
    )  # fmt: skip
    program.wait_for("🔑 Token renewed")
    program.wait_for("🔁 Database Dynamic credentials replaced")
    program.wait_for("🔁 Database Static password rotated")
    program.wait_for("KV secret unchanged")
    program.stop(signal.SIGINT)
    seen = {shape(line) for line in (program.out + program.err).splitlines()}
    assert [line for line in shown if shape(line) not in seen] == []


@pytest.mark.parametrize(
    ("page", "number", "expected"),
    [
        ("README.md", 1, ["an API key of 20 characters", "connecting as v-approle-", "or as my-vault-app-static"]),
        ("listeners/README.md", 0, ["now there is Secret(kv_secret database"]),
        ("recipes/README.md", 0, ["psycopg as v-approle-", "SQLAlchemy as my-vault-app-static"]),
        ("recipes/README.md", 2, ["this job as v-approle-"]),
    ],
)
def test_snippet_runs(
    start: Run, backend: Backend, tmp_path: Path, page: str, number: int, expected: list[str]
) -> None:
    """The programs that the pages invite to copy."""
    path = tmp_path / "program.py"
    path.write_text(snippet(page, number), encoding="utf-8")
    where = {f"PG{key.upper()}".replace("DBNAME", "DATABASE"): str(value) for key, value in backend.database.items()}
    program = start(sys.executable, path, PYTHONPATH=str(PROJECT), **where, **backend.application)
    assert (program.wait(), program.err) == (0, "")
    for text in expected:
        assert text in program.out


def test_plain_script_is_shown_whole() -> None:
    """The nineteen lines are those of the file."""
    assert snippet("README.md", 0) == (PROJECT / "workshop/plain_hvac.py").read_text(encoding="utf-8")
    assert len(snippet("README.md", 0).splitlines()) == 19


def test_five_ways_are_tested() -> None:
    """Each way in which the plain script fails names its test, and no test is left out."""
    tests = (PROJECT / "tests/e2e/test_plain_hvac.py").read_text(encoding="utf-8")
    assert re.findall(r"^- .*\(`(test_\w+)`\)\.$", README, re.MULTILINE) == re.findall(
        r"^def (test_\w+)", tests, re.MULTILINE
    )


@pytest.mark.parametrize("name", sorted(set(re.findall(r"`vault\.(\w+)\(", README))))
def test_client_has_what_is_promised(name: str) -> None:
    """Each method that the text names."""
    assert callable(getattr(VaultClient, name, None))


def test_house_is_drawn_as_it_stands() -> None:
    """Each file and folder on the plan is there, and each room is on the plan."""
    plan = next(block for block in blocks("text") if block.startswith("config_loader.py"))
    names = re.findall(r"^([\w.-]+)", plan, flags=re.MULTILINE)
    assert [name for name in names if not (PROJECT / name).exists()] == []
    assert {page.parent.name for page in ROOMS} <= set(names)


@pytest.mark.parametrize("page", ROOMS, ids=lambda page: page.parent.name)
def test_room_names_its_own_files(page: Path) -> None:
    """What the table of a room lists is there."""
    names = re.findall(r"^\| `([\w/.]+)`(?:, `([\w/.]+)`)?", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert [name for pair in names for name in pair if name and not (page.parent / name).exists()] == []


@pytest.mark.parametrize("page", sorted(PAGES - WRITTEN))
def test_page_names_its_command(page: str) -> None:
    """No figure in a document that a command did not print."""
    text = (PROJECT / f"docs/{page}.md").read_text(encoding="utf-8")
    assert re.search(r"`make \w+` (printed this table|writes this page)", text)


def test_number_of_faults_is_right() -> None:
    """As many as the catalogue has."""
    assert f"lists {len(ALL_FAULTS)} faults" in README


@pytest.mark.parametrize("rule", re.findall(r"^\| ([A-Z]+\d+) \|", RULES, flags=re.MULTILINE))
def test_every_rule_names_its_tests(rule: str) -> None:
    """The files in which its tests stand: on failure, paste what is expected."""
    expected = ", ".join(f"`{path}`" for path in files_testing(rule))
    assert expected
    assert re.search(rf"^\| {rule} \|.*\| {re.escape(expected)} \|$", RULES, re.MULTILINE), f"expected: {expected}"


def test_readme_is_short_enough() -> None:
    """Read in one sitting; its first screens lead to a first secret."""
    lines = README.splitlines()
    assert len(lines) <= 200
    assert {"## Two commands", "📦 KV Secret Data:"} <= set(lines[:60])


@pytest.mark.parametrize("chosen", [{}, {"TOKEN_PERIOD": "1m"}])
def test_demo_shows_a_whole_cycle_soon(start: Run, tmp_path: Path, chosen: dict[str, str]) -> None:
    """Its lifetimes, with what a renewal or a rotation takes, lie below half a minute, unless others are chosen."""
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\nenv\n", encoding="utf-8")
    python.chmod(0o755)
    program = start("make", "demo", "-o", ".venv/installed-demo", f"BIN={tmp_path}", **chosen)
    program.wait()
    lifetimes = dict(
        re.findall(r"^(TOKEN_PERIOD|DB_DYNAMIC_TTL|DB_ROTATION_PERIOD)=(\w+)$", program.out, flags=re.MULTILINE)
    )
    assert lifetimes == {"TOKEN_PERIOD": "20s", "DB_DYNAMIC_TTL": "25s", "DB_ROTATION_PERIOD": "20s", **chosen}


def test_make_help_lists_the_targets(start: Run) -> None:
    """One line each, and all that the README speaks of."""
    program = start("make", "help")
    program.wait()
    listed = re.findall(r"^  make ([\w-]+)", program.out, flags=re.MULTILINE)
    targets = ["help", "demo", "live", "server", "gateway", "venv", "test", "check"]
    targets += ["bench", "faults", "rotation", "soak", "timing", "kubernetes", "kubernetes-test"]
    targets += ["break-glass-drill", "workshop", "wheelhouse", "clean"]
    assert listed == targets
    assert set(re.findall(r"`make ([\w-]+)", README)) <= set(listed)
