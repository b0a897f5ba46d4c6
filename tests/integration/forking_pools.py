"""A program that forks while it has a database pool, for test_recipes.py: prints what each process saw, as JSON.

Its arguments: which pool, a dynamic role, and what to play. libpq's own variables say where the database is.
"""

from __future__ import annotations

import gc
import json
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

import psycopg
import sqlalchemy
from sqlalchemy import text

from config_loader import VaultConfig
from recipes.vault_engine import vault_engine
from recipes.vault_pool import VaultPool
from vault_client import VaultClient

SIZE = 3
CHILDREN = 2
ROUNDS = 2
QUERIES = 20
START_SECONDS = 0.2
HANGING_SECONDS = 60

Ask = Callable[[str], Any]
"""Makes a query on one connection; what comes is the row."""
Checkout = Callable[[], AbstractContextManager[Ask]]


@dataclass
class Seen:
    """What one process saw of the database."""

    users: list[str] = field(default_factory=list)
    sessions: list[int] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    """Answers to somebody else's question, and errors."""

    def note(self, ask: Ask) -> None:
        question = f"{os.getpid()} {threading.get_ident()} {time.monotonic_ns()}"
        user, session, answer = ask(f"SELECT current_user::text, pg_backend_pid(), '{question}'")
        self.users = sorted({*self.users, user})
        self.sessions = sorted({*self.sessions, session})
        if answer != question:
            self.wrong.append(answer)


@contextmanager
def sqlalchemy_pool(vault: VaultClient, role: str) -> Iterator[Checkout]:
    get = partial(vault.get_database_dynamic_secret, role)
    with vault_engine(vault, get, "postgresql+psycopg://", pool_size=SIZE, max_overflow=0) as engine:

        @contextmanager
        def checkout() -> Iterator[Ask]:
            with engine.connect() as connection:
                yield lambda query: connection.execute(text(query)).one()

        yield checkout


@contextmanager
def psycopg_pool(vault: VaultClient, role: str) -> Iterator[Checkout]:
    with VaultPool(vault, partial(vault.get_database_dynamic_secret, role), min_size=SIZE) as pool:

        @contextmanager
        def checkout() -> Iterator[Ask]:
            with pool.connection() as connection:
                yield lambda query: connection.execute(query).fetchone()

        yield checkout


def hammer(checkout: Checkout, enough: Callable[[int], bool]) -> Seen:
    """Query without pause from as many threads as the pool has connections, until `enough` says so."""
    seen = Seen()

    def query() -> None:
        done = 0
        while not enough(done):
            try:
                with checkout() as ask:
                    seen.note(ask)
            except Exception as error:  # noqa: BLE001 — whatever it is, it is told
                seen.wrong.append(repr(error))
            done += 1

    threads = [threading.Thread(target=query) for _ in range(SIZE)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return seen


def in_child(action: Callable[[], Seen]) -> int:
    """Fork; the child does this, reports, and leaves as a program does. Return where its report can be read."""
    reader, writer = os.pipe()
    if os.fork() == 0:
        signal.alarm(HANGING_SECONDS)
        os.write(writer, json.dumps(asdict(action())).encode())
        gc.collect()
        raise SystemExit
    os.close(writer)
    return reader


def report(readers: list[int]) -> list[dict[str, Any]]:
    """What the children saw, when all have ended."""
    reports = []
    for reader in readers:
        with open(reader, encoding="utf-8") as pipe:
            reports.append(json.loads(pipe.read() or '{"wrong": ["it hung"]}'))
    for _ in readers:
        os.wait()
    return reports


def together(checkout: Checkout) -> list[dict[str, Any]]:
    """Parent and children query at the same moment; the parent's threads hold connections and locks as it forks."""
    stop = threading.Event()
    mine: list[Seen] = []
    thread = threading.Thread(target=lambda: mine.append(hammer(checkout, lambda _: stop.is_set())))
    thread.start()
    reports = []
    for _ in range(ROUNDS):
        start = time.monotonic() + START_SECONDS

        def play(start: float = start) -> Seen:
            time.sleep(max(0.0, start - time.monotonic()))
            return hammer(checkout, lambda done: done == QUERIES)

        reports += report([in_child(play) for _ in range(CHILDREN)])
    stop.set()
    thread.join()
    return [asdict(mine[0]), *reports]


def keepers_alive() -> int:
    """How many threads look after a pool in this process."""
    return [thread.name for thread in threading.enumerate()].count("pool-keeper")


def held(checkout: Checkout) -> list[dict[str, Any]]:
    """The process forks with two connections in hand, one of them in a transaction, which goes on in the parent.

    The child finds them dead, and takes others, before and after it has given these back. Its keeper starts with that.
    """
    mine = Seen()

    def play() -> Seen:
        with suppress(psycopg.OperationalError, sqlalchemy.exc.OperationalError):
            mine.note(ask)
            return Seen(wrong=["a query on the parent's connection"])
        keepers = [keepers_alive()]
        before = hammer(checkout, lambda done: done == 1)
        keepers.append(keepers_alive())
        with suppress(psycopg.OperationalError, sqlalchemy.exc.OperationalError):
            in_hand.close()
        after = hammer(checkout, lambda done: done == QUERIES)
        wrong = before.wrong + after.wrong + ([] if keepers == [0, 1] else [f"keepers: {keepers}"])
        return Seen(after.users, after.sessions, wrong)

    with ExitStack() as in_hand:
        in_hand.enter_context(checkout())
        ask = in_hand.enter_context(checkout())
        mine.note(ask)
        reports = report([in_child(play)])
        mine.note(ask)
    return [asdict(mine), *reports]


PLAYS = {play.__name__: play for play in (together, held)}
POOLS = {pool.__name__: pool for pool in (sqlalchemy_pool, psycopg_pool)}

if __name__ == "__main__":
    logging.disable()  # a busy machine loses a token now and then, which is told of
    which, role, what = sys.argv[1:]
    with VaultClient(VaultConfig.load()) as vault, POOLS[which](vault, role) as checkout:
        print(json.dumps(PLAYS[what](checkout)))
