"""recipes/ for an event loop: the client that is awaited, and the pool whose connections follow the credentials."""

from __future__ import annotations

import asyncio
import gc
import os
import random
import threading
import time
import warnings
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from dataclasses import replace
from functools import partial
from typing import Any

import hvac
import psycopg
import pytest
from psycopg import pq
from psycopg_pool import PoolClosed, PoolTimeout

from recipes.async_pool import AsyncVaultPool
from recipes.async_vault import MOST_THREADS, AsyncVault
from tests.backends import Backend
from tests.integration.conftest import PATIENCE_SECONDS, ClientOf, eventually
from tests.servers import ScriptedServer
from vault_client import VaultClient
from vaultkit.errors import VaultTimeout
from vaultkit.secret import Secret

MOUNT = "my-vault-app-database"
STATIC = "db-demo-static"
STATIC_USER = "my-vault-app-static"
SIZE = 3
ROUNDS, TASKS = 30, 60
BEAT_SECONDS = 0.01
HANGING_SECONDS = 3.0
FEWEST_BEATS = 10
"""In half of that, of the hundred and fifty that a quiet machine has."""


# ── A Vault that hangs ───────────────────────────────────────────────────────────────────────────────────────────────


def hanging_client(client_of: ClientOf, seconds: float) -> VaultClient:
    """A client whose Vault takes each request and never answers; it waits so long."""
    server = ScriptedServer()
    server.script = [server.deaf()]
    return client_of(server, HTTP_TIMEOUT=str(seconds))


@pytest.fixture
def hanging(client_of: ClientOf) -> VaultClient:
    return hanging_client(client_of, HANGING_SECONDS)


class Heart:
    """Beats as long as the loop runs."""

    beats = 0

    async def beat(self) -> None:
        while True:
            self.beats += 1
            await asyncio.sleep(BEAT_SECONDS)


def beats_during(call: Callable[[], Any]) -> int:
    """How often the loop came round while this was awaited."""

    async def run() -> int:
        heart = Heart()
        beating = asyncio.ensure_future(heart.beat())
        await call()
        beating.cancel()
        return heart.beats

    return asyncio.run(run())


def test_loop_runs_while_vault_hangs(hanging: VaultClient) -> None:
    """Whoever asked gets the time-out; everybody else goes on."""

    async def ask() -> None:
        async with AsyncVault(hanging) as vault:
            with pytest.raises(VaultTimeout):
                await vault.get_kv_secret("database")

    assert beats_during(ask) > FEWEST_BEATS


def test_x1_pool_closes_while_vault_hangs(client_of: ClientOf) -> None:
    """Whoever wants a connection is told in time that there is none, and the end does not wait for Vault."""
    hanging = hanging_client(client_of, 4 * PATIENCE_SECONDS)

    async def use() -> None:
        get = partial(hanging.get_database_static_secret, STATIC)
        async with AsyncVaultPool(hanging, get, "host=127.0.0.1 port=1") as pool:
            with pytest.raises(PoolTimeout):
                await pool.getconn(timeout=HANGING_SECONDS / 2)

    began = time.monotonic()
    assert beats_during(use) > FEWEST_BEATS
    assert time.monotonic() - began < PATIENCE_SECONDS


def requests_under_way(*, but: set[threading.Thread]) -> int:
    return [thread.name for thread in set(threading.enumerate()) - but].count("vault-request")


def test_c1_cancelled_readers_hold_their_places(hanging: VaultClient) -> None:
    """However many ask and give up while Vault hangs, there are no more threads than places."""
    of_others = set(threading.enumerate())

    async def ask_and_give_up(vault: AsyncVault) -> int:
        readers = [asyncio.ensure_future(vault.get_kv_secret(f"n{number}")) for number in range(5 * MOST_THREADS)]
        await eventually_async(lambda: requests_under_way(but=of_others) >= MOST_THREADS)
        await asyncio.wait(readers, timeout=HANGING_SECONDS / 15)  # for more to begin, if they did
        most = requests_under_way(but=of_others)
        for reader in readers:
            reader.cancel()
        await asyncio.gather(*readers, return_exceptions=True)
        return most

    async def run() -> list[int]:
        async with AsyncVault(hanging) as vault:
            return [await ask_and_give_up(vault) for _ in range(2)]

    assert asyncio.run(run()) == [MOST_THREADS] * 2
    eventually(lambda: not requests_under_way(but=of_others))


def test_error_that_nobody_waits_for_is_no_noise(hanging: VaultClient) -> None:
    """Who asked has left, and the request fails later, as at the end of a program: asyncio would log its traceback."""
    complaints: list[Any] = []

    async def run() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, complaint: complaints.append(complaint))
        async with AsyncVault(hanging) as vault:
            reader = asyncio.ensure_future(vault.get_kv_secret("database"))
            await asyncio.sleep(BEAT_SECONDS)  # to let it ask
            reader.cancel()
            await asyncio.wait(asyncio.all_tasks() - {asyncio.current_task()})
        gc.collect()

    asyncio.run(run())
    assert complaints == []


def test_fresh_secret_takes_no_thread(make_client: Callable[..., VaultClient], monkeypatch: pytest.MonkeyPatch) -> None:
    """It comes at once, of whichever engine."""
    client = make_client()
    read = [
        client.get_kv_secret("database"),
        client.get_database_static_secret(STATIC),
        client.get_database_dynamic_secret("db-demo-dynamic"),
    ]
    monkeypatch.setattr(AsyncVault, "in_thread", None)

    async def again() -> list[Secret]:
        vault = AsyncVault(client)
        return [
            await vault.get_kv_secret("database"),
            await vault.get_database_static_secret(STATIC),
            await vault.get_database_dynamic_secret("db-demo-dynamic"),
        ]

    assert asyncio.run(again()) == read


# ── A pool on the real database ──────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def where(backend: Backend) -> str:
    return " ".join(f"{key}={value}" for key, value in backend.database.items())


@pytest.fixture
def static(client: VaultClient) -> Callable[[], Secret]:
    return partial(client.get_database_static_secret, STATIC)


@pytest.fixture
def sessions(backend: Backend) -> Callable[[], set[int]]:
    """The backend processes that serve the static user."""

    def ask() -> set[int]:
        name, password = backend.superuser
        query = "SELECT pid FROM pg_stat_activity WHERE usename = %s"
        with psycopg.connect(**backend.database, user=name, password=password) as connection:
            return {row[0] for row in connection.execute(query, [STATIC_USER])}

    return ask


async def answer(pool: AsyncVaultPool, query: Any) -> Any:
    async with pool.connection() as connection:
        row = await (await connection.execute(query)).fetchone()
    assert row is not None
    return row[0]


async def fill(pool: AsyncVaultPool) -> set[int]:
    """Have every connection of the pool taken out at the same time; their processes."""
    async with AsyncExitStack() as stack:
        taken = [await stack.enter_async_context(pool.connection()) for _ in range(SIZE)]
        return {connection.info.backend_pid for connection in taken}


async def eventually_async(condition: Callable[[], Any]) -> Any:
    return await asyncio.to_thread(eventually, condition)


def rotate(root: hvac.Client) -> None:
    root.secrets.database.rotate_static_role_credentials(STATIC, mount_point=MOUNT)


def test_awaited_pool_survives_rotation_by_hand(
    client: VaultClient, root: hvac.Client, static: Callable[[], Secret], where: str
) -> None:
    """The cache still holds the old password: the database refuses it, Vault is asked anew, and the query is made."""
    old = static()
    rotate(root)

    async def ask() -> str:
        async with AsyncVaultPool(client, static, where, min_size=1) as pool:
            return str(await answer(pool, "SELECT current_user"))

    assert asyncio.run(ask()) == STATIC_USER
    assert static().revision > old.revision


def test_awaited_query_outlasts_an_outage(client: VaultClient, static: Callable[[], Secret], where: str) -> None:
    """As that of test_recipes.py: the pool has given up when the database can be reached again."""
    asked, is_away = 0, True

    def get() -> Secret:
        nonlocal asked
        asked += 1
        if is_away:
            raise VaultTimeout("gone")
        return static()

    async def run() -> str:
        nonlocal is_away
        async with AsyncVaultPool(client, get, where, min_size=1, timeout=60, reconnect_timeout=0.1) as pool:
            waiting = asyncio.ensure_future(answer(pool, "SELECT current_user"))
            await eventually_async(lambda: asked >= 5)  # more often than it tries by itself
            is_away = False
            return str(await waiting)

    assert asyncio.run(run()) == STATIC_USER


def test_awaited_pool_lets_go_of_idle_connections(
    client: VaultClient,
    root: hvac.Client,
    static: Callable[[], Secret],
    where: str,
    sessions: Callable[[], set[int]],
) -> None:
    """After a rotation that somebody heard of each is replaced, though nobody uses the pool; at its end all go."""

    async def run() -> None:
        async with AsyncVaultPool(client, static, where, min_size=SIZE) as pool:
            before = await fill(pool)
            rotate(root)
            await asyncio.to_thread(client.get_instead_of, client.get_database_static_secret(STATIC))
            await eventually_async(lambda: len(after := sessions()) == SIZE and not after & before)

    asyncio.run(run())
    eventually(lambda: not sessions())


def test_awaited_connection_opened_during_a_change_is_not_kept(
    client: VaultClient, static: Callable[[], Secret], where: str, sessions: Callable[[], set[int]]
) -> None:
    """It is closed in the thread that opened it, and the one after it is kept."""
    looks = 0

    def changing() -> Secret:
        nonlocal looks
        looks += 1
        return replace(static(), revision=1 if looks == 1 else 2)

    async def run() -> set[int]:
        pool = AsyncVaultPool(client, changing, where, min_size=1)
        pool._rotation.start = lambda: None  # type: ignore[method-assign]  # whose keeper looks, too
        async with pool:
            mine = {await answer(pool, "SELECT pg_backend_pid()")}
            await eventually_async(lambda: sessions() == mine)
        return mine

    assert asyncio.run(run())
    assert looks == 3


def test_cancelled_tasks_leave_no_connection_behind(
    client: VaultClient, static: Callable[[], Secret], where: str, sessions: Callable[[], set[int]]
) -> None:
    """Wherever they are: waiting for one, in a query, or giving it back. All are there again, and no other."""
    chance = random.Random(2)
    pool = AsyncVaultPool(client, static, where, min_size=SIZE, max_size=SIZE, timeout=10)

    async def take() -> None:
        async with pool.connection() as connection:
            if chance.random() < 0.1:
                await connection.execute("SELECT 1")

    async def take_and_be_cancelled() -> None:
        tasks = [asyncio.ensure_future(take()) for _ in range(TASKS)]
        for task in tasks:
            for _ in range(chance.randrange(6)):
                await asyncio.sleep(0)  # a turn of the loop
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def run() -> None:
        async with pool:
            await pool.wait()
            for _ in range(ROUNDS):
                await take_and_be_cancelled()
            assert len(await fill(pool)) == SIZE
            await eventually_async(lambda: len(sessions()) == SIZE)

    asyncio.run(run())
    eventually(lambda: not sessions())


def is_true_in_child(claim: Callable[[], bool]) -> bool:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of a fork beside threads, from Python 3.12 on
        process = os.fork()
    if process == 0:
        with suppress(BaseException):
            os._exit(0 if claim() else 1)
        os._exit(2)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 0


@pytest.mark.timeout(60)
def test_t10_awaited_pool_stays_with_the_parent(client: VaultClient, static: Callable[[], Secret], where: str) -> None:
    """In the child of a fork it is not open, and its connections lead nowhere; in the parent they go on."""

    async def run() -> None:
        async with AsyncVaultPool(client, static, where, min_size=1) as pool, pool.connection() as connection:

            def leads_nowhere() -> bool:
                with pytest.raises(PoolClosed, match="not open"):
                    asyncio.run(pool.getconn())
                return connection.pgconn.exec_(b"SELECT 1").status == pq.ExecStatus.FATAL_ERROR

            assert is_true_in_child(leads_nowhere)
            assert await (await connection.execute("SELECT 1")).fetchone() == (1,)

    asyncio.run(run())
