"""How far something is, on a terminal and elsewhere."""

from __future__ import annotations

import io
import re
from contextlib import redirect_stderr

import pytest

from listeners.progress import Progress


class Terminal(io.StringIO):
    """Takes what is written for a terminal."""

    def isatty(self) -> bool:
        return True

    @property
    def lines(self) -> list[str]:
        """What is seen of each line at the end, once all is over that erases one."""
        plain = re.sub(r"\x1b\[\?7[lh]", "", self.getvalue())
        return [line.rpartition("\r\x1b[K")[2] for line in plain.split("\n")]


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    monkeypatch.setenv("TERM", "xterm")
    return Terminal()


def test_terminal_shows_one_line_in_place(terminal: Terminal) -> None:
    """Each text replaces the one before it, however often it comes."""
    progress = Progress("bench")
    progress.part = "2 of 7: "
    with redirect_stderr(terminal):
        progress.tell("reading")
        for number in (1, 2, 3):
            progress.count(f"round {number} of 3")
    assert terminal.lines == ["bench: 2 of 7: round 3 of 3"]


@pytest.mark.parametrize(("word", "left"), [("", [""]), ("stopped", ["bench: stopped", ""])])
def test_end_leaves_the_line_free(terminal: Terminal, word: str, left: list[str]) -> None:
    """Where a result is then printed, or the last word stays."""
    progress = Progress("bench")
    with redirect_stderr(terminal):
        progress.tell("reading")
        progress.end(word)
    assert terminal.lines == left


def test_log_gets_plain_lines_and_few(capsys: pytest.CaptureFixture[str]) -> None:
    """What is done is told each time, how far it is at first and then seldom; nothing erases anything."""
    progress = Progress("bench", seldom=3600)
    progress.count("0 of 3")
    for number in (1, 2, 3):
        progress.count(f"{number} of 3")
    progress.tell("drawing")
    progress.end()
    assert capsys.readouterr() == ("", "bench: 0 of 3\nbench: drawing\n")


def test_log_hears_again_after_a_while(capsys: pytest.CaptureFixture[str]) -> None:
    """So that nobody takes it for dead."""
    progress = Progress("bench", seldom=0)
    progress.count("1 of 3")
    progress.count("2 of 3")
    assert capsys.readouterr().err == "bench: 1 of 3\nbench: 2 of 3\n"


def test_dumb_terminal_gets_lines(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    """It shows control characters as they are."""
    monkeypatch.setenv("TERM", "dumb")
    with redirect_stderr(terminal):
        Progress("bench").tell("reading")
    assert terminal.getvalue() == "bench: reading\n"
