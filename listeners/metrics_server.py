"""A second listener, for who watches: /metrics for Prometheus, /livez and /readyz for whoever restarts or routes.

    with MetricsServer("127.0.0.1", 9090, registry, ready=lambda: {"token": True}):
        …

It has threads of its own and answers from memory, so it answers while Vault hangs. It asks nobody who they are, hence
loopback unless told otherwise; what it tells holds no secret.
"""

from __future__ import annotations

import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from http.server import BaseHTTPRequestHandler
from socketserver import ThreadingTCPServer
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from vaultkit.errors import ConfigurationError
from vaultkit.shield import log_unexpected

Checks = Mapping[str, bool | str]
"""What must be well for the program to be of use, by name: True where it is, else False or what is amiss."""

MOST_CONNECTIONS = 16
"""At once; whoever comes beyond them is hung up on."""
LONGEST_CONNECTION_SECONDS = 10.0
LONGEST_SILENCE_SECONDS = 5.0
LOOK_SECONDS = 0.1
"""How often it looks for what has taken too long, and whether it shall end."""
PLAIN = "text/plain; charset=utf-8"


class MetricsServer:
    """Serves a registry and the health of the program, from `start` to `close`, each of which takes less than 1 s.

    `ready` is called at each /readyz, in a thread of the server: it must not wait, and must be cheap.
    """

    def __init__(self, host: str, port: int, registry: CollectorRegistry, ready: Callable[[], Checks]) -> None:
        self._address = (host, port)
        self._pages = Pages(registry, ready)
        self._server: _Server | None = None

    @property
    def port(self) -> int:
        """Where it listens, also if it was told port 0, which means any that is free."""
        return int(self._server.server_address[1]) if self._server else self._address[1]

    def start(self) -> MetricsServer:
        """Listen. Raises: ConfigurationError, where the port is taken or the host is none of this machine's."""
        host, port = self._address
        try:
            server = _Server(self._address, self._pages)
        except OSError as error:
            reason = error.strerror or str(error)
            raise ConfigurationError([f"metrics: cannot listen on {host}, port {port}: {reason}"]) from error
        self._server = server
        threading.Thread(target=server.serve_forever, args=(LOOK_SECONDS,), name="metrics", daemon=True).start()
        return self

    def close(self) -> None:
        """End, also in the midst of answers. Safe to call again."""
        server, self._server = self._server, None
        if server is not None:
            server.shutdown()
            server.server_close()
            server.cut(older_than=0.0)

    def __enter__(self) -> MetricsServer:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Page:
    """One answer."""

    def __init__(self, status: int, body: bytes | str, content_type: str = PLAIN) -> None:
        self.status = status
        self.body = body.encode() if isinstance(body, str) else body
        self.content_type = content_type


class Pages:
    """What is answered to which path."""

    def __init__(self, registry: CollectorRegistry, ready: Callable[[], Checks]) -> None:
        self._registry = registry
        self._ready = ready

    def page(self, target: str, accept: str) -> Page:
        parts = urlsplit(target)
        if parts.path == "/metrics":
            encode, content_type = choose_encoder(accept)
            return Page(200, encode(self._registry), content_type)
        if parts.path == "/livez":
            return Page(200, "ok\n")
        if parts.path == "/readyz":
            return readiness(self._ready(), verbose=parts.query.startswith("verbose"))
        return Page(404, "/metrics, /livez and /readyz are what is here\n")


def readiness(checks: Checks, *, verbose: bool) -> Page:
    """As Kubernetes' own servers answer it: with `verbose` a line for each check, [+] or [-]."""
    well = all(check is True for check in checks.values())
    lines = [line_of(name, check) for name, check in checks.items()] if verbose else []
    return Page(200 if well else 503, "\n".join([*lines, "ready" if well else "not ready", ""]))


def line_of(name: str, check: bool | str) -> str:
    return f"[+] {name}: ok" if check is True else f"[-] {name}: {check or 'not ok'}"


class _Handler(BaseHTTPRequestHandler):
    timeout = LONGEST_SILENCE_SECONDS
    server_version, sys_version = "metrics", ""
    error_message_format, error_content_type = "%(code)d\n", PLAIN
    server: _Server

    def do_GET(self) -> None:
        page = self.server.pages.page(self.path, self.headers.get("Accept", ""))
        self.send_response(page.status)
        self.send_header("Content-Type", page.content_type)
        self.send_header("Content-Length", str(len(page.body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(page.body)

    do_HEAD = do_GET

    def log_message(self, *_: Any) -> None:
        """Not at all: what strangers ask for is none of the log's."""


class _Server(ThreadingTCPServer):
    """Python's own, with bounds. (Not its HTTPServer, which asks the DNS for the name of the host.)"""

    allow_reuse_address = sys.platform != "win32"  # there it would let two programs listen at once
    daemon_threads = True  # which nobody waits for
    request_queue_size = 4 * MOST_CONNECTIONS  # beyond which the kernel lets clients wait for seconds

    def __init__(self, address: tuple[str, int], pages: Pages) -> None:
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        self.pages = pages
        self._since: dict[Any, float] = {}
        """The open connections, and since when each is."""
        super().__init__(address, _Handler)

    def verify_request(self, request: Any, client_address: Any) -> bool:
        return len(self._since) < MOST_CONNECTIONS

    def process_request(self, request: Any, client_address: Any) -> None:
        self._since[request] = time.monotonic()
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._since.pop(request, None)
        super().shutdown_request(request)

    def service_actions(self) -> None:
        """One that sends a byte now and then is not silent, and shall not stay all the same."""
        self.cut(older_than=LONGEST_CONNECTION_SECONDS)

    def cut(self, *, older_than: float) -> None:
        """Hang up on those; the thread of each then closes its socket."""
        now = time.monotonic()
        for connection, since in list(self._since.items()):
            if now - since >= older_than:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is no error; of anything else the log tells the place (P1)."""
        error = sys.exc_info()[1]
        if isinstance(error, Exception) and not isinstance(error, OSError):
            log_unexpected("metrics", error)
