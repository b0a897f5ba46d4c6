"""Faults at a button: one at a time, each with the rule that one then sees at work, and each mended by itself."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from live.board import Board
from vaultkit.shield import shielded

END_SECONDS = 2.0
"""How long the end waits for the fault that is under way."""


class UnknownFault(Exception):
    """There is no fault of this name."""


class Busy(Exception):
    """A fault is under way, and what it shows would be mixed up with that of another."""


class Over(Exception):
    """The end has come in the midst of a fault; what mends it is not wanted any more."""


def nothing() -> None:
    """What mends by itself."""


@dataclass(frozen=True)
class Fault:
    """Something that goes wrong for so many seconds, or once, and is then watched for so many."""

    name: str
    label: str
    """What stands on the button."""
    tells: str
    """What to watch for, in a sentence."""
    rule: str
    """That of docs/RULES.md which is at work."""
    seconds: float
    begin: Callable[[], object]
    end: Callable[[], object] = nothing

    def at(self, pace: float) -> Fault:
        """The same, for so many times as long."""
        return replace(self, seconds=self.seconds * pace)


class Faults:
    """Has them run, in a thread of each."""

    def __init__(self, faults: Sequence[Fault], board: Board) -> None:
        self._faults = {fault.name: fault for fault in faults}
        self._board = board
        self._lock = threading.Lock()  # held to begin one, or to end
        self._running: Fault | None = None
        self._until = 0.0
        self._over = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def running(self) -> str | None:
        """The name of the fault that is under way."""
        fault = self._running
        return None if fault is None else fault.name

    def start(self, name: str) -> None:
        """Have it begin. Raises: UnknownFault; Busy, while another one is under way, and at the end."""
        fault = self._faults.get(name)
        if fault is None:
            raise UnknownFault(name)
        with self._lock:
            if self._running is not None or self._over.is_set():
                raise Busy(name)
            self._running, self._until = fault, time.monotonic() + fault.seconds
            self._thread = threading.Thread(target=self._run, args=(fault,), name=f"fault-{name}", daemon=True)
            self._thread.start()

    def facts(self) -> list[dict[str, Any]]:
        """All of them, as the page shows them."""
        running, left = self.running, max(0.0, self._until - time.monotonic())
        return [
            {
                "name": fault.name,
                "label": fault.label,
                "tells": fault.tells,
                "rule": fault.rule,
                "link": f"/rules#{fault.rule}",
                "running": fault.name == running,
                "left": round(left, 1) if fault.name == running else None,
            }
            for fault in self._faults.values()
        ]

    def check(self) -> None:
        """For what waits in a fault. Raises: Over."""
        if self._over.is_set():
            raise Over

    def close(self) -> bool:
        """Let none begin any more, and have the one under way end soon; whether there is one."""
        with self._lock:
            self._over.set()
            thread = self._thread
        if thread is None or not thread.is_alive():
            return False
        thread.join(END_SECONDS)
        return True

    def _run(self, fault: Fault) -> None:
        self._board.happened("FaultBegan", f"{fault.label}: {fault.tells}", rule=fault.rule)
        shielded(lambda: self._break_and_mend(fault), lambda error: self._failed(fault, error))
        self._board.happened("FaultEnded", f"{fault.label}: over", rule=fault.rule)
        self._running = None

    def _break_and_mend(self, fault: Fault) -> None:
        with suppress(Over):
            fault.begin()
            self._over.wait(fault.seconds)
            self.check()
            fault.end()

    def _failed(self, fault: Fault, error: Exception) -> None:
        """Of what the server said to the administrator, the kind is enough: the text may quote a secret (P1)."""
        text = f"{fault.label}: it did not work ({type(error).__name__})"
        self._board.happened("FaultFailed", text, level="warning", rule=fault.rule)
