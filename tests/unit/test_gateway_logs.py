"""The access log and the audit trail: one line each, of listed fields, and what a full disk does to the trail."""

from __future__ import annotations

import dataclasses
import io
import json
import logging
import os
import stat
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import access_log, audit
from gateway.access_log import AccessLog, Answered
from gateway.audit import OUTCOMES, AuditTrail, Deed
from gateway.fields import NOT_SHOWN, json_line

JWT = "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJhbGljZSJ9.c2lnbmF0dXJl"
TOKENS = [JWT, f"Bearer {JWT}", "hvs.CAESIJ2bxyz0123456789abcdef", "s.0123456789abcdefghijklmn"]
VALUES = [{"password": "hunter2"}, ["hunter2"], b"hunter2", ValueError("hunter2"), 1j]
ANSWER = Answered(
    request_id="r-1", status=200, ms=0.4, tenant="acme", verb="read", path="app/db", version=7, cache="hit",
    sub="alice", kid="k/1",
)  # fmt: skip
DEED = Deed(request_id="r-1", verb="write", outcome="ok", sub="a1", username="alice", tenant="acme", path="app/db")


def field_names(kind: type[Any]) -> list[str]:
    return [field.name for field in dataclasses.fields(kind)]


LISTED = [(ANSWER, access_log.FIELDS), (DEED, audit.FIELDS)]
EACH_FIELD = [(thing, fields, name) for thing, fields in LISTED for name in fields]


def test_answer_is_a_line() -> None:
    """Every field, by its name; what is not known is not there."""
    stream = io.StringIO()
    log = AccessLog(stream, clock=lambda: 1795465041.5)
    log.write(ANSWER)
    log.write(Answered(request_id="r-2", status=401, ms=0.1))
    first, second = map(json.loads, stream.getvalue().splitlines())
    assert first == {"time": "2026-11-23T20:17:21.500Z", **dataclasses.asdict(ANSWER)}
    assert second.keys() == {"time", "request_id", "status", "ms"}


def test_stream_that_takes_no_more_is_told_of_once(caplog: pytest.LogCaptureFixture) -> None:
    """A full disk, or a pipe that nobody reads, ends no request."""
    stream = io.StringIO()
    stream.close()
    log = AccessLog(stream)
    log.write(ANSWER)
    log.write(ANSWER)
    assert [record.message for record in caplog.records] == ["the access log cannot be written: ValueError"]


@pytest.mark.parametrize(("thing", "fields"), LISTED)
def test_fields_are_those_of_the_list(thing: object, fields: dict[str, Any]) -> None:
    """An object has no field that the list does not check."""
    assert sorted(field_names(type(thing))) == sorted(fields)


@pytest.mark.parametrize(("thing", "fields", "name"), EACH_FIELD)
def test_p1_canary_gets_into_no_field(thing: Any, fields: dict[str, Any], name: str) -> None:
    """A JWT, a token, a value or an error that was put there by mistake."""
    for canary in (*TOKENS, *VALUES):
        told = json.loads(json_line(dataclasses.replace(thing, **{name: canary}), fields, 0))
        assert told[name] == NOT_SHOWN
        assert {key: told[key] for key in fields if key != name and key in told} == {
            key: getattr(thing, key) for key in fields if key != name and getattr(thing, key) is not None
        }


CLOSED = ("request_id", "tenant", "verb", "outcome", "status", "version", "ms", "cache")


@pytest.mark.parametrize("name", CLOSED)
def test_p1_text_of_a_secret_gets_into_no_closed_field(name: str) -> None:
    """Even a short one, with a character that ids and names have not; paths and subjects are open by their nature."""
    for thing, fields in LISTED:
        if name in fields:
            told = json_line(dataclasses.replace(thing, **{name: "hunter 2!"}), fields, 0)  # type: ignore[type-var]
            assert "hunter" not in told


@given(st.text(max_size=300))
def test_line_is_one_line(text: str) -> None:
    """Whatever a subject or a path holds: CR, LF, U+2028, half a surrogate pair."""
    for thing, fields in LISTED:
        changed = dataclasses.replace(thing, sub=text + "\r\n\u2028\ud800", path=text)  # type: ignore[type-var]
        line = json_line(changed, fields, 0)
        assert line.isascii()
        assert len(line.splitlines()) == 1
        assert json.loads(line)["request_id"] == "r-1"


def test_ordinary_paths_are_shown() -> None:
    """What only begins like a token is none."""
    for path in ("app/keyJanuary2026.json", "apps.configuration-of-the-shop", "s.short", "team/bearer"):
        assert json.loads(json_line(dataclasses.replace(DEED, path=path), audit.FIELDS, 0))["path"] == path


class TestTrail:
    def test_deeds_are_appended(self, tmp_path: Path) -> None:
        """To what stands there already; for its owner alone."""
        path = tmp_path / "audit.jsonl"
        for outcome in OUTCOMES[:2]:
            trail = AuditTrail(path)
            assert trail.write(dataclasses.replace(DEED, outcome=outcome))
            trail.close()
            trail.close()
        assert [json.loads(line)["outcome"] for line in path.read_text().splitlines()] == ["asked", "ok"]
        assert stat.S_IMODE(path.stat().st_mode) == 0o600

    def test_line_is_there_at_once(self, tmp_path: Path) -> None:
        """Nothing waits in a buffer for the process to be killed."""
        trail = AuditTrail(tmp_path / "audit.jsonl")
        trail.write(DEED)
        assert (tmp_path / "audit.jsonl").read_text().endswith("}\n")
        trail.close()

    def test_file_that_was_moved_away_is_left(self, tmp_path: Path) -> None:
        """As logrotate does it."""
        path = tmp_path / "audit.jsonl"
        trail = AuditTrail(path)
        trail.write(DEED)
        path.rename(tmp_path / "audit.jsonl.1")
        trail.write(DEED)
        trail.close()
        assert [len(each.read_text().splitlines()) for each in sorted(tmp_path.iterdir())] == [1, 1]

    def test_threads_do_not_mix_lines(self, tmp_path: Path) -> None:
        """Neither do two trails on one file, as two processes have them."""
        path = tmp_path / "audit.jsonl"
        trails = [AuditTrail(path), AuditTrail(path)]
        deed = dataclasses.replace(DEED, path="x" * 128)
        writers = [threading.Thread(target=lambda t=t: [t.write(deed) for _ in range(200)]) for t in trails * 2]
        for writer in writers:
            writer.start()
        for writer in writers:
            writer.join()
        for trail in trails:
            trail.close()
        assert [json.loads(line)["path"] for line in path.read_text().splitlines()] == ["x" * 128] * 800

    @pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a disk that is full")
    def test_full_disk_is_told_and_counted(self, caplog: pytest.LogCaptureFixture) -> None:
        """No line, no answer: `write` says so, the log once, the counter each time."""
        failures: list[int] = []
        trail = AuditTrail(Path("/dev/full"), on_failure=lambda: failures.append(1))
        with caplog.at_level(logging.WARNING):
            assert [trail.write(DEED), trail.write(DEED)] == [False, False]
        trail.close()
        assert len(failures) == 2
        assert caplog.text.count("cannot write to /dev/full: No space left on device") == 1

    def test_folder_that_is_missing_is_no_exception(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        """Once it is there, the trail goes on, and says so."""
        trail = AuditTrail(tmp_path / "later" / "audit.jsonl")
        with caplog.at_level(logging.WARNING):
            assert not trail.write(DEED)
            (tmp_path / "later").mkdir()
            assert trail.write(DEED)
        trail.close()
        assert "can be written to again" in caplog.text

    def test_line_that_was_cut_off_spoils_no_other(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Of what the disk took in part, the rest never comes; the next begins on a line of its own. (A fake disk.)"""
        path, write = tmp_path / "audit.jsonl", os.write
        trail = AuditTrail(path)
        with monkeypatch.context() as full:
            full.setattr(os, "write", lambda file, line: write(file, line[:20]))
            assert not trail.write(DEED)
        assert trail.write(DEED)
        trail.close()
        cut_off, whole = path.read_text().splitlines()
        assert len(cut_off) == 20
        assert json.loads(whole)["verb"] == "write"

    def test_line_that_a_process_before_cut_off_spoils_none(self, tmp_path: Path) -> None:
        """The same after a restart."""
        path = tmp_path / "audit.jsonl"
        path.write_text('{"time": ')
        trail = AuditTrail(path)
        trail.write(DEED)
        trail.close()
        assert json.loads(path.read_text().splitlines()[1])["verb"] == "write"
