"""The process: settings, the two listeners, and an end in order."""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import uvicorn
from prometheus_client import CollectorRegistry

from config_loader import VaultConfig
from listeners.metrics_server import MetricsServer

from ..access_log import log_to
from ..gateway import Gateway
from ..settings import GatewaySettings
from .gate import Gate
from .routes import TEMPLATES, router

KEEP_ALIVE_SECONDS = 30


class Server(uvicorn.Server):
    """uvicorn's, which tells the gate that the end has begun."""

    def __init__(self, config: uvicorn.Config, gate: Gate) -> None:
        super().__init__(config)
        self._gate = gate

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._gate.open()

    async def shutdown(self, sockets: object = None) -> None:
        self._gate.ending = True
        await super().shutdown()


def uvicorn_config(settings: GatewaySettings, gate: Gate) -> uvicorn.Config:
    """Of one process: the cache and the metrics are of a process; for more, start more."""
    return uvicorn.Config(
        gate,
        host=settings.gateway.host,
        port=settings.gateway.port,
        http="httptools",  # h11 takes a Content-Length beside Transfer-Encoding, which smuggles requests
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
async def gateway_of(settings: GatewaySettings, config: VaultConfig) -> AsyncIterator[Gate]:
    """All but the API's own listener. Raises: ConfigurationError."""
    registry = CollectorRegistry()
    gateway = Gateway(settings, config, registry, TEMPLATES)
    try:
        with MetricsServer(settings.metrics.host, settings.metrics.port, registry, gateway.ready):
            await gateway.start()
            yield Gate(gateway, router)
    finally:
        await gateway.close()


async def serve(settings: GatewaySettings, config: VaultConfig) -> None:
    """Serve until SIGINT or SIGTERM. Raises: ConfigurationError."""
    log_to(sys.stdout)
    async with gateway_of(settings, config) as gate:
        await Server(uvicorn_config(settings, gate), gate).serve()


def run(settings: GatewaySettings, config: VaultConfig) -> None:
    asyncio.run(serve(settings, config))
