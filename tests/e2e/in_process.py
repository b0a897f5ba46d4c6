"""Runs the main function of a script in the process of the tests, which takes a tenth of the time that bash takes."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import pytest

from devserver.setup import without_vault
from listeners.signals import ending_signals
from scripts.operating import ending


class Done(NamedTuple):
    status: int
    out: str
    err: str


Script = Callable[..., Done]


@contextmanager
def in_process(
    main: Callable[[], int], program: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Script]:
    """A function that runs it with these arguments and variables; what it does with signals is undone."""
    handlers = {number: signal.getsignal(number) for number in ending_signals()}

    def run(*arguments: str, **environment: str) -> Done:
        monkeypatch.setattr(os, "environ", {**without_vault(os.environ), **environment})
        monkeypatch.setattr(sys, "argv", [program, *arguments])
        try:
            status = ending(main, program)
        except SystemExit as end:
            status = int(str(end.code))
        return Done(status, *capsys.readouterr())

    yield run
    for number, handler in handlers.items():
        signal.signal(number, handler)
