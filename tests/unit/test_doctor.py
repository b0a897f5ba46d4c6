"""The doctor's words: what is printed, what the clock says, what a JWT says of its own end."""

from __future__ import annotations

import base64
import json
from email.utils import formatdate

import pytest

from config_loader import VaultConfig
from doctor.approle import time_left
from doctor.findings import FAULT, OK, WARNING, Finding, Findings
from doctor.jwt import end_of
from doctor.places import ENGINE_TYPES, places_of, unknown_engines
from doctor.report import as_one_object, consult, last_line, line
from doctor.server import look_at_clock, skew_of
from doctor.tls import tell_of_end


def test_fault_shows_its_command() -> None:
    """On a line below it; and what could steer a terminal is not passed on."""
    assert line(Finding("KV", FAULT, "a\x1b[2J", "vault")) == "✗ KV          a?[2J\n              → vault"
    assert line(Finding("KV", OK, "a")) == "✓ KV          a"


def test_verdict_counts() -> None:
    findings = Findings()
    findings.ok("a", "b")
    findings.warn("a", "b")
    assert last_line(findings, 0.12) == "nothing is wrong, to be looked at: 1 (2 things looked at in 0.1 s)"
    findings.fault("a", "b", "c")
    assert last_line(findings, 1) == "wrong: 1, to be looked at: 1 (3 things looked at in 1.0 s)"
    found = json.loads(as_one_object(findings, 1.0))
    assert (found["healthy"], found["findings"][2]) == (
        False,
        {"step": "a", "state": FAULT, "seen": "b", "command": "c"},
    )


def test_interruption_ends_it_at_the_next_finding() -> None:
    """By an exception, so that what is held is given back."""
    findings = Findings()
    findings.interrupted = True
    with pytest.raises(SystemExit):
        findings.ok("a", "b")


def test_mistake_of_its_own_is_a_finding(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """By its type; its text, which may quote anything, is shown nowhere."""
    monkeypatch.setattr("doctor.report.SignalHandler", lambda on_first: None)
    monkeypatch.setattr("doctor.report.examine", lambda *_: dict[str, str]()["secret"])
    assert consult("config.ini", as_json=False) == 1
    assert capsys.readouterr().out.startswith("✗ doctor      unexpected KeyError: a mistake of")


def test_engine_that_was_added_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that only the kit knows, and not the table of the doctor."""
    monkeypatch.delitem(ENGINE_TYPES, "kv_secret")
    config = VaultConfig.load(environ={"VAULT_SECRET_ID": "x"})
    assert unknown_engines(config) == ["kv_secret"]
    assert {place.section for place in places_of(config)} == {"database_dynamic", "database_static"}


@pytest.mark.parametrize(
    ("date", "skew"), [(1000, 0.0), (999, 0.0), (1005, 4.5), (990, -9.0), (None, None), ("nonsense", None)]
)
def test_skew_is_what_is_sure(date: object, skew: float | None) -> None:
    """Asked at 1000.0, answered at 1000.5: a Date is a whole second, and was set in between."""
    headers = (
        {} if date is None else {"Date": date if isinstance(date, str) else formatdate(float(str(date)), usegmt=True)}
    )
    assert skew_of(headers, 1000.0, 1000.5) == skew


@pytest.mark.parametrize(
    ("skew", "state"), [(None, WARNING), (0.0, OK), (-4.0, OK), (-9.0, WARNING), (61.0, FAULT), (-3600.0, FAULT)]
)
def test_skew_is_judged(skew: float | None, state: str) -> None:
    findings = Findings()
    look_at_clock(skew, findings)
    assert findings[0].state == state


def test_jwt_tells_its_end() -> None:
    """It is read, not checked; what is no JWT has none."""
    claims = base64.urlsafe_b64encode(json.dumps({"exp": 12}).encode()).decode().rstrip("=")
    assert end_of(f"head.{claims}.signature") == 12
    assert [end_of(text) for text in ("", "a", "a.b.c", "a.!!.c", "a.e30.c")] == [None] * 5


def test_secret_id_without_an_end() -> None:
    """As Go writes a time that was never set."""
    assert time_left("0001-01-01T00:00:00Z") == "without an end"
    assert time_left("2001-01-01T00:00:00.123456789Z").startswith("for -")


@pytest.mark.parametrize(
    ("days", "life", "state"), [(60, 90, OK), (10, 90, WARNING), (0.5, 1, OK), (29, 3650, WARNING)]
)
def test_certificate_that_ends_soon(days: float, life: float, state: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With less left than a month, or than a fifth of a short life."""
    ends = 1_800_000_000
    monkeypatch.setattr("doctor.tls.time.time", lambda: ends - days * 86_400)
    findings = Findings()
    tell_of_end({"notBefore": _as_cert(ends - life * 86_400), "notAfter": _as_cert(ends)}, "vault", "vault:1", findings)
    assert findings[0].state == state


def _as_cert(when: float) -> str:
    _, date, month, year, clock, zone = formatdate(when, usegmt=True).split()
    return f"{month} {date} {clock} {year} {zone}"
