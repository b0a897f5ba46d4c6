"""The second listener: what it answers, how it is bounded, how it ends."""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPResponse

import pytest
from prometheus_client import CollectorRegistry, Counter
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse

from listeners import metrics_server
from listeners.metrics_server import MOST_CONNECTIONS, Checks, MetricsServer
from tests.integration.conftest import eventually
from vaultkit.errors import ConfigurationError

HOST = "127.0.0.1"


class Watched:
    """A program that is watched: its server, and what its checks say."""

    def __init__(self) -> None:
        self.checks: Checks = {"token": True, "kv": True}
        self.registry = CollectorRegistry()
        Counter("apples", "Apples.", registry=self.registry).inc(3)
        self.server = MetricsServer(HOST, 0, self.registry, lambda: self.checks)
        self._of_others = set(threading.enumerate())

    def ask(self, path: str, method: str = "GET", **headers: str) -> tuple[HTTPResponse, str]:
        connection = HTTPConnection(HOST, self.server.port, timeout=10)
        try:
            connection.request(method, path, headers=headers)
            response = connection.getresponse()
            return response, response.read().decode()
        finally:
            connection.close()

    def answering(self) -> int:
        """How many of its threads hold a connection."""
        names = [thread.name for thread in set(threading.enumerate()) - self._of_others]
        return sum("process_request_thread" in name for name in names)


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A silent client is not hung up on for being silent."""
    monkeypatch.setattr(metrics_server._Handler, "timeout", 60.0)


@pytest.fixture
def watched() -> Iterator[Watched]:
    watched = Watched()
    with watched.server:
        yield watched


def test_metrics_are_those_of_the_registry(watched: Watched) -> None:
    """In the format that Prometheus reads, and in OpenMetrics where it asks for that."""
    response, text = watched.ask("/metrics")
    assert [family.name for family in parse(text)] == ["apples", "apples_created"]
    assert response.headers["Content-Type"].startswith("text/plain; version=")
    response, text = watched.ask("/metrics", Accept="application/openmetrics-text; version=1.0.0")
    families = parse_openmetrics(text)  # type: ignore[no-untyped-call]
    assert [family.name for family in families] == ["apples"]
    assert response.headers["Content-Type"].startswith("application/openmetrics-text")


def test_ready_only_if_all_is_well(watched: Watched) -> None:
    """The status says it; with ?verbose each check has a line."""
    assert watched.ask("/readyz")[0].status == 200
    watched.checks = {"token": True, "kv": "nothing read yet", "idp": False}
    response, text = watched.ask("/readyz?verbose")
    assert (response.status, text) == (503, "[+] token: ok\n[-] kv: nothing read yet\n[-] idp: not ok\nnot ready\n")
    watched.checks = {"kv": "nothing read yet"}
    assert watched.ask("/readyz")[0].status == 503
    assert watched.ask("/livez")[0].status == 200


def test_head_has_no_body(watched: Watched) -> None:
    """By the bytes: http.client would not look at one."""
    with socket.create_connection((HOST, watched.server.port), timeout=10) as client, client.makefile("rb") as answer:
        client.sendall(b"HEAD /livez HTTP/1.0\r\n\r\n")
        head, body = answer.read().split(b"\r\n\r\n")
    assert b"Content-Length: 3" in head
    assert body == b""


@pytest.mark.parametrize(
    ("path", "method", "status"),
    [("/", "GET", 404), ("/metrics/", "GET", 404), ("/livez", "HEAD", 200), ("/livez", "POST", 501)],
)
def test_there_is_nothing_else(watched: Watched, path: str, method: str, status: int) -> None:
    """What a stranger asks for comes back in no answer."""
    response, text = watched.ask(path, method)
    assert response.status == status
    assert "POST" not in text


def test_answers_carry_no_names_of_versions(watched: Watched) -> None:
    """Neither Python's nor ours."""
    assert watched.ask("/livez")[0].headers["Server"].strip() == "metrics"


def test_check_that_raises_harms_one_answer(watched: Watched, caplog: pytest.LogCaptureFixture) -> None:
    """The connection is closed, the log tells where it was and not what it said, and the next answer comes."""

    class Broken(dict[str, bool]):
        def values(self) -> object:  # type: ignore[override]
            raise ValueError("hunter" + str(len(self) + 2))

    watched.checks = Broken()
    with caplog.at_level(logging.ERROR), pytest.raises(ConnectionError):
        watched.ask("/readyz")
    eventually(lambda: "unexpected ValueError" in caplog.text)
    assert "hunter2" not in caplog.text
    assert watched.ask("/livez")[0].status == 200


@pytest.mark.usefixtures("patient")
def test_silent_clients_are_bounded(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    """So many connections and no more; those that take too long make room, though they send a byte now and then."""
    silent = [socket.create_connection((HOST, watched.server.port), timeout=10) for _ in range(2 * MOST_CONNECTIONS)]
    try:
        eventually(lambda: watched.answering() == MOST_CONNECTIONS)
        for each in silent[:MOST_CONNECTIONS]:
            each.sendall(b"G")
        with pytest.raises((ConnectionError, TimeoutError)):
            watched.ask("/livez")
        monkeypatch.setattr(metrics_server, "LONGEST_CONNECTION_SECONDS", 0.0)
        eventually(lambda: watched.answering() == 0)
        monkeypatch.setattr(metrics_server, "LONGEST_CONNECTION_SECONDS", 10.0)
        assert watched.ask("/livez")[0].status == 200
    finally:
        for each in silent:
            each.close()


def test_port_that_is_taken_is_said_in_words(watched: Watched) -> None:
    """With the port, and without a traceback from below."""
    second = MetricsServer(HOST, watched.server.port, watched.registry, dict)
    with pytest.raises(ConfigurationError, match=f"cannot listen on {HOST}, port {watched.server.port}: Address alr"):
        second.start()
    second.close()


def test_host_of_another_machine_is_said_in_words() -> None:
    """192.0.2.1 is nobody's (RFC 5737)."""
    with pytest.raises(ConfigurationError, match=r"cannot listen on 192\.0\.2\.1"):
        MetricsServer("192.0.2.1", 0, CollectorRegistry(), dict).start()


@pytest.mark.usefixtures("patient")
def test_x1_end_waits_for_nobody(watched: Watched) -> None:
    """A client in the midst of its request is hung up on; the port is free again."""
    with socket.create_connection((HOST, watched.server.port), timeout=10) as slow:
        slow.sendall(b"GET /livez HTTP/1.1\r\n")
        eventually(lambda: watched.answering() == 1)
        port, started = watched.server.port, time.monotonic()
        watched.server.close()
        assert time.monotonic() - started < 5
        assert slow.recv(100) == b""
    with MetricsServer(HOST, port, watched.registry, dict) as again:
        assert again.port == port
    watched.server.close()
