"""A web server that does as it is told: for failures that a real Vault cannot be asked for.

It speaks real HTTP on a real socket, so that the whole way from hvac to the network is tested.
"""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = Callable[[BaseHTTPRequestHandler], None]


class Server(ThreadingHTTPServer):
    """A client that hangs up is what is tested here, and nothing to print a traceback for."""

    def handle_error(self, *_: Any) -> None:
        pass


class ScriptedServer:
    """Answers each request with the next of `script`; the last one serves on for ever."""

    def __init__(self, *script: Answer) -> None:
        self.script = list(script)
        self.requests: list[str] = []
        self.closing = threading.Event()
        lock = threading.Lock()

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(handler) -> None:
                length = int(handler.headers.get("Content-Length", 0))
                handler.rfile.read(length)
                with lock:
                    self.requests.append(f"{handler.command} {handler.path.removeprefix('/v1/')}")
                    answer = self.script.pop(0) if len(self.script) > 1 else self.script[0]
                answer(handler)

            do_POST = do_PUT = do_LIST = do_CONNECT = do_GET

            def log_message(self, *_: Any) -> None:
                pass

        self._server = Server(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def speak_tls(self, context: ssl.SSLContext) -> None:
        """From now on its address is an https:// one."""
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.url = self.url.replace("http:", "https:")

    @contextmanager
    def running(self) -> Iterator[ScriptedServer]:
        thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield self
        finally:
            self.closing.set()
            self._server.shutdown()
            self._server.server_close()
            thread.join()

    # ── What it can be told to answer ────────────────────────────────────────────────────────────────────────────────

    def deaf(self) -> Answer:
        """Accepts the request and never answers."""

        def answer(_: BaseHTTPRequestHandler) -> None:
            self.closing.wait(60)

        return answer

    def trickling(self) -> Answer:
        """Sends its body a byte at a time, for ever."""

        def answer(handler: BaseHTTPRequestHandler) -> None:
            start(handler, 200, {"Content-Type": "application/json"})
            self._trickle(handler)

        return answer

    def trickling_headers(self) -> Answer:
        """Sends a header a byte at a time, for ever."""

        def answer(handler: BaseHTTPRequestHandler) -> None:
            handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Endless: ")
            self._trickle(handler)

        return answer

    def _trickle(self, handler: BaseHTTPRequestHandler) -> None:
        handler.close_connection = True
        while not self.closing.wait(0.05):
            try:
                handler.wfile.write(b" ")
            except OSError:
                return


def start(handler: BaseHTTPRequestHandler, status: int, headers: dict[str, str]) -> None:
    handler.send_response(status)
    for name, value in headers.items():
        handler.send_header(name, value)
    handler.end_headers()


def respond(status: int, body: Any = None, **headers: str) -> Answer:
    """A status with a JSON body (or bytes as they are); `Retry_After="1"` becomes a header."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        raw = body if isinstance(body, bytes) else json.dumps(body if body is not None else {"errors": []}).encode()
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        start(handler, status, {"Content-Type": "application/json", "Content-Length": str(len(raw)), **named})
        handler.wfile.write(raw)

    return answer


def truncated(handler: BaseHTTPRequestHandler) -> None:
    """Promises more than it sends."""
    start(handler, 200, {"Content-Type": "application/json", "Content-Length": "1000"})
    handler.wfile.write(b'{"data": ')
    handler.close_connection = True


def hang_up(handler: BaseHTTPRequestHandler) -> None:
    """Closes the connection instead of answering."""
    handler.close_connection = True


def endless(status: int) -> Answer:
    """A body without end."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        start(handler, status, {"Content-Type": "application/json"})
        handler.close_connection = True
        try:
            while True:
                handler.wfile.write(b"x" * 65536)
        except OSError:
            return

    return answer
