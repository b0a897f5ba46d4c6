"""The program as a process, watched from outside."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest

from devserver.setup import without_vault
from tests.backends import Backend

PROJECT = Path(__file__).parent.parent.parent
PATIENCE_SECONDS = 60.0


class Program:
    """A process whose two outputs are read as they come."""

    def __init__(self, command: Sequence[str | Path], environment: dict[str, str], cwd: Path = PROJECT) -> None:
        self.process = subprocess.Popen(
            [str(part) for part in command],
            env={**without_vault(os.environ), "PYTHONUNBUFFERED": "1", **environment},
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.out, self.err = "", ""
        self._changed = threading.Condition()
        self._readers = [
            threading.Thread(target=self._read, args=(name,), daemon=True) for name in ("stdout", "stderr")
        ]
        for reader in self._readers:
            reader.start()

    def _read(self, name: str) -> None:
        with getattr(self.process, name) as stream:
            for line in stream:
                with self._changed:
                    if name == "stdout":
                        self.out += line
                    else:
                        self.err += line
                    self._changed.notify_all()

    def wait_for(self, text: str, times: int = 1) -> None:
        """Wait until a text stands in one of the outputs, so many times."""
        with self._changed:
            found = self._changed.wait_for(lambda: (self.out + self.err).count(text) >= times, PATIENCE_SECONDS)
        assert found, f"{text!r} did not come; instead:\n{self.out}\n{self.err}"

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def wait(self) -> int:
        """Wait for the end; return the exit status."""
        status = self.process.wait(PATIENCE_SECONDS)
        for reader in self._readers:
            reader.join(PATIENCE_SECONDS)
        return status

    def stop(self, number: signal.Signals) -> tuple[int, float]:
        """Send a signal; return the exit status, and the seconds until the end."""
        started = time.monotonic()
        self.send(number)
        return self.wait(), time.monotonic() - started

    def kill(self) -> None:
        self.process.kill()
        self.wait()


Run = Callable[..., Program]


def halted_at(module: str, folder: Path) -> dict[str, str]:
    """Variables with which a program stands still when it first imports this module, and says so."""
    (folder / f"{module}.py").write_text("import time\nprint('halted', flush=True)\ntime.sleep(60)\n")
    return {"PYTHONPATH": str(folder)}


@pytest.fixture
def start() -> Iterator[Run]:
    """Starts programs, and sees that none is left behind."""
    with ExitStack() as stack:

        def start(*command: str | Path, **environment: str) -> Program:
            program = Program(command, environment)
            stack.callback(program.kill)
            return program

        yield start


@pytest.fixture
def app(start: Run, backend: Backend) -> Run:
    """Starts the application on the real server; `before` is a command that starts it in its turn."""

    def run(*options: str, before: Sequence[str] = (), **environment: str) -> Program:
        return start(*before, sys.executable, "vault_app.py", *options, **{**backend.application, **environment})

    return run


@pytest.fixture
def values(backend: Backend) -> Callable[[], list[str]]:
    """What must be in no output: the values and credentials that the application holds."""
    return lambda: ["myapp-api-key", "mysql://localhost", backend.secret_id, backend.root_token]
