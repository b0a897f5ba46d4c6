"""Three gateways behind a balancer: what one wrote others read, and one that is killed takes nothing along."""

from __future__ import annotations

import http.client
import itertools
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress

import pytest

from devserver.openbao import HOST
from tests.backends import Backend
from tests.gateways import Answer, GatewayProcess, Vault, ask
from tests.identity_provider import Provider
from tests.integration.conftest import eventually

REFRESH_SECONDS = 1.0
SLACK_SECONDS = 4.0
"""What a busy machine may add."""
TRIES = 5


class Balancer:
    """Passes each connection on to the next of some servers; to one that is not there, never, but to the one after it.

    It knows no HTTP. Whoever is killed takes the connections on it along, as with any balancer.
    """

    def __init__(self, *ports: int) -> None:
        self._turns = itertools.cycle(ports)
        self._count = len(ports)
        self._lock = threading.Lock()
        self._listener = socket.create_server((HOST, 0))
        self.port: int = self._listener.getsockname()[1]

    @contextmanager
    def running(self) -> Iterator[Balancer]:
        thread = threading.Thread(target=self._accept, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            with suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)
            thread.join()
            self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client:
            server = self._reach()
            if server is None:
                return
            with server:
                back = threading.Thread(target=pass_on, args=(server, client), daemon=True)
                back.start()
                pass_on(client, server)
                back.join()

    def _reach(self) -> socket.socket | None:
        for _ in range(self._count):
            with self._lock:
                port = next(self._turns)
            with suppress(OSError):
                return socket.create_connection((HOST, port))
        return None


def pass_on(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
    with suppress(OSError):
        sink.shutdown(socket.SHUT_WR)


class Reader:
    """Reads through the balancer all the time, and tries anew what lost its connection, as a client may with a GET."""

    def __init__(self, read: Callable[[], Answer]) -> None:
        self.told: Counter[str] = Counter()
        self.lost = 0
        self._read = read
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._stop.is_set():
            self.told[self._one()] += 1

    def _one(self) -> str:
        for _ in range(TRIES):
            try:
                return str(self._read())
            except (OSError, http.client.HTTPException):
                self.lost += 1
        return "lost"

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()


@pytest.fixture(scope="module")
def provider() -> Iterator[Provider]:
    with Provider().running() as running:
        yield running


@pytest.fixture(scope="module")
def replicas(
    backend: Backend, provider: Provider, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[list[GatewayProcess]]:
    vault = Vault("gateway-replicas", backend.root, tmp_path_factory.mktemp("replicas")).prepare()
    with ExitStack() as stack:
        started = []
        for _ in range(3):
            # Each value is asked about so rarely that what one replica has written is at first not known to another.
            settings = {"GATEWAY_CACHE_REFRESH_INTERVAL": str(REFRESH_SECONDS), "HTTP_TIMEOUT": "30"}
            started.append(GatewayProcess(vault, provider, **settings))
            stack.callback(started[-1].kill)
        yield [each.wait_until_ready() for each in started]


def write(replica: GatewayProcess, token: str, value: str) -> int:
    answer = replica.ask("PUT", "/vault/secrets/shared", token, {"data": {"value": value}})
    assert answer.status in (200, 201)
    return int(answer.json["version"])


def test_k1_others_see_a_write_in_time(replicas: list[GatewayProcess], provider: Provider) -> None:
    """Through the one that wrote at once; through another in a refresh interval, or at once with ?min_version."""
    token, (first, second, third) = provider.token(), replicas
    write(first, token, "one")
    for each in replicas:
        assert each.ask("GET", "/vault/secrets/shared", token).json["data"] == {"value": "one"}
    version = write(first, token, "two")
    written = time.monotonic()
    at_once = third.ask("GET", f"/vault/secrets/shared?min_version={version}", token)
    assert (at_once.status, at_once.json["version"], at_once.json["data"]) == (200, version, {"value": "two"})
    assert first.ask("GET", "/vault/secrets/shared", token).json["version"] == version

    def is_seen() -> bool:
        answer = second.ask("GET", "/vault/secrets/shared", token)
        assert answer.json["version"] in (version - 1, version)
        return bool(answer.json["version"] == version)

    eventually(is_seen)
    assert time.monotonic() - written < REFRESH_SECONDS + SLACK_SECONDS
    early = second.ask("GET", f"/vault/secrets/shared?min_version={version + 1}", token)
    assert (str(early), early.headers["retry-after"]) == ("503 version-not-reached", "1")


def test_killed_replica_takes_nothing_along(replicas: list[GatewayProcess], provider: Provider) -> None:
    """kill -9 under load: who tries anew on another connection is served; what was written before is there."""
    token, (first, *others) = provider.token(), replicas
    version = write(first, token, "before the end")
    with Balancer(*(each.port for each in replicas)).running() as balancer:

        def read() -> Answer:
            return ask(balancer.port, "GET", f"/vault/secrets/shared?min_version={version}", token, timeout=10)

        readers = [Reader(read) for _ in range(6)]
        eventually(lambda: sum(each.told.total() for each in readers) > 200)
        first.process.kill()
        first.process.wait()
        killed = sum(each.told.total() for each in readers)
        eventually(lambda: sum(each.told.total() for each in readers) > killed + 200)
        assert write(others[0], token, "after it") == version + 1
        for each in readers:
            each.stop()
    told = sum((each.told for each in readers), Counter[str]())
    assert set(told) == {"200"}
    assert sum(each.lost for each in readers) <= len(readers)
