"""A program that spreads work over processes, for test_spreading.py: prints what they saw, as JSON.

Its arguments: what starts the processes (pool, executor), and how (fork, spawn, forkserver). It queries the database in
each of them until its standard input ends. libpq's own variables say where the database is.
"""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import sys
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from typing import Any

from config_loader import VaultConfig
from recipes.processes import client, keep, start
from recipes.vault_pool import VaultPool
from vault_client import VaultClient

PROCESSES = 2
TASKS = 8
TASK_SECONDS = 0.05

pools: dict[str, VaultPool] = {}


def begin() -> None:
    """In each process: the client, and two small pools."""
    logging.disable()  # a refused password is told of, though no query fails
    start()
    config = VaultConfig.load()
    dynamic = partial(client().get_database_dynamic_secret, config.database_dynamic.role_id[0])
    static = partial(client().get_database_static_secret, config.database_static.role_id[0])
    pools["dynamic"] = keep(VaultPool(client(), dynamic, min_size=1))
    pools["static"] = keep(VaultPool(client(), static, min_size=1))


def task(_: int) -> dict[str, Any]:
    """Who the database takes this process for, and what went wrong."""
    seen: dict[str, Any] = {"pid": os.getpid(), "wrong": []}
    try:
        for kind, pool in pools.items():
            with pool.connection() as connection:
                seen[kind] = (connection.execute("SELECT current_user").fetchone() or ("",))[0]
    except Exception as error:  # noqa: BLE001 — whatever it is, it is told
        seen["wrong"].append(repr(error))
    time.sleep(TASK_SECONDS)  # for the other process to get its share
    return seen


def wait_for_end(ended: threading.Event) -> None:
    os.read(0, 1)  # not sys.stdin, whose lock a fork would copy
    ended.set()


def spread(what: str, method: Any) -> list[dict[str, Any]]:
    """What all tasks saw, until nobody is there any more."""
    ended = threading.Event()
    threading.Thread(target=wait_for_end, args=(ended,), daemon=True).start()
    context = multiprocessing.get_context(method)
    seen: list[dict[str, Any]] = []
    if what == "executor":
        with ProcessPoolExecutor(PROCESSES, context, initializer=begin) as executor:
            while not ended.is_set():
                seen += executor.map(task, range(TASKS))
        return seen
    with context.Pool(PROCESSES, initializer=begin) as pool:  # left by SIGTERM to its workers
        while not ended.is_set():
            seen += pool.map(task, range(TASKS))
    return seen


def main() -> None:
    with VaultClient(VaultConfig.load()) as parent:
        parent.get_kv_secret("database")  # so that there is something to be inherited by a fork
        seen = spread(*sys.argv[1:])
    report = {
        "processes": sorted({each["pid"] for each in seen}),
        "dynamic": sorted({each["dynamic"] for each in seen if "dynamic" in each}),
        "static": sorted({each["static"] for each in seen if "static" in each}),
        "wrong": [each["wrong"] for each in seen if each["wrong"]],
        "queries": len(seen),
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main()
