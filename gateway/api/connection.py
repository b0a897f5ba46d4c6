"""One connection, within bounds: of what comes before a request is one, neither uvicorn nor its parser has any.

The gate bounds what it is given: headers that came whole, and the body. Here ends who sends a header without an end, or
keeps a connection and asks nothing; and nothing that follows an upgrade is taken for a request.
"""

from __future__ import annotations

import asyncio
from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MOST_BYTES = 131_072
"""So many may come without anything coming of them: twice what [gateway_limits] header_size can be."""
LONGEST_WAIT_SECONDS = 10.0
"""From the first byte of a request, or from the beginning of the connection, to the last of its headers."""
BODY_HEADERS = (b"content-length", b"transfer-encoding")
TOO_LARGE = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\ncache-control: no-store\r\n"
    b"connection: close\r\n\r\n"
)


class BodyWithUpgrade(Exception):
    """The parser takes what follows an upgrade for no body, and so would take the body for a request."""


class Gathering:
    """A transport that writes at the end of each turn of the loop, and then all at once.

    uvicorn writes head and body apart. Under load many answers come of one turn, and each that is written alone may
    wake the process that waits for it, which takes longer than to make it.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport, self._loop = transport, loop
        self._gathered: list[bytes] = []

    def write(self, data: bytes) -> None:
        if not self._gathered:
            self._loop.call_soon(self._write)
        self._gathered.append(data)

    def close(self) -> None:
        self._write()
        self._transport.close()

    def __getattr__(self, name: str) -> Any:
        """All else is the transport's."""
        return getattr(self._transport, name)

    def _write(self) -> None:
        gathered, self._gathered = self._gathered, []
        if gathered and not self._transport.is_closing():
            self._transport.write(b"".join(gathered))


class Connection(HttpToolsProtocol):
    """uvicorn's, with bounds. Requests that come whole cost no timer."""

    _pending = 0
    _wait: asyncio.TimerHandle | None = None
    _is_deaf = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(cast("asyncio.Transport", Gathering(cast("asyncio.Transport", transport), self.loop)))
        self.access_log = False  # whoever listens to its logger: it writes paths and queries as they came
        self._wait = self.loop.call_later(LONGEST_WAIT_SECONDS, self._hang_up)

    def connection_lost(self, exc: Exception | None) -> None:
        self._end_wait()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._is_deaf:
            return
        self._pending += len(data)
        super().data_received(data)
        if self._pending > MOST_BYTES:
            if not self._is_answering():
                self.transport.write(TOO_LARGE)
            self._hang_up()
        elif self._wait is None and not self._is_answering():
            self._wait = self.loop.call_later(LONGEST_WAIT_SECONDS, self._hang_up)

    def on_headers_complete(self) -> None:
        """Raises: BodyWithUpgrade, which the parser makes a 400."""
        self._pending = 0
        self._end_wait()
        upgrades = self.parser.should_upgrade()
        if upgrades and any(name in BODY_HEADERS and value != b"0" for name, value in self.headers):
            raise BodyWithUpgrade
        super().on_headers_complete()
        self.headers = []  # what follows a body is no header of the request: its trailers go here
        if upgrades:
            self._is_deaf, self.cycle.keep_alive = True, False

    def on_body(self, body: bytes) -> None:
        self._pending = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._pending = 0
        self._end_wait()
        super().on_message_complete()

    def _is_answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _end_wait(self) -> None:
        if self._wait is not None:
            self._wait.cancel()
            self._wait = None

    def _hang_up(self) -> None:
        if not self.transport.is_closing():
            self.transport.close()
