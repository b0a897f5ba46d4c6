"""asyncio alone: a program of coroutines that ends as it should, at Ctrl+C and at SIGTERM.

When to use it: as the frame of a consumer or a worker without a web framework. Put your own coroutine for `work`.

    python -m recipes.asyncio_program

Without it: SIGTERM, with which a container is ended, kills a Python program at once: no `async with` is left, the token
and its database users live on until they expire, and queries are cut. (Ctrl+C cancels the main task by itself only from
Python 3.11 on.)
"""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Coroutine
from contextlib import suppress
from functools import partial
from typing import Any

from config_loader import VaultConfig
from vault_client import VaultClient
from vaultkit.errors import VaultError

from .async_pool import AsyncVaultPool
from .async_vault import AsyncVault

PAUSE_SECONDS = 0.05


async def main() -> None:
    config = VaultConfig.load()
    client = VaultClient(config)
    credentials = partial(client.get_database_dynamic_secret, config.database_dynamic.role_id[0])
    async with AsyncVault(client) as vault:
        await vault.in_thread(client.login)  # what Vault refuses ends the program here
        client.keep_alive()
        async with AsyncVaultPool(client, credentials, min_size=2) as pool:
            await asyncio.gather(watch(vault), work(pool))


async def watch(vault: AsyncVault) -> None:
    """Tell of each version of a secret that comes."""
    known = None
    while True:
        secret = await vault.get_kv_secret("database")
        if secret.version != known:
            known = secret.version
            print("KV version", known, flush=True)
        await asyncio.sleep(PAUSE_SECONDS)


async def work(pool: AsyncVaultPool) -> None:
    """Tell of each user that the database takes us for; there is a new one whenever a lease comes to its end."""
    known = None
    while True:
        async with pool.connection() as connection:
            cursor = await connection.execute("SELECT current_user")
            row = await cursor.fetchone()
        if row != known:
            known = row
            print("working as", *known or (), flush=True)
        await asyncio.sleep(PAUSE_SECONDS)


async def until_signalled(work: Coroutine[Any, Any, None]) -> None:
    """Cancel it at the first signal, so that each `async with` in it is left; a second one changes nothing."""
    task = asyncio.ensure_future(work)
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)  # not on Windows
    with suppress(asyncio.CancelledError):
        await task


if __name__ == "__main__":
    try:
        asyncio.run(until_signalled(main()))
    except VaultError as error:
        sys.exit(f"{type(error).__name__}: {error}")
