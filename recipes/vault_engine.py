"""A SQLAlchemy 2 engine that follows the credentials that Vault gives: dynamic ones and rotated ones.

When to use it: in a program that talks to PostgreSQL through SQLAlchemy, its ORM or its Core, with psycopg 3 below. To
use psycopg alone, see `vault_pool`. Both need `rotation` beside them.

    get = partial(vault.get_database_dynamic_secret, "db-demo-dynamic")
    with vault_engine(vault, get, "postgresql+psycopg://db.example.com/shop", pool_size=4) as engine:
        with engine.connect() as connection:
            connection.execute(text("SELECT current_user"))

The pool hands connections out in turn (not `pool_use_lifo`), so that old ones come up to be replaced.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Engine, QueuePool, create_engine, event
from sqlalchemy.exc import DisconnectionError

from vault_client import VaultClient
from vaultkit.fork import start_anew_in_children
from vaultkit.secret import Secret

from .rotation import Rotation


@contextmanager
def vault_engine(vault: VaultClient, credentials: Callable[[], Secret], url: str, **options: Any) -> Iterator[Engine]:
    """An engine, disposed of at the end. `url` says where the database is, but not who we are.

    `options` are those of `create_engine`.
    """
    engine = create_engine(url, poolclass=QueuePool, **options)

    def cycle() -> None:
        assert isinstance(engine.pool, QueuePool)
        for _ in range(engine.pool.checkedin()):
            engine.raw_connection().close()

    rotation = Rotation(vault, credentials, cycle=cycle, empty=lambda: engine.dispose(close=False))

    @event.listens_for(engine, "do_connect")
    def connect(dialect: Any, _entry: Any, args: list[Any], options: dict[str, Any]) -> Any:
        rotation.start()  # here, so that it is started in the child of a fork, too
        return rotation.connect(
            lambda secret: dialect.connect(
                *args, **{**options, "user": secret.data["username"], "password": secret.data["password"]}
            )
        )

    @event.listens_for(engine, "checkout")
    def check(connection: Any, _entry: Any, _fairy: Any) -> None:
        if rotation.must_go(connection):
            raise DisconnectionError("opened under credentials that are no longer the current ones")

    start_anew_in_children(rotation)
    try:
        yield engine
    finally:
        rotation.stop()
        engine.dispose()
