"""What a proxy can be told to do to a connection, beside those things that `devserver.proxy` knows."""

from __future__ import annotations

import json
from typing import Any

from devserver.proxy import Behaviour, Exchange


def reset_at_once(exchange: Exchange) -> None:
    """The connection breaks while the request is on its way."""
    exchange.reset()


def reset_in_the_answer(exchange: Exchange) -> None:
    """The connection breaks in the middle of the answer."""
    exchange.client.sendall(b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 500\r\n\r\n{"dat')
    exchange.reset()


def trickle(exchange: Exchange) -> None:
    """A correct answer at one byte a second, from the status line on."""
    for byte in response(200, b"{}"):
        exchange.client.sendall(bytes([byte]))
        if exchange.proxy.ended.wait(1.0):
            return


def answer(status: int, body: Any = None, kind: str = "application/json", **headers: str) -> Behaviour:
    """The same answer to every request: JSON, or bytes as they are; `Retry_After="1"` becomes a header."""
    raw = body if isinstance(body, bytes) else json.dumps(body if body is not None else {"errors": []}).encode()

    def behaviour(exchange: Exchange) -> None:
        exchange.client.sendall(response(status, raw, kind, **headers))

    return behaviour


def response(status: int, body: bytes, kind: str = "application/json", **headers: str) -> bytes:
    head = {"Content-Type": kind, "Content-Length": str(len(body)), "Connection": "close", **headers}
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in head.items())
    return f"HTTP/1.1 {status} Whatever\r\n{lines}\r\n".encode() + body
