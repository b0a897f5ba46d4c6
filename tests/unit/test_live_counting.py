"""The live page: the requests, and the least that the rules demand."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from config_loader import VaultConfig
from live.audit import AuditLog, Tail
from live.counting import Counting, Pace
from tests.fakes import ROLE_ID, SECRET_ID

CONFIG = VaultConfig.load(environ={"VAULT_ROLE_ID": ROLE_ID, "VAULT_SECRET_ID": SECRET_ID})
SNAPSHOT: dict[str, Any] = {
    "type": "snapshot",
    "show_secrets": False,
    "token": {"state": "valid", "generation": 1, "ttl": 20.0, "granted": 20.0, "renewed": 0},
    "secrets": [],
    "threads": [],
    "pool": None,
}


# ── The least ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_pace_is_asked_at_once_and_then_each_interval() -> None:
    pace = Pace()
    pace.advance(100, 5)
    assert pace.requests == 0  # nobody has begun
    pace.anew()
    pace.advance(12, 5)
    assert pace.requests == 3
    pace.anew()  # out of turn
    pace.advance(4, 5)
    assert pace.requests == 4
    pace.advance(1.1, 5)
    pace.anew()  # when it was due: the same request
    assert pace.requests == 5


def happened(kind: str, **facts: Any) -> dict[str, Any]:
    return {"kind": kind, "engine": None, "first": False, "rule": None, **facts}


def test_least_is_what_the_rules_demand(monkeypatch: pytest.MonkeyPatch) -> None:
    """The formula, by hand: a token of 20 s, a lease of 25 s, KV each 5 s, a static password cached for 300 s."""
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    counting = Counting(CONFIG)
    secrets = [
        {"engine": "database_dynamic", "granted": 25.0, "ttl": 20.0},
        {"engine": "database_static", "granted": 300.0, "ttl": 9.0},
    ]
    snapshot = {**SNAPSHOT, "secrets": secrets}
    counting.hear(happened("LoggedIn"))
    for engine in ("kv_secret", "database_dynamic", "database_static"):
        counting.hear(happened("SecretChanged", engine=engine, first=True))
    assert counting.least() == 4
    now[0] += 50
    counting.advance(snapshot, answering=True)
    assert counting.least() == 4 + 3 + 10 + 2 + 0  # 50/16, 50/5, 50/20, 50/300
    now[0] += 1000
    counting.advance(snapshot, answering=False)  # an outage: nothing could be asked
    assert counting.least() == 19
    counting.hear(happened("SecretChanged", engine="kv_secret"))  # a new version: its values
    counting.hear(happened("TokenLost", rule="T9"))  # a 403, and lookup-self
    assert counting.least() == 22
    counting.hear(happened("TokenLost", rule="T1"))  # it ran out, of which one learns from no request
    for _ in range(3):
        counting.hear(happened("TurnFailed", rule="K3"))  # deleted: that is learned once
    assert counting.least() == 23
    counting.hear(happened("LoggedIn"))
    counting.hear(happened("SecretChanged", engine="database_dynamic"))
    assert counting.least() == 25
    counting.start()
    assert counting.least() == 0


def test_overdue_rotation_is_asked_about_each_second(monkeypatch: pytest.MonkeyPatch) -> None:
    """S1."""
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    counting = Counting(CONFIG)
    counting.hear(happened("SecretChanged", engine="database_static", first=True))
    now[0] += 4.5
    secrets = [{"engine": "database_static", "granted": 30.0, "ttl": 0.0}]
    counting.advance({**SNAPSHOT, "secrets": secrets}, answering=True)
    assert counting.facts(0)["least"] == 5


# ── The audit log ─────────────────────────────────────────────────────────────────────────────────────────────────────


def entry(path: str, **others: Any) -> bytes:
    request = {"operation": "read", "path": path, "client_token": "hmac-sha256:secret"}
    whole = {"type": "response", "time": "2026-11-28T15:24:58.123456789Z", "request": request, **others}
    return json.dumps(whole).encode() + b"\n"


OURS: dict[str, Any] = {"auth": {"display_name": "approle", "metadata": {"role_name": "my-vault-app"}}}
ROOT: dict[str, Any] = {"auth": {"display_name": "root"}}


def test_tail_follows_a_file(tmp_path: Path) -> None:
    """From its end on; half a line is not one; renamed, the rest is read first; cut short, from the beginning."""
    path = tmp_path / "audit.log"
    path.write_bytes(b"before\n")
    tail = Tail(path)
    with path.open("ab") as log:
        log.write(b"one\ntw")
    assert list(tail.lines()) == [b"one"]
    with path.open("ab") as log:
        log.write(b"o\n")
    path.rename(tmp_path / "audit.log.1")
    assert list(tail.lines()) == [b"two"]
    with (tmp_path / "audit.log.1").open("ab") as log:
        log.write(b"three\n")
    path.write_bytes(b"four\n")
    assert list(tail.lines()) == [b"three", b"four"]
    path.write_bytes(b"5\n")
    assert list(tail.lines()) == [b"5"]
    tail.close()


def test_audit_log_tells_ours_from_others(tmp_path: Path) -> None:
    """By the role; what nobody is known to have asked is ours if it is a login, or came with a dead token."""
    path = tmp_path / "audit.log"
    path.touch()
    log = AuditLog(path, CONFIG)
    login = {"operation": "update", "path": "auth/approle/login"}
    path.write_bytes(
        b"no JSON\n[]\n"
        + entry("my-vault-app-kv/data/database", **OURS)
        + entry("my-vault-app-kv/data/database", **ROOT)
        + entry("my-vault-app-kv/data/database", auth={"metadata": {"role_name": "another"}})
        + entry("my-vault-app-database/creds/a", auth={}, error="1 error occurred:\n\t* denied\n\n")
        + json.dumps({"type": "response", "time": "2026-11-28T15:24:58Z", "request": login, "error": "no"}).encode()
        + b"\n"
        + json.dumps({"type": "request"}).encode()
    )  # fmt: skip
    found = log.requests()
    log.close()
    assert [(each["kind"], each["ours"], each["status"]) for each in found] == [
        ("kv", True, "ok"), ("kv", False, "ok"), ("kv", False, "ok"),
        ("dynamic", True, "denied"), ("token", True, "no"),
    ]  # fmt: skip
    assert set(found[0]) == {"at", "method", "path", "kind", "status", "ours"}
    assert "hmac" not in json.dumps(found)
