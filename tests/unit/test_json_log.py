"""--log-format json, and what systemd is told."""

from __future__ import annotations

import json
import logging
import math
import socket
import time
from pathlib import Path

import pytest

from listeners.json_log import JsonFormatter
from listeners.service_manager import ServiceManager
from vaultkit.errors import VaultUnreachable
from vaultkit.events import Event, LoggedIn, LoginFailed, SecretChanged, Stopping
from vaultkit.lifetime import Moment
from vaultkit.secret import Secret

SECRET = Secret("kv_secret", "shop", {"password": "hunter2"}, version=3, lease_id="lease/hunter3", revision=2)


def line_of(message: str, *args: object, level: int = logging.INFO) -> dict[str, object]:
    record = logging.LogRecord("vaultkit", level, __file__, 1, message, args, None)
    line = JsonFormatter().format(record)
    assert "\n" not in line
    found: dict[str, object] = json.loads(line)
    return found


def test_event_is_told_by_fields() -> None:
    """Its class, and what it holds; a time that sorts."""
    line = line_of("%s", LoginFailed(VaultUnreachable("cannot reach Vault"), 2.5), level=logging.WARNING)
    assert line.pop("time")
    assert line == {"level": "WARNING", "event": "LoginFailed", "error": "cannot reach Vault", "retry_in": 2.5}


def test_json_knows_no_infinity() -> None:
    """The TTL of a token that does not expire."""
    assert line_of("%s", LoggedIn(1, math.inf))["ttl"] is None


def test_p1_secret_is_told_by_facts() -> None:
    """No value and no lease of it, and so of the one before."""
    line = line_of("%s", SecretChanged(SECRET, SECRET))
    assert line["secret"] == {"engine": "kv_secret", "name": "shop", "version": 3, "revision": 2, "stale": False}
    assert "hunter" not in json.dumps(line)


def test_other_lines_are_told_by_text() -> None:
    """With who said it, and in which thread."""
    line = line_of("took %d s\nand more", 3)
    assert (line["logger"], line["thread"], line["message"]) == ("vaultkit", "MainThread", "took 3 s\nand more")


@pytest.mark.parametrize(("event", "told"), [(LoggedIn(1, 60.0), b"READY=1"), (Stopping("SIGTERM"), b"STOPPING=1")])
def test_service_manager_is_told(tmp_path: Path, event: Event, told: bytes) -> None:
    """Ready with the first login, and about to end; over a socket as systemd has it."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        ServiceManager({"NOTIFY_SOCKET": str(tmp_path / "notify")})(event)
        assert manager.recv(100, socket.MSG_DONTWAIT) == told


@pytest.mark.parametrize("environ", [{}, {"NOTIFY_SOCKET": "/nobody/is/there"}])
def test_without_service_manager_nothing_is_told(environ: dict[str, str]) -> None:
    """Started by hand, or one that has gone away: no error."""
    ServiceManager(environ)(LoggedIn(1, 60.0))


def test_ttl_of_a_secret_is_that_of_now() -> None:
    """In seconds, rounded."""
    secret = Secret("database_dynamic", "role", {}, expires=Moment.now(time).after(60), clock=time)
    told = line_of("%s", SecretChanged(secret, None))["secret"]
    assert isinstance(told, dict)
    assert 55 < told["ttl"] <= 60
