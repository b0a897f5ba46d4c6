"""Runs the labs as they are written, and compares what each command prints with the text: `make workshop`.

byexample does the reading, running and comparing. Here it gets what a newcomer has: a fresh copy of the project, an
empty home, and an environment with nothing of anybody's Vault in it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from listeners.usage import CommandLine

PROJECT = Path(__file__).parent.parent
COMMAND_SECONDS = 90
"""How long one command of a lab may take."""
KEPT = ("PATH", "LANG", "LC_ALL", "LC_CTYPE", "TMPDIR", "TERM")
"""Of the environment: the rest may know of another Vault."""


@dataclass(frozen=True)
class Newcomer:
    """Who runs the labs: in a copy of the project, and at home nowhere."""

    project: Path
    home: Path

    @property
    def environment(self) -> dict[str, str]:
        return {**{name: os.environ[name] for name in KEPT if name in os.environ}, "HOME": str(self.home)}


def main() -> int:
    """Run the labs that are asked for, or all; return the exit status."""
    parser = CommandLine(
        example="python -m workshop.run_labs 0 3",
        prog="python -m workshop.run_labs",
        description="Runs the labs as they are written, and compares what each command prints with the text.",
    )
    parser.add_argument("numbers", nargs="*", metavar="NUMBER", help="those labs alone")
    numbers: Sequence[str] = parser.parse_args().numbers
    labs = [lab for lab in sorted(PROJECT.glob("workshop/[0-9][0-9]-*.md")) if not numbers or number_of(lab) in numbers]
    if not labs:
        say(f"there is no lab {' '.join(numbers)}")
        return 2
    started = time.monotonic()
    with newcomer() as somebody:
        failed = [
            lab.stem for count, lab in enumerate(labs, 1) if not runs(lab.name, f"{count} of {len(labs)}", somebody)
        ]
    took = f"{time.monotonic() - started:.0f} s"
    if failed:
        say(f"not as they are written: {', '.join(failed)}; the other {len(labs) - len(failed)} are ({took})")
        return 1
    say(f"every command of {len(labs)} labs printed what the text says ({took})")
    return 0


def number_of(lab: Path) -> str:
    return str(int(lab.name[:2]))


def say(text: str, end: str = "\n") -> None:
    print(text, end=end, flush=True)


def runs(lab: str, place: str, somebody: Newcomer) -> bool:
    """Whether the lab runs as it is written. Says so; if not, what was expected and what came."""
    say(f"lab {place}: {lab} … ", end="")
    started = time.monotonic()
    try:
        told = subprocess.run(
            [
                PROJECT / ".venv/bin/byexample", "--language", "shell", "--timeout", str(COMMAND_SECONDS),
                "--diff", "ndiff", "--pretty", "none", "--no-progress-bar", f"workshop/{lab}",
            ],
            cwd=somebody.project, env=somebody.environment, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
        )  # fmt: skip
    finally:
        subprocess.run([somebody.project / "workshop/end"], stdout=subprocess.DEVNULL, check=False)
    say(f"{'as written' if told.returncode == 0 else 'NOT as written'} ({time.monotonic() - started:.0f} s)")
    if told.returncode != 0:
        say(told.stdout)
    return told.returncode == 0


@contextmanager
def newcomer() -> Iterator[Newcomer]:
    """A copy of all that git knows, or would take up, with the .venv of this project; removed afterwards."""
    with tempfile.TemporaryDirectory(prefix="workshop-") as folder:
        somebody = Newcomer(Path(folder) / "project", Path(folder) / "home")
        somebody.home.mkdir()
        for name in known_to_git():
            if (PROJECT / name).is_file():
                (somebody.project / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(PROJECT / name, somebody.project / name)
        (somebody.project / ".venv").symlink_to((PROJECT / ".venv").resolve())
        yield somebody


def known_to_git() -> list[str]:
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=PROJECT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return [name for name in listed.stdout.split("\0") if name]


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
