"""A TCP proxy between the application and a server, which breaks what passes through it when it is told to.

It passes bytes on as they are, both ways, over connections that are kept alive as the real ones are. Of what the
application sends it looks for the beginnings of HTTP requests, to count them and to know when to strike.
"""

from __future__ import annotations

import re
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from devserver.openbao import HOST

Address = tuple[str, int] | str
"""Host and port, or the path of a Unix socket."""
Behaviour = Callable[["Exchange"], None]
"""What to do with a connection on which a request has just begun."""

CHUNK_BYTES = 65536
MOST_REQUESTS = 100_000
"""So many are remembered, and as many again until there are too many."""
ENDED = (OSError, ValueError)
"""What a socket raises that another thread has ended; the second is TLS's."""
REQUEST = re.compile(rb"(?:^|\r\n\r\n)([A-Z]+ /v1/[^ ]*) HTTP/1\.1\r\n")


class Exchange:
    """One connection of a client, and the proxy's own one to the server.

    Its own thread alone closes the sockets, when no other uses them any more: a number that is free again is soon that
    of another file, and what was meant for the socket would be written there.
    """

    def __init__(self, proxy: Proxy, client: socket.socket) -> None:
        self.proxy = proxy
        self.client = client
        self.server: socket.socket | None = None
        self._back: threading.Thread | None = None

    def run(self) -> None:
        with suppress(*ENDED):
            while data := self.client.recv(CHUNK_BYTES):
                if (behaviour := self.proxy.note(data)) is not None:
                    behaviour(self)
                    break
                self.proxy.ended.wait(self.proxy.delay)
                self.pass_on(data)
        self.end()
        self._close()

    def pass_on(self, data: bytes) -> None:
        if self.server is None:
            self.server = self.proxy.reach_server()
            self._back = threading.Thread(target=self._pass_back, args=(self.server,), daemon=True)
            self._back.start()
        self.server.sendall(data)

    def _pass_back(self, server: socket.socket) -> None:
        with suppress(*ENDED):
            while data := server.recv(CHUNK_BYTES):
                self.client.sendall(data)
        self.end()

    def reset(self) -> None:
        """End the connection with a TCP reset, as a crashed peer or a firewall does. Called by a behaviour."""
        self._shut(self.server)
        self.client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._close()

    def end(self) -> None:
        """Tell both sides that this is the end, and wake the threads that wait for them."""
        self._shut(self.client)
        self._shut(self.server)

    @staticmethod
    def _shut(each: socket.socket | None) -> None:
        if each is not None:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def _close(self) -> None:
        if self._back is not None:
            self._back.join()
        for each in (self.client, self.server):
            if each is not None:
                each.close()


class Proxy:
    """Listens on a port of its own; `behaviour` None passes everything on."""

    def __init__(self, server: Address, *, tls: ssl.SSLContext | None = None) -> None:
        self.server = server
        self.tls = tls
        self.requests: list[tuple[float, str]] = []
        """When each request of a client came, by the monotonic clock, and its method and path."""
        self.delay = 0.0
        """How long a request is held up that is passed on, seconds."""
        self._behaviour: Behaviour | None = None
        self._only = ""
        self._exchanges: list[Exchange] = []
        self._lock = threading.Lock()
        self.ended = threading.Event()
        self._listener: socket.socket | None = None
        self.port = 0
        self._listen()

    @property
    def url(self) -> str:
        return f"{'https' if self.tls else 'http'}://{HOST}:{self.port}"

    @contextmanager
    def running(self) -> Iterator[Proxy]:
        try:
            yield self
        finally:
            self.ended.set()
            self._stop_listening()
            self.cut()

    # ── What it can be told ──────────────────────────────────────────────────────────────────────────────────────────

    def misbehave(self, behaviour: Behaviour, only: str = "") -> None:
        """From now on, do this to every request; or only to those with this in their paths."""
        self._behaviour, self._only = behaviour, only

    def refuse(self) -> None:
        """From now on nobody listens here, and who was connected is cut off."""
        self._stop_listening()
        self.cut()

    def behave(self) -> None:
        """Pass everything on again."""
        self._behaviour = None
        if self._listener is None:
            self._listen()

    def cut(self) -> None:
        """Cut every connection that there is."""
        with self._lock:
            exchanges, self._exchanges = self._exchanges, []
        for exchange in exchanges:
            exchange.end()

    # ── How it works ─────────────────────────────────────────────────────────────────────────────────────────────────

    def note(self, data: bytes) -> Behaviour | None:
        """Count the requests that begin in these bytes; return what to do instead of passing them on."""
        paths = [match.decode() for match in REQUEST.findall(data)]
        now = time.monotonic()
        self.requests += [(now, path) for path in paths]
        if len(self.requests) > 2 * MOST_REQUESTS:
            self.requests = self.requests[-MOST_REQUESTS:]
        meant = not self._only or any(self._only in path for path in paths)
        return self._behaviour if meant else None

    def count(self, since: float, until: float) -> int:
        return sum(since <= at <= until for at, _ in self.requests)

    def reach_server(self) -> socket.socket:
        if isinstance(self.server, tuple):
            return socket.create_connection(self.server, timeout=None)
        server = socket.socket(socket.AF_UNIX)
        server.connect(self.server)
        return server

    def _listen(self) -> None:
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((HOST, self.port))
        listener.listen(64)
        self._listener, self.port = listener, listener.getsockname()[1]
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()

    def _stop_listening(self) -> None:
        listener, self._listener = self._listener, None
        if listener is not None:
            with suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)  # nobody is let in any more; the thread that waits there closes it

    def _accept(self, listener: socket.socket) -> None:
        with listener, suppress(OSError):
            while True:
                client, _ = listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        if self.tls is not None:
            try:
                client = self.tls.wrap_socket(client, server_side=True)
            except OSError:  # the client did not like the certificate
                client.close()
                return
        exchange = Exchange(self, client)
        with self._lock:
            self._exchanges = [each for each in self._exchanges if each.client.fileno() >= 0] + [exchange]
        if self._listener is None:  # told to refuse between the accept and here
            exchange.end()
        exchange.run()


def say_nothing(exchange: Exchange) -> None:
    """The request is taken and never answered, until the client gives up."""
    while exchange.client.recv(CHUNK_BYTES) and not exchange.proxy.ended.is_set():
        pass
