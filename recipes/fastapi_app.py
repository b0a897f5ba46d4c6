"""FastAPI: a client and a database pool for each process, from its start to its end.

When to use it: in an ASGI application, FastAPI's or Starlette's, that talks to PostgreSQL. Each process that uvicorn
starts runs `lifespan` for itself: it logs in once, and revokes its token at SIGTERM.

    uvicorn recipes.fastapi_app:app --workers 2 --timeout-graceful-shutdown 2

Without it: a client made at import is there before the server forks or reloads, and nobody closes it; one made in each
request logs in each time; and a request to Vault in an `async def` stops all other requests. Without the time-out
uvicorn waits at SIGTERM for a request that hangs, until it is killed and its token lives on.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Request

from config_loader import VaultConfig
from vault_client import VaultClient

from .async_pool import AsyncVaultPool
from .async_vault import AsyncVault


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[dict[str, Any]]:
    """What is yielded is the `state` of each request. A login that fails now ends the start, with status 3."""
    config = VaultConfig.load()
    client = VaultClient(config)
    dynamic = partial(client.get_database_dynamic_secret, config.database_dynamic.role_id[0])
    static = partial(client.get_database_static_secret, config.database_static.role_id[0])
    async with AsyncVault(client) as vault:
        await vault.in_thread(client.login)
        client.keep_alive()
        async with AsyncVaultPool(client, dynamic) as orders, AsyncVaultPool(client, static) as reports:
            yield {"vault": vault, "orders": orders, "reports": reports}


def vault_of(request: Request) -> AsyncVault:
    vault: AsyncVault = request.state.vault
    return vault


Vault = Annotated[AsyncVault, Depends(vault_of)]

app = FastAPI(lifespan=lifespan)


@app.get("/secrets/{path:path}")
async def version(path: str, vault: Vault) -> dict[str, Any]:
    """Which version a secret has; its values are nobody's to see."""
    return {"version": (await vault.get_kv_secret(path)).version}


@app.get("/orders")
async def orders(request: Request) -> dict[str, str]:
    """As a user that Vault made."""
    return {"user": await current_user(request.state.orders)}


@app.get("/reports")
async def reports(request: Request) -> dict[str, str]:
    """As a user whose password Vault rotates."""
    return {"user": await current_user(request.state.reports)}


async def current_user(pool: AsyncVaultPool) -> str:
    async with pool.connection() as connection:
        cursor = await connection.execute("SELECT current_user")
        return str((await cursor.fetchone() or [""])[0])
