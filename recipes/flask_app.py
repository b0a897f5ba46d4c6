"""A Flask application on gunicorn, with --preload and without, whose secrets and database follow Vault.

When to use it: for Flask, or any other WSGI application, that talks to PostgreSQL through SQLAlchemy (`vault_engine`).
PGHOST and the like say where the database is, `gunicorn_hooks` how a worker ends:

    gunicorn -c recipes/gunicorn_hooks.py --workers 2 --threads 4 --preload 'recipes.flask_app:create_app()'

What goes wrong without it: an engine made of a password that was read at the start serves until the first connection
after a rotation. And with --preload the application is made once and then forked, connections, token and all: two
workers on one socket get each other's rows and each other's secrets, and the first that ends, ends it for all.
"""

from __future__ import annotations

import atexit
import hmac
from contextlib import ExitStack
from functools import partial

from flask import Flask
from sqlalchemy import text

from config_loader import VaultConfig
from vault_client import VaultClient

from .vault_engine import vault_engine


def create_app() -> Flask:
    """Asks neither Vault nor the database: with --preload the master, which needs no secrets, does not log in."""
    app = Flask(__name__)
    config = VaultConfig.load()
    closing = ExitStack()
    vault = closing.enter_context(VaultClient(config))
    get = partial(vault.get_database_dynamic_secret, config.database_dynamic.role_id[0])
    engine = closing.enter_context(vault_engine(vault, get, "postgresql+psycopg://"))
    app.before_request(vault.keep_alive)  # so the thread that does it is started in a worker, not in the master
    atexit.register(closing.close)  # runs in a worker, too: the token is revoked, and the database users with it

    @app.get("/")
    def who_am_i() -> dict[str, str]:
        """Who the database takes us for, signed with the key of now: ask for a secret where it is used."""
        with engine.connect() as connection:
            user = connection.scalar(text("SELECT current_user"))
        key = vault.get_kv_secret(config.kv_secret.path[0]).data["api_key"]
        return {"user": user, "signature": hmac.new(key.encode(), user.encode(), "sha256").hexdigest()}

    return app
