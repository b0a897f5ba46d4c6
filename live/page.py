"""The page's server: one HTML file, a stream of events, and a button for each fault. On loopback alone.

Whatever the page loads comes from here; its policy allows no other address.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from live.board import Board
from live.faults import Busy, Faults, UnknownFault
from live.guard import Guard, has_token, must_be_loopback
from live.rules import rules_page
from live.streams import Streams, TooMany

HOST = "127.0.0.1"
PORT = 8300
"""The preferred one."""
PAGE = Path(__file__).with_name("page.html")
POLICY = (
    "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; img-src data:; connect-src 'self';"
    " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
END_SECONDS = 2
"""How long the end waits for those who still read."""


class Page:
    """What is served. `faults` is None where nothing may be broken: there are no buttons then."""

    def __init__(self, board: Board, faults: Faults | None, port: int) -> None:
        self._board, self._faults = board, faults
        self._token = secrets.token_urlsafe(32)
        self._streams: Streams | None = None
        self.app = Starlette(
            routes=[
                Route("/", self._page),
                Route("/events", self._events),
                Route("/rules", self._rules),
                Route("/favicon.ico", lambda request: Response(status_code=204)),
                Route("/faults/{name}", self._fault, methods=["POST"]),
            ],
            middleware=[Middleware(Guard, port=port)],
            lifespan=self._lifespan,
        )

    @asynccontextmanager
    async def _lifespan(self, _: Starlette) -> AsyncIterator[None]:
        self._streams = Streams(self._board)
        try:
            yield
        finally:
            await self._streams.close()

    async def end(self) -> None:
        """End the streams, which would go on for ever."""
        if self._streams is not None:
            await self._streams.close()

    async def _page(self, _: Request) -> Response:
        nonce = secrets.token_urlsafe(16)
        text = PAGE.read_text(encoding="utf-8").replace("{{nonce}}", nonce).replace("{{token}}", self._token)
        return html(text, nonce)

    async def _rules(self, _: Request) -> Response:
        nonce = secrets.token_urlsafe(16)
        text = rules_page(nonce)
        return PlainTextResponse("docs/RULES.md is not here\n", 404) if text is None else html(text, nonce)

    async def _events(self, _: Request) -> ASGIApp | Response:
        assert self._streams is not None
        try:
            return self._streams.open()
        except TooMany:
            return PlainTextResponse("too many streams; close another page\n", 503)

    async def _fault(self, request: Request) -> Response:
        """Begin a fault. The token is looked at first: who has none learns nothing."""
        name = request.path_params["name"]
        if not has_token(request.headers, self._token):
            return JSONResponse({"error": "wrong token: load the page anew"}, 403)
        try:
            if self._faults is None:
                raise UnknownFault(name)
            self._faults.start(name)
        except UnknownFault:
            return JSONResponse({"error": "there is no such fault"}, 404)
        except Busy:
            return JSONResponse({"error": "another fault is under way"}, 409)
        return JSONResponse({"name": name, "started": True}, 202)


def html(text: str, nonce: str) -> HTMLResponse:
    return HTMLResponse(text, headers={"Content-Security-Policy": POLICY.format(nonce=nonce)})


# ── Serving it ───────────────────────────────────────────────────────────────────────────────────────────────────────


def listen(port: int = PORT, host: str = HOST) -> socket.socket:
    """A listener at the preferred port, or at any if that is taken. Raises: NotLoopback."""
    must_be_loopback(host)
    for wanted in (port, 0):
        listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, wanted))
        except OSError:
            listener.close()
            if wanted == 0:
                raise
            continue
        listener.listen(64)
        return listener
    raise AssertionError("unreachable")


class Server(uvicorn.Server):
    """uvicorn's, which ends the streams before it waits for who still reads."""

    def __init__(self, config: uvicorn.Config, page: Page) -> None:
        super().__init__(config)
        self._page = page

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await self._page.end()
        await super().shutdown(sockets)


EXPECTED = ("without completing response", "timeout graceful shutdown exceeded")
"""What uvicorn complains of when a reader is dropped, as it is to be."""


def is_news(record: logging.LogRecord) -> bool:
    return not record.getMessage().rstrip(".").endswith(EXPECTED)


@contextmanager
def served(board: Board, faults: Faults | None, listener: socket.socket) -> Iterator[str]:
    """The page, in a thread of its own; its address."""
    host, port = listener.getsockname()[:2]
    page = Page(board, faults, port)
    config = uvicorn.Config(
        page.app, loop="asyncio", http="h11", ws="none", lifespan="on", log_level="error", access_log=False,
        timeout_graceful_shutdown=END_SECONDS, server_header=False, timeout_keep_alive=5,
    )  # fmt: skip
    logging.getLogger("uvicorn.error").addFilter(is_news)
    server = Server(config, page)
    thread = threading.Thread(target=lambda: asyncio.run(server.serve([listener])), name="live-page", daemon=True)
    thread.start()
    try:
        yield f"http://{f'[{host}]' if ':' in host else host}:{port}/"
    finally:
        server.should_exit = True
        thread.join(END_SECONDS + 1)
        listener.close()
