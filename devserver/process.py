"""A child process that is started, waited for and ended without ever sleeping for luck."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

POLL_SECONDS = 0.02
STOP_SECONDS = 5.0
LOG_LINES = 15


class DevServerError(Exception):
    """A part of the development infrastructure did not start; the text holds the end of its log."""


class Process:
    """A process in a session of its own, so that the Ctrl+C of a terminal does not reach it, with a log file."""

    def __init__(
        self,
        name: str,
        command: Sequence[str | Path],
        *,
        log: Path,
        env: Mapping[str, str],
        user: int | None = None,
        stop_signal: signal.Signals = signal.SIGTERM,
    ) -> None:
        self.name = name
        self._log = log
        self._stop_signal = stop_signal
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [str(part) for part in command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=dict(env),
                cwd=log.parent,
                start_new_session=True,
                user=user,
                group=user,
                extra_groups=None if user is None else [],
            )

    def wait_until(self, ready: Callable[[], bool], seconds: float, check: Callable[[], None]) -> None:
        """Ask `ready` until it says yes; `check` may raise in between. Raises: DevServerError if the process ends."""
        deadline = time.monotonic() + seconds
        while True:
            check()
            if self._process.poll() not in (None, 0):
                raise self.error(f"ended with status {self._process.returncode}")
            if ready():
                return
            if time.monotonic() > deadline:
                raise self.error(f"was not ready after {seconds:g} s")
            time.sleep(POLL_SECONDS)

    def wait_for_success(self, seconds: float, check: Callable[[], None]) -> None:
        """Wait for the process to end with status 0. Raises: DevServerError if it does not."""
        self.wait_until(lambda: self._process.poll() == 0, seconds, check)

    def check(self) -> None:
        """Raises: DevServerError, if the process has ended by itself."""
        if self._process.poll() is not None:
            raise self.error(f"ended with status {self._process.returncode}")

    @property
    def pid(self) -> int:
        return self._process.pid

    def send(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def stop(self) -> None:
        """End the process: politely, and after STOP_SECONDS for good."""
        if self._process.poll() is None:
            self._process.send_signal(self._stop_signal)
            try:
                self._process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self.kill()

    def kill(self) -> None:
        """End the process at once, as a power failure would."""
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def error(self, what: str) -> DevServerError:
        lines = self._log.read_text(errors="replace").splitlines()[-LOG_LINES:]
        return DevServerError("\n".join([f"{self.name} {what}; its log ends:", *(f"  {line}" for line in lines)]))
