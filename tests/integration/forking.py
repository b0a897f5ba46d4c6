"""A program that forks, for test_fork.py: prints what went wrong, as JSON.

Its arguments: what to play, and how many processes there shall be. Each child that asks reads secrets of its own, whose
values are their names, all released at the same moment.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.synchronize import Barrier

from config_loader import VaultConfig
from vault_client import VaultClient
from vaultkit.errors import VaultError

SECRETS = 20
START_SECONDS = 0.3


def name(process: int, number: int) -> str:
    return f"fork/p{process}k{number}"


def read(client: VaultClient, process: int, start: float) -> Counter[str]:
    """How often which outcome: a right value, a wrong one, an error."""
    while time.monotonic() < start:
        pass
    outcomes: Counter[str] = Counter()
    for number in range(SECRETS):
        try:
            value = client.get_kv_secret(name(process, number)).data["who"]
        except VaultError as error:
            outcomes[type(error).__name__] += 1
        else:
            outcomes["right" if value == name(process, number) else "WRONG"] += 1
    return outcomes


def in_children(count: int, action: Callable[[int], Counter[str]]) -> Counter[str]:
    """Fork so many children; the sum of what they report, and of how they ended."""
    total: Counter[str] = Counter()
    pipes = []
    for process in range(1, count + 1):
        reader, writer = os.pipe()
        if os.fork() == 0:
            os.write(writer, json.dumps(action(process)).encode())
            os._exit(0)
        os.close(writer)
        pipes.append(reader)
    for reader in pipes:
        with open(reader, encoding="utf-8") as pipe:
            total.update(json.loads(pipe.read() or '{"died": 1}'))
        os.wait()
    return total


def together(client: VaultClient, count: int) -> Counter[str]:
    """Parent and children read at the same moment, all from a client that has been used."""
    client.get_kv_secret("database")
    start = time.monotonic() + START_SECONDS
    mine: list[Counter[str]] = []
    thread = threading.Thread(target=lambda: mine.append(read(client, 0, start)))
    thread.start()
    total = in_children(count, lambda process: read(client, process, start))
    thread.join()
    return total + mine[0]


def falls_out(client: VaultClient, count: int) -> Counter[str]:
    """Children close the client; the parent goes on with its own token."""
    client.login()

    def close(_: int) -> Counter[str]:
        client.close()
        return Counter()

    outcomes = in_children(count, close)
    client.ask(lambda vault: vault.auth.token.lookup_self())
    outcomes["right" if client.get_token_info().generation == 1 else "WRONG"] += 1
    return outcomes


def under_load(client: VaultClient, count: int) -> Counter[str]:
    """Other threads hold the client's locks as it forks; no child hangs on one of them."""
    stop = threading.Event()

    def refresh() -> None:
        while not stop.is_set():
            with suppress(VaultError):
                client.get_instead_of(client.get_kv_secret("database"))

    threads = [threading.Thread(target=refresh) for _ in range(4)]
    for thread in threads:
        thread.start()
    outcomes: Counter[str] = Counter()
    for _ in range(count):
        outcomes += in_children(1, lambda process: Counter([client.get_kv_secret("database").name]))
    stop.set()
    for thread in threads:
        thread.join()
    return outcomes


def with_a_keeper(client: VaultClient, count: int) -> Counter[str]:
    """The thread that keeps the token alive is there again in a child, once that has logged in."""
    client.keep_alive()
    client.get_kv_secret("database")

    def keepers(_: int) -> Counter[str]:
        before = [thread.name for thread in threading.enumerate()].count("token-keeper")
        client.get_kv_secret("database")
        after = [thread.name for thread in threading.enumerate()].count("token-keeper")
        return Counter(["right" if (before, after) == (0, 1) else "WRONG"])

    return in_children(count, keepers)


def in_a_pool(client: VaultClient, count: int) -> Counter[str]:
    """multiprocessing's pool, whose workers are forked. None begins before all have, so that each has one task."""
    client.get_kv_secret("database")
    global shared, all_are_there
    context = multiprocessing.get_context("fork")
    shared, all_are_there = client, context.Barrier(count)
    with context.Pool(count) as pool:
        return sum(pool.map(read_shared, range(1, count + 1)), Counter())


shared: VaultClient
all_are_there: Barrier


def read_shared(process: int) -> Counter[str]:
    all_are_there.wait()
    return read(shared, process, time.monotonic())


PLAYS = {play.__name__: play for play in (together, falls_out, under_load, with_a_keeper, in_a_pool)}

if __name__ == "__main__":
    with VaultClient(VaultConfig.load()) as used:
        print(json.dumps(PLAYS[sys.argv[1]](used, int(sys.argv[2]))))
