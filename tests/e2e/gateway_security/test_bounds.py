"""What one sender may take: bodies and headers that lie, that do not end, that do not come; and odd framing."""

from __future__ import annotations

import re
import socket
import threading
import time
from contextlib import closing
from typing import Any

import pytest

from gateway.api import connection
from tests.attacked import VALUES, Attacked, received, reply, request
from tests.integration.conftest import eventually

APP = "/vault/secrets/app"
JSON = b"Content-Type: application/json\r\n"


def put(gateway: Attacked, headers: bytes, body: bytes, path: bytes = b"bounds") -> bytes:
    """A PUT that says of its body whatever it likes."""
    token = gateway.jwt().encode()
    head = b"PUT /vault/secrets/" + path + b" HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + token + b"\r\n"
    return gateway.send(head + headers + b"\r\n" + body)


def chunked(*parts: bytes) -> bytes:
    return b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (*parts, b""))


CHUNKED = JSON + b"Transfer-Encoding: chunked\r\n"


@pytest.mark.parametrize(
    "framing",
    [
        b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        b"Content-Length: 5\r\nContent-Length: 6\r\n", b"Content-Length: 5, 5\r\n", b"Content-Length: +5\r\n",
        b"Content-Length: -5\r\n", b"Content-Length: 0x5\r\n", b"Content-Length: 99999999999999999999999\r\n",
        b"Transfer-Encoding: identity\r\n", b"Transfer-Encoding: xchunked\r\n",
        b"Transfer-Encoding: chunked, chunked\r\n",
        b"Transfer-Encoding: \x0bchunked\r\n", b"Transfer-Encoding : chunked\r\n",
        b"X-Y: a\x00b\r\n", b"X-Y: a\r\n b\r\n",
        b"X-Y: a\rX-Z: b\r\n", b"Connection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 5\r\n",
        b"Connection: Upgrade\r\nUpgrade: x\r\nTransfer-Encoding: chunked\r\n",
    ],
)  # fmt: skip
def test_framing_that_two_may_read_differently_is_refused(gateway: Attacked, framing: bytes) -> None:
    """400, and the connection ends: nothing that follows is taken for a request."""
    raw = put(gateway, JSON + framing, b"0\r\n\r\n" + request(APP, jwt=gateway.jwt()))
    assert raw.startswith(b"HTTP/1.1 400 ")
    assert (raw.count(b"HTTP/1.1"), b"connection: close" in raw.lower(), b"canary" in raw) == (1, True, False)


def test_nothing_after_an_upgrade_is_a_request(gateway: Attacked) -> None:
    """A server that hands on the body of one with Upgrade sees it answered as a request: so requests are smuggled."""
    smuggled = request(APP, jwt=gateway.jwt())
    upgrade = request("/vault/secrets/nothing", jwt=gateway.jwt(), Connection="Upgrade", Upgrade="h2c")
    with closing(gateway.connect()) as connected:
        connected.sendall(upgrade)
        first = received(connected)
        assert reply(first).status == 404  # answered as if there were no Upgrade, which RFC 9110 lets a server do
        assert not is_answered(connected, smuggled)


def is_answered(connected: socket.socket, raw: bytes) -> bool:
    try:
        connected.sendall(raw)
        return connected.recv(65_536) != b""
    except OSError:  # it was reset
        return False


def test_trailers_are_no_headers(gateway: Attacked) -> None:
    """They come after all was decided."""
    trailers = b'If-Match: "1-000000000000"\r\nX-Request-Id: trailer\r\nContent-Type: text/plain\r\n'
    body = chunked(b'{"data": {"a": "b"}}')[:-2] + trailers + b"\r\n"
    assert reply(put(gateway, CHUNKED, body, b"trailers")).status == 201


@pytest.mark.parametrize(
    ("headers", "body", "status", "kind"),
    [
        (b"", b"", 415, "media-type-unsupported"),
        (JSON, b"", 400, "body-malformed"),
        (JSON + b"Content-Length: 0\r\n", b"", 400, "body-malformed"),
        (JSON + b"Content-Length: 50\r\n", b'{"data": {}}', 408, "body-too-slow"),
        (JSON + b"Content-Length: 9223372036854775807\r\n", b'{"data": {}}', 408, "body-too-slow"),
        (JSON + b"Content-Length: 70000\r\n", b"x" * 70_000, 413, "body-too-large"),
        (CHUNKED, chunked(*[b"x" * 1000] * 70), 413, "body-too-large"),
        (CHUNKED, b"ffffffff\r\n" + b"x" * 70_000, 413, "body-too-large"),
        (CHUNKED, chunked(b'{"data"', b': {"a": ', b"1}}")[:-5], 408, "body-too-slow"),
        (CHUNKED, chunked(b'{"data": {"a": ' + b"[" * 9 + b"]" * 9 + b"}}"), 422, "body-refused"),
        (CHUNKED, chunked(b"[" * 60_000), 422, "body-refused"),
        (CHUNKED, chunked(b'{"data": {"n": 9007199254740993}}'), 422, "body-refused"),
        (CHUNKED, chunked(b'{"data": {"a": 1, "a": 2}}'), 422, "body-refused"),
        (CHUNKED, chunked(b'{"data": {"a": "\\ud800"}}'), 422, "body-refused"),
        (CHUNKED, chunked(b'{"data": {"a": NaN}}'), 400, "body-malformed"),
        (CHUNKED, chunked(b'{"data": null}'), 422, "body-refused"),
        (CHUNKED, chunked(b"\xff\xfe{}"), 400, "body-malformed"),
        (CHUNKED + b"Content-Encoding: gzip\r\n", chunked(b"{}"), 415, "media-type-unsupported"),
        (CHUNKED + b"Content-Encoding: identity\r\nContent-Encoding: gzip\r\n", chunked(b"{}"), 400, "header-refused"),
        (CHUNKED + JSON, chunked(b"{}"), 400, "header-refused"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_body_is_what_it_says_or_is_refused(
    gateway: Attacked, headers: bytes, body: bytes, status: int, kind: str
) -> None:
    """A length that lies, none, one without an end, what does not come in half a second, what is no secret."""
    found = reply(put(gateway, headers, body))
    assert (found.status, found.kind) == (status, kind)


def test_values_come_back_as_they_went(gateway: Attacked) -> None:
    """Those that the store keeps; what it would change is refused, above and in unit/test_gateway_bodies.py."""
    data: dict[str, Any] = {
        "n": 2**53,
        "f": 0.1,
        "nul": "a\0b",
        "deep": {"list": [None, True, {}]},
        "": "",
        "\u2028": "\U0001f511",
    }
    assert gateway.ask("/vault/secrets/values", "PUT", body={"data": data}).status in (200, 201)
    assert gateway.ask("/vault/secrets/values").json["data"] == data


def test_headers_are_bounded(gateway: Attacked) -> None:
    """By the setting: one of 20 kB, one of 70 kB, two thousand small ones; and who sent them need be nobody."""
    for headers in (
        {"X-A": "a" * 20_000},
        {"X-A": "a" * 70_000},
        {f"X-{number}": "12345678" for number in range(2000)},
    ):
        for token in ("", gateway.jwt()):
            found = reply(gateway.send(request(APP, jwt=token, **headers)))
            assert (found.status, found.kind) == (431, "headers-too-large")


@pytest.mark.parametrize(
    "begins",
    [
        b"GET /vault/secrets/app HTTP/1.1\r\nX: ", b"GET /vault/", b"GET / HTTP/1.1\r\nX", b"\r\n",
        b"PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: ",
        b"PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2;",
    ],
)  # fmt: skip
def test_what_does_not_end_is_cut_off(gateway: Attacked, begins: bytes) -> None:
    """A header, target, trailer or chunk extension without an end, and empty lines: nobody collects them."""
    with closing(gateway.connect()) as connected:
        connected.sendall(begins)
        more = b"\r\n" * 32_768 if begins == b"\r\n" else b"a" * 65_536
        with pytest.raises(OSError):  # noqa: PT011  # reset, or a broken pipe
            send_for_ever(connected, more)


def send_for_ever(connected: socket.socket, more: bytes) -> None:
    for _ in range(1000):  # 64 MB
        connected.sendall(more)
        time.sleep(0.001)


def test_silence_is_hung_up_on(gateway: Attacked, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who connects and says nothing, or half a header, or a byte now and then; here in 0.3 s instead of 10."""
    monkeypatch.setattr(connection, "LONGEST_WAIT_SECONDS", 0.3)
    for begins in (b"", b"GET / HTTP/1.1\r\nX"):
        with closing(gateway.connect()) as connected:
            connected.sendall(begins)
            started = time.monotonic()
            while connected.recv(65_536):
                pass
            assert time.monotonic() - started < 5
    with closing(gateway.connect()) as connected:
        eventually(lambda: not is_answered(connected, b"\r\n"))


def test_connections_leave_nothing(gateway: Attacked) -> None:
    """Who goes in the middle of whatever: no connection, no request under way, no thread is left."""
    before = threading.active_count()
    token = gateway.jwt()
    for raw in (b"", b"GET", request(APP)[:40], request(APP, jwt=token), request(APP, "PUT", token, {"data": {}})[:-5]):
        for _ in range(5):
            with closing(gateway.connect()) as connected:
                connected.sendall(raw)
    assert gateway.ask(APP, jwt=token).status == 200  # who came before is there by now
    eventually(lambda: gateway.gate._under_way == 0)
    eventually(lambda: gateway.gateway._threads.under_way == 0)
    eventually(lambda: threading.active_count() <= before + 1)


def test_pipelined_requests_are_answered_in_order_each_as_itself(gateway: Attacked) -> None:
    """Of two people on one connection: none borrows the other's token, path or number."""
    mine, theirs = gateway.jwt(), gateway.jwt(tenant="globex", groups=["globex-readers"], sub="other")
    requests = [
        request(APP, jwt=token, X_Request_Id=f"p-{number}")
        for number, token in enumerate([mine, theirs, "x.y.z", mine])
    ]
    with closing(gateway.connect()) as connected:
        connected.sendall(b"".join(requests))
        found = b""
        while found.count(b"x-request-id: p-") < 4 or not found.endswith(b"}\n"):
            found += connected.recv(65_536)
    assert re.findall(rb"x-request-id: (p-\d)", found) == [b"p-0", b"p-1", b"p-2", b"p-3"]
    shown = re.findall(rb'"value":"([^"]+)"|(token-refused)', found)
    assert [b"".join(each).decode() for each in shown] == [
        VALUES["acme"],
        VALUES["globex"],
        "token-refused",
        VALUES["acme"],
    ]
