"""A Celery worker whose tasks use secrets and a database that follow Vault, in a pool of processes that fork.

When to use it: for `celery worker` with its own pool, prefork. PGHOST and the like say where the database is:

    CELERY_BROKER_URL=amqp://… celery --app recipes.celery_app worker --concurrency 2

What goes wrong without it: what the module has opened before the pool forks is shared by all its processes: they get
each other's answers, or "SSL error: decryption failed or bad record mac". And a process of the pool ends by os._exit:
no atexit, no `with` ever closes a client there, and each --max-tasks-per-child leaves a token and a database user more.
"""

from __future__ import annotations

import hmac
from contextlib import ExitStack
from functools import partial
from typing import Any

from celery import Celery
from celery.signals import worker_process_init, worker_process_shutdown
from sqlalchemy import text

from config_loader import VaultConfig
from vault_client import VaultClient

from .vault_engine import vault_engine

closing = ExitStack()
config = VaultConfig.load()
vault = closing.enter_context(VaultClient(config))
get = partial(vault.get_database_dynamic_secret, config.database_dynamic.role_id[0])
engine = closing.enter_context(vault_engine(vault, get, "postgresql+psycopg://", pool_size=1))
app = Celery("recipes.celery_app")


@worker_process_init.connect
def begin(**_: Any) -> None:
    """In each process of the pool. Must be quick: one that is not ready after 4 s is killed."""
    vault.keep_alive()


@worker_process_shutdown.connect
def end(**_: Any) -> None:
    """Give the token back, and the database users with it."""
    closing.close()


@app.task
def who_am_i() -> dict[str, str]:
    """Who the database takes us for, signed with the key of now. What a task returns, the result backend stores."""
    with engine.connect() as connection:
        user = connection.scalar(text("SELECT current_user"))
    key = vault.get_kv_secret(config.kv_secret.path[0]).data["api_key"]
    return {"user": user, "signature": hmac.new(key.encode(), user.encode(), "sha256").hexdigest()}
