"""Queries through a pool for a while, for lab 5: says as whom, and counts those that fail."""

from __future__ import annotations

import time
from typing import Any

import psycopg
from psycopg_pool import ConnectionPool, PoolTimeout

PAUSE_SECONDS = 0.1


def load(pool: ConnectionPool[Any], seconds: float) -> None:
    """A query every PAUSE_SECONDS. Each new user and each new error is a line; the last says how many failed."""
    started, told, queries, failed = time.monotonic(), "", 0, 0
    while (now := time.monotonic() - started) < seconds:
        queries += 1
        try:
            with pool.connection() as connection:
                now_told = "the database takes us for " + connection.execute("SELECT current_user").fetchone()[0]
        except (psycopg.Error, PoolTimeout) as error:
            failed += 1
            now_told = f"FAILED with {type(error).__name__}"
        if now_told != told:
            told = now_told
            print(f"{now:3.0f} s  {told}", flush=True)
        time.sleep(PAUSE_SECONDS)
    print(f"{queries} queries, {failed} failed")
