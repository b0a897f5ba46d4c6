"""When the gateway says that it is ready: /readyz is on a listener of its own, which is there first."""

from __future__ import annotations

import asyncio

from prometheus_client import CollectorRegistry

from gateway.api.gate import Gate
from gateway.api.routes import router
from gateway.api.server import Server, uvicorn_config
from gateway.gateway import Gateway
from gateway.settings import GatewaySettings
from gateway.tenants import vault_config


def test_it_is_ready_when_it_listens() -> None:
    """And not before: who is sent here then is let in. (Neither Vault nor keys: only the listener counts here.)"""
    settings = GatewaySettings.load(environ={"GATEWAY_ACT_AS": "caller", "GATEWAY_PORT": "0"})

    async def test() -> None:
        gateway = Gateway(settings, vault_config({}), CollectorRegistry())
        gate = Gate(gateway, router)
        server = Server(uvicorn_config(settings, gate), gate)
        assert gateway.ready()["the API"] == "it does not listen yet"
        serving = asyncio.ensure_future(server.serve())
        while not server.started:
            await asyncio.sleep(0.01)
        assert gateway.ready()["the API"] is True
        server.should_exit = True
        await serving
        await gateway.close()

    asyncio.run(test())
