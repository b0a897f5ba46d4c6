"""Who may use the page: a browser on this machine that was given the page by this very server.

A site elsewhere can have a browser send requests here (CSRF), or give its own name this machine's address (DNS
rebinding). So `Host` must be ours, `Origin`, where it is sent, too, and a button needs the token that is in the page.
An image or a frame of theirs comes without an `Origin`: of these `Sec-Fetch-Site` tells, which no page can change.
"""

from __future__ import annotations

import ipaddress
import secrets

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

NAMES = ("127.0.0.1", "localhost", "[::1]")
TOKEN_HEADER = "x-live-token"
SAFE_HEADERS = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}


class NotLoopback(Exception):
    """The page is for this machine alone: who sees it can press its buttons."""


def must_be_loopback(host: str) -> None:
    """Raises: NotLoopback."""
    try:
        if ipaddress.ip_address(host).is_loopback:
            return
    except ValueError:
        pass
    raise NotLoopback(f'"{host}" is no loopback address, and the page is for this machine alone: expected 127.0.0.1')


class Guard:
    """Lets none but our own page in, and says of every answer that it is for nobody else."""

    def __init__(self, app: ASGIApp, port: int) -> None:
        self._app = app
        self._hosts = {f"{name}:{port}" for name in NAMES}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_safely(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in SAFE_HEADERS.items():
                    headers[name] = value
            await send(message)

        app = self._app if self._is_ours(Headers(scope=scope)) else PlainTextResponse("wrong Host or Origin\n", 403)
        await app(scope, receive, send_safely)

    def _is_ours(self, headers: Headers) -> bool:
        hosts, origins = headers.getlist("host"), headers.getlist("origin")
        if len(hosts) != 1 or hosts[0].lower() not in self._hosts:
            return False
        return all(origin.lower() == f"http://{hosts[0].lower()}" for origin in origins) and not is_part_of_another(
            headers
        )


def is_part_of_another(headers: Headers) -> bool:
    """Whether another site loads this as a part of its page. A link there that is followed is none."""
    return (
        headers.get("sec-fetch-site", "none") not in ("none", "same-origin")
        and headers.get("sec-fetch-dest") != "document"
    )


def has_token(headers: Headers, token: str) -> bool:
    """Whether the request shows the token of this run."""
    return secrets.compare_digest(headers.get(TOKEN_HEADER, "").encode(), token.encode())
