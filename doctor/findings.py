"""What was found: a line for each thing that was looked at, and for each fault the command to type."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

OK, WARNING, FAULT = "ok", "warning", "fault"


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at. No secret stands in it (P1)."""

    step: str
    """Where on the way of a request."""
    state: str
    """`ok`; `warning` for what works, or was not looked at; `fault` for what keeps the application from working."""
    seen: str
    """In the server's own words where they are known (E1)."""
    command: str = ""
    """What to type; each fault has one."""


class Findings(list[Finding]):
    """All that was found, in the order of the way; `tell` hears of each at once."""

    def __init__(self, tell: Callable[[Finding], object] = lambda finding: None) -> None:
        super().__init__()
        self._tell = tell
        self.interrupted = False
        """Set by whoever wants it to end: at the next thing that is found it does, and gives back what it holds."""

    def ok(self, step: str, seen: str) -> None:
        self._add(Finding(step, OK, seen))

    def warn(self, step: str, seen: str, command: str = "") -> None:
        self._add(Finding(step, WARNING, seen, command))

    def fault(self, step: str, seen: str, command: str) -> None:
        self._add(Finding(step, FAULT, seen, command))

    @property
    def healthy(self) -> bool:
        return not any(finding.state == FAULT for finding in self)

    def _add(self, finding: Finding) -> None:
        if self.interrupted:
            raise SystemExit(1)
        self.append(finding)
        self._tell(finding)
