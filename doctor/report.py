"""The doctor on the command line: lines as they are found, or one JSON object; and the exit status."""

from __future__ import annotations

import json
import os
import sys
import time
from dataclasses import asdict
from io import TextIOWrapper
from pathlib import Path

from listeners.signals import SignalHandler
from listeners.streams import cannot_write, complain, silence
from vaultkit.shield import log_unexpected, shielded
from vaultkit.transport.answers import printable

from .examination import examine
from .findings import FAULT, OK, WARNING, Finding, Findings

HEALTHY, ILL = 0, 1
"""The exit statuses."""
MARKS = {OK: "✓", WARNING: "!", FAULT: "✗"}
STEP_WIDTH = 11


def consult(path: str | Path, *, as_json: bool) -> int:
    """Examine, print what is found, and return the exit status: 1 if anything is a fault.

    The first Ctrl+C, or another ending signal, ends it in order: the token that it got is revoked.
    """
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal may know no ✓
    page = Page()
    findings = Findings(lambda finding: None if as_json else page.write(line(finding)))
    SignalHandler(lambda name: setattr(findings, "interrupted", True))
    started = time.monotonic()
    shielded(lambda: examine(path, os.environ, findings), lambda error: unexpected(error, findings))
    took = time.monotonic() - started
    page.write(as_one_object(findings, took) if as_json else last_line(findings, took))
    return HEALTHY if page.is_whole() and findings.healthy else ILL


class Page:
    """Writes to stdout. One that takes no more ends nothing half-way; a full disk is told of at the end."""

    def __init__(self) -> None:
        self._failure: OSError | None = None

    def write(self, text: str) -> None:
        if self._failure is not None:
            return
        try:
            print(text, flush=True)
        except OSError as error:
            self._failure = error
            silence(sys.stdout)

    def is_whole(self) -> bool:
        """Whether all was written, or the reader left, who has seen enough."""
        if self._failure is None or isinstance(self._failure, ConnectionError):
            return True
        complain(cannot_write(self._failure))
        return False


def unexpected(error: Exception, findings: Findings) -> None:
    """What nobody planned for: by its type, for its text may quote a secret (P1)."""
    log_unexpected("doctor", error)
    findings.fault("doctor", f"unexpected {type(error).__name__}: a mistake of the doctor's own", "see the log above")


def line(finding: Finding) -> str:
    """One finding, and below it the command."""
    first = f"{MARKS[finding.state]} {finding.step:{STEP_WIDTH}} {printable(finding.seen)}"
    return f"{first}\n  {'':{STEP_WIDTH}} → {printable(finding.command)}" if finding.command else first


def last_line(findings: Findings, took: float) -> str:
    count = {state: sum(finding.state == state for finding in findings) for state in MARKS}
    verdict = "nothing is wrong" if findings.healthy else f"wrong: {count[FAULT]}"
    doubts = f", to be looked at: {count[WARNING]}" if count[WARNING] else ""
    return f"{verdict}{doubts} ({len(findings)} things looked at in {took:.1f} s)"


def as_one_object(findings: Findings, took: float) -> str:
    body = {"healthy": findings.healthy, "seconds": round(took, 3), "findings": [asdict(each) for each in findings]}
    return json.dumps(body, indent=2, ensure_ascii=False)
