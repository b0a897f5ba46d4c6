"""The process: settings, the two listeners, and an end in order.

told to end ─▶ no new connection; what comes on an open one is answered with 503
            ─▶ what is under way has shutdown_timeout [2 s]; what takes longer is answered with 503
            ─▶ every tenant's token is revoked, in 2 s at most, also while Vault hangs
told again  ─▶ the process ends at once
"""

from __future__ import annotations

import asyncio
import logging
import socket
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, contextmanager

import uvicorn
from prometheus_client import CollectorRegistry

from config_loader import VaultConfig
from listeners.metrics_server import MetricsServer
from listeners.signals import SignalHandler
from vaultkit.errors import ConfigurationError

from ..access_log import AccessLog
from ..gateway import Gateway
from ..settings import GatewaySettings
from .connection import Connection
from .gate import Gate
from .routes import TEMPLATES, router

KEEP_ALIVE_SECONDS = 30
LAST_WORDS_SECONDS = 0.2
"""For the 503 of those whom the end has overtaken."""

log = logging.getLogger("gateway")


class CannotListen(Exception):
    """A port is taken, or the host is none of this machine's; the text says which."""


class Server(uvicorn.Server):
    """uvicorn's, which ends when it is `told`, and leaves the signals to us: its own end the process before its time.

    (It sends itself the signal anew when all is answered, with our tokens still alive.)
    """

    def __init__(self, config: uvicorn.Config, gate: Gate, told: asyncio.Event | None = None) -> None:
        super().__init__(config)
        self._gate = gate
        self._told = told or asyncio.Event()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._gate.open()
        for listener in sockets or []:
            log.info("the API is at http://%s:%d", *listener.getsockname()[:2])

    async def on_tick(self, counter: int) -> bool:
        return self._told.is_set() or await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._gate.ending = True
        await super().shutdown(sockets)
        if tasks := set(self.server_state.tasks):
            await asyncio.wait(tasks, timeout=LAST_WORDS_SECONDS)


def uvicorn_config(settings: GatewaySettings, gate: Gate) -> uvicorn.Config:
    """Of one process: the cache and the metrics are of a process; for more, start more."""
    return uvicorn.Config(
        gate,
        host=settings.gateway.host,
        port=settings.gateway.port,
        http=Connection,  # by httptools: h11 takes a Content-Length beside Transfer-Encoding, which smuggles requests
        ws="none",
        lifespan="off",
        access_log=False,  # it would write paths and queries as they came
        log_config=None,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=settings.gateway.shutdown_timeout,
        limit_concurrency=2 * settings.limits.connections,
    )


@asynccontextmanager
async def gateway_of(
    settings: GatewaySettings, config: VaultConfig, access_log: AccessLog, told: asyncio.Event | None = None
) -> AsyncIterator[Gate]:
    """All but the API's own listener; it starts until it is `told` to end. Raises: ConfigurationError, CannotListen."""
    registry = CollectorRegistry()
    gateway = Gateway(settings, config, registry, TEMPLATES)
    try:
        with listening(MetricsServer(settings.metrics.host, settings.metrics.port, registry, gateway.ready)) as metrics:
            log.info("metrics and health are at http://%s:%d", settings.metrics.host, metrics.port)
            await start(gateway, told or asyncio.Event())
            yield Gate(gateway, router, access_log)
    finally:
        await gateway.close()


async def start(gateway: Gateway, told: asyncio.Event) -> None:
    """Have it fetch its keys and log in, unless we are told to end meanwhile."""
    starting, ending = asyncio.ensure_future(gateway.start()), asyncio.ensure_future(told.wait())
    try:
        await asyncio.wait({starting, ending}, return_when=asyncio.FIRST_COMPLETED)
        if starting.done():
            starting.result()
    finally:
        starting.cancel()
        ending.cancel()


@contextmanager
def listening(server: MetricsServer) -> Iterator[MetricsServer]:
    """Raises: CannotListen."""
    try:
        server.start()
    except ConfigurationError as error:
        raise CannotListen(*error.problems) from None
    with closing(server):
        yield server


def bound(host: str, port: int) -> socket.socket:
    """The API's own socket, before anybody logs in; nobody is let in yet. Raises: CannotListen."""
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    try:
        if sys.platform != "win32":  # there it would let two programs listen at once
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise CannotListen(f"gateway: cannot listen on {host}, port {port}: {error.strerror or error}") from None
    return listener


async def serve(settings: GatewaySettings, config: VaultConfig) -> None:
    """Serve until a signal ends it; of the main thread. Raises: ConfigurationError, CannotListen."""
    loop, told = asyncio.get_running_loop(), asyncio.Event()
    signals = SignalHandler(lambda _: loop.call_soon_threadsafe(told.set))
    with closing(bound(settings.gateway.host, settings.gateway.port)) as listener:
        async with gateway_of(settings, config, AccessLog(sys.stdout), told) as gate:
            await Server(uvicorn_config(settings, gate), gate, told).serve([listener])
    signals.ignore()


def run(settings: GatewaySettings, config: VaultConfig) -> None:
    """Serve on the loop that suits: uvloop's, which Windows has not, takes half the time of asyncio's own."""
    try:
        import uvloop
    except ImportError:
        asyncio.run(serve(settings, config))
    else:
        uvloop.run(serve(settings, config))
