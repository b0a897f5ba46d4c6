"""The workshop: what each lab looks like, what begins and ends it, and the solutions of labs 0 to 5.

`make workshop` runs the labs themselves. What is tried here is tried in a copy: whoever has a lab open keeps it.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from devserver.__main__ import PORT
from devserver.openbao import HOST
from tests.e2e.conftest import PROJECT, Run
from workshop.leftovers import writing_below
from workshop.run_labs import Newcomer, newcomer, runs

LABS = sorted(PROJECT.glob("workshop/[0-9][0-9]-*.md"))
SKELETON = ["What you will see", "What you need", "Steps", "Check yourself", "What it teaches", "Next"]
BEGIN, END = "source workshop/begin", "workshop/end"
WITHOUT_COMMANDS = {"python", "text", "json", "yaml", "ini", "sql"}
TWO_BYEXAMPLE_READS = "# a lab\n\n```shell\n$ echo one; echo two\none\n{second}\n```\n"
SECONDS = 120.0
OTHERS_END_SECONDS = 60.0

each_lab = pytest.mark.parametrize("lab", LABS, ids=lambda lab: lab.stem)
in_both_shells = pytest.mark.parametrize("shell", ["bash", pytest.param("zsh", marks=pytest.mark.tools("zsh"))])
Place = Callable[[], Newcomer]


def typed(somebody: Newcomer, script: str, *, shell: str = "bash", **environment: str) -> str:
    """Type this in a new terminal in somebody's copy of the project; return all that is shown."""
    told = subprocess.run(
        [shell, "-c", script],
        cwd=somebody.project,
        env={**somebody.environment, **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    return told.stdout


@contextmanager
def taken(port: int) -> Iterator[None]:
    """We listen there, once the servers of other tests that do have ended; one that stays is a developer's own."""
    deadline = time.monotonic() + OTHERS_END_SECONDS
    with ExitStack() as stack:
        while time.monotonic() < deadline:
            try:
                stack.enter_context(socket.create_server((HOST, port)))
                break
            except OSError:
                time.sleep(0.1)
        yield


@pytest.fixture
def somebody() -> Iterator[Newcomer]:
    """With a copy of the project; what was begun there is ended."""
    with newcomer() as somebody:
        yield somebody
        typed(somebody, END)


@pytest.fixture(scope="module")
def begun() -> Iterator[dict[str, str]]:
    """The variables of a terminal in which a lab has begun. Lives are shorter still; nothing rotates by itself."""
    with newcomer() as somebody:
        try:
            lifetimes = {"TOKEN_PERIOD": "5s", "DB_DYNAMIC_TTL": "6s", "DB_ROTATION_PERIOD": "1h"}
            shown = typed(somebody, f"{BEGIN} >/dev/null && env -0", **lifetimes)
            yield dict(entry.split("=", 1) for entry in shown.split("\0") if "=" in entry)
        finally:
            typed(somebody, END)


# ── How a lab looks ──────────────────────────────────────────────────────────────────────────────────────────────────


def commands_of(page: str) -> list[str]:
    return re.findall(r"^\$ (.*)", page, flags=re.MULTILINE)


@each_lab
def test_lab_has_the_skeleton(lab: Path) -> None:
    """The same headings in the same order, steps that are counted, a solution where there is an exercise."""
    page = lab.read_text(encoding="utf-8")
    assert page.startswith(f"# Lab {int(lab.name[:2])}: ")
    assert re.findall(r"^## (.*)", page, flags=re.MULTILINE) == SKELETON
    steps = re.findall(r"^### (\d+)\. ", page, flags=re.MULTILINE)
    assert steps == [str(number) for number in range(1, len(steps) + 1)]
    assert len(steps) == page.count("\n### ")
    assert "**Exercise.**" in page
    assert list(PROJECT.glob(f"workshop/solutions/{lab.name[:2]}_*.py"))


@each_lab
def test_lab_begins_and_ends(lab: Path) -> None:
    """So it runs alone, and leaves nothing."""
    commands = commands_of(lab.read_text(encoding="utf-8"))
    assert (commands[0], commands[-1]) == (BEGIN, END)


@each_lab
def test_every_command_is_run(lab: Path) -> None:
    """Each block is one that byexample runs, or has no command; and nothing is run that nobody reads."""
    page = lab.read_text(encoding="utf-8")
    blocks = re.findall(r"^ *```(\w*)\n(.*?)^ *```$", page, flags=re.MULTILINE | re.DOTALL)
    assert [block for language, block in blocks if language == "shell" and not block.lstrip().startswith("$ ")] == []
    assert {language for language, _ in blocks} <= {"shell"} | WITHOUT_COMMANDS
    assert "<!--" not in page
    assert "byexample:" not in page
    told = subprocess.run(
        [Path(sys.executable).with_name("byexample"), "-l", "shell", "--dry", "-v", "--no-progress-bar", lab],
        capture_output=True,
        text=True,
        check=True,
    )
    assert f", {len(commands_of(page))} examples." in told.stdout + told.stderr


@pytest.mark.parametrize(("second", "as_written"), [("two", True), ("three", False)])
def test_difference_is_found(
    somebody: Newcomer, capsys: pytest.CaptureFixture[str], second: str, as_written: bool
) -> None:
    """The text is compared with what comes, and what differs is shown."""
    page = TWO_BYEXAMPLE_READS.format(second=second)
    (somebody.project / "workshop/99-a-lab.md").write_text(page, encoding="utf-8")
    assert runs("99-a-lab.md", "1 of 1", somebody) is as_written
    assert ("NOT as written" in capsys.readouterr().out) is not as_written


# ── begin, end, wait-for ─────────────────────────────────────────────────────────────────────────────────────────────


@in_both_shells
def test_begin_converges(somebody: Newcomer, shell: str) -> None:
    """Begun twice, in two terminals, and after a crash: each time the servers answer, and there is one of each."""
    ask = "&& bao token lookup >/dev/null && echo they answer"
    first = typed(somebody, f"{BEGIN} && {BEGIN} {ask}", shell=shell)
    assert "ready: OpenBao is at" in first
    assert "the servers run already" in first
    assert first.endswith("they answer\n")
    assert "run already" in typed(somebody, f"{BEGIN} {ask}", shell=shell)
    run = somebody.project / "workshop/.run"
    crashed = Path((run / "folder").read_text(encoding="utf-8"))
    os.kill(int((run / "lock").read_text(encoding="utf-8")), signal.SIGKILL)
    assert typed(somebody, f"{BEGIN} {ask}", shell=shell).endswith("they answer\n")
    assert not crashed.exists()
    assert writing_below(crashed) == []


def test_begin_takes_another_port(somebody: Newcomer) -> None:
    """Where somebody else's server has the usual one."""
    with taken(PORT):
        assert f"; port {PORT} is in use" in typed(somebody, BEGIN)


def test_begin_elsewhere_is_told_in_words(somebody: Newcomer, tmp_path: Path) -> None:
    """It must be typed in the project's folder, and ends no terminal."""
    shown = typed(somebody, f"cd '{tmp_path}'; source '{somebody.project}/workshop/begin'; echo status $?")
    assert 'type "source workshop/begin" in the project\'s folder' in shown
    assert shown.endswith("status 1\n")


def test_begin_that_fails_says_why(somebody: Newcomer) -> None:
    """What setup-vault.sh said is shown, and nothing is left running."""
    shown = typed(somebody, f"{BEGIN}; echo status $?", TOKEN_PERIOD="")
    assert "TOKEN_PERIOD is empty" in shown
    assert shown.endswith("status 1\n")
    assert not (somebody.project / "workshop/.run/environment").exists()


def test_end_cleans_up_a_lab_that_was_left(somebody: Newcomer) -> None:
    """Programs of the lab, servers, files; and no program whose output goes elsewhere. To do it twice is fine."""
    left = typed(
        somebody,
        f"{BEGIN} >/dev/null; python vault_app.py >workshop/.run/app.log 2>&1 & echo $!; "
        "sleep 600 >/dev/null 2>&1 & echo $!; workshop/wait-for 'Dynamic secret fetch'",
    )
    lab, other = (int(pid) for pid in re.findall(r"^\d+$", left, flags=re.MULTILINE))
    run = somebody.project / "workshop/.run"
    servers = Path((run / "folder").read_text(encoding="utf-8"))
    assert lab in writing_below(run)
    try:
        assert "1 program of the lab and the servers are stopped" in typed(somebody, END)
        assert not run.exists()
        assert not servers.exists()
        assert writing_below(servers) == []
        assert lab not in writing_below(run)
        os.kill(other, 0)
    finally:
        os.kill(other, signal.SIGKILL)
    assert typed(somebody, END) == "workshop: nothing runs, and nothing is left\n"


def test_no_secret_on_a_command_line(begun: dict[str, str]) -> None:
    """What begins a lab hands it on by a file, which nobody else can read."""
    secrets = [begun[name] for name in ("VAULT_TOKEN", "VAULT_SECRET_ID", "DB_PASSWORD")]
    environment = Path(begun["PYTHONPATH"]) / "workshop/.run/environment"
    assert environment.stat().st_mode & 0o077 == 0
    lines = b""
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            lines += (process / "cmdline").read_bytes()
    assert b"workshop.servers" in lines
    assert [secret for secret in secrets if secret.encode() in lines] == []


def test_wait_for_prints_the_line(somebody: Newcomer) -> None:
    """The first that has the text in it, also where it begins like an option."""
    (somebody.project / "a.log").write_text("one\n--two 2\n--two 3\n", encoding="utf-8")
    assert typed(somebody, "workshop/wait-for '--two' a.log") == "--two 2\n"


def test_wait_for_gives_up_in_words(somebody: Newcomer) -> None:
    """And shows what came instead."""
    (somebody.project / "a.log").write_text("something else\n", encoding="utf-8")
    shown = typed(
        somebody, "workshop/wait-for two a.log; echo status $?; workshop/wait-for two b.log", WAIT_SECONDS="1"
    )
    assert '"two" did not come into a.log within 1 s; it ends:\n  something else\nstatus 1' in shown
    assert "there is no b.log after 1 s" in shown


# ── The solutions ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (
            "00_our_loop.py 5",
            r".*  KV version \d+, dynamic user let in, static user let in\n(.*\n)+all of it works\n",
        ),
        (
            "01_watch_token.py 1",
            r"(?:.* logged in, a token for 5 s\n)+.* renewed for 5 s\n.* revoked\n",
        ),
        ("03_fifty_threads.py", r"50 threads, 1 user\n"),
        (
            "05_vault_pool.py 3 static",
            r".* takes us for my-vault-app-static\n\d+ queries, 0 failed\n",
        ),
        # Over the end of the first lease.
        ("05_vault_pool.py 10", r"(?:.* takes us for v-approle-.*\n){2,}\d+ queries, 0 failed\n"),
    ],
)
def test_solution_runs(start: Run, begun: dict[str, str], command: str, expected: str) -> None:
    """As the lab says."""
    name, *arguments = command.split()
    program = start(sys.executable, f"workshop/solutions/{name}", *arguments, **begun)
    assert (program.wait(), program.err) == (0, "")
    assert re.fullmatch(expected, program.out)


def test_solution_tells_of_a_version(start: Run, begun: dict[str, str]) -> None:
    """Lab 2's: of the first, and of a new one; it ends with Ctrl+C."""
    program = start(sys.executable, "workshop/solutions/02_watch_version.py", **begun)
    program.wait_for("nothing → version 1")
    patch = ["kv", "patch", "my-vault-app-kv/database", "a=b"]
    subprocess.run([Path(sys.executable).with_name("bao"), *patch], env=begun, check=True, capture_output=True)
    program.wait_for("version 1 → version 2")
    status, _ = program.stop(signal.SIGINT)
    assert (status, program.err) == (0, "")


def test_solution_gets_over_a_rotation(start: Run, begun: dict[str, str]) -> None:
    """Lab 4's: the password changes behind its back, and it loses no login."""
    program = start(sys.executable, "workshop/solutions/04_follow_rotation.py", "10", **begun)
    program.wait_for("the first login")
    rotate = ["write", "-force", "my-vault-app-database/rotate-role/db-demo-static"]
    subprocess.run([Path(sys.executable).with_name("bao"), *rotate], env=begun, check=True, capture_output=True)
    assert (program.wait(), program.err) == (0, "")
    assert "the password was refused" in program.out
    assert program.out.endswith("no login was lost\n")


def test_plain_pool_fails(start: Run, begun: dict[str, str]) -> None:
    """What lab 5 is about: without following the credentials, queries are lost."""
    program = start(sys.executable, "workshop/one_password_pool.py", "60", **begun)
    program.wait_for("FAILED")
