"""What stands in for your infrastructure on a laptop: a real OpenBao and a real PostgreSQL, no Docker.

    with DevServer() as server:
        subprocess.run(["python", "vault_app.py"], env={**os.environ, **server.environment})

Both come from PyPI wheels, listen on loopback and a Unix socket alone, live in a temporary folder, and are gone
afterwards with all that they wrote.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path

from devserver.openbao import HOST, OpenBao, bao_folder
from devserver.postgres import PORT as POSTGRES_PORT
from devserver.postgres import SUPERUSER, Postgres
from devserver.process import DevServerError
from devserver.setup import run_setup, without_vault

__all__ = ["DevServer", "DevServerError"]

LONGEST_SOCKET_FOLDER = 80
"""The path of a Unix socket has at most 103 bytes."""


class DevServer:
    """OpenBao and PostgreSQL, prepared by setup-vault.sh. A context manager.

    `port` is the preferred one for OpenBao, 0 for any. `lifetimes` are variables of setup-vault.sh, such as
    TOKEN_PERIOD="10s". `check` is called while waiting and may raise to give up. `kind` is `StoredOpenBao` for a server
    that is to be sealed, or killed and started again.
    Raises: DevServerError, with the end of the log of the part that failed.
    """

    def __init__(
        self,
        *,
        port: int = 0,
        lifetimes: Mapping[str, str] | None = None,
        check: Callable[[], None] = lambda: None,
        kind: type[OpenBao] = OpenBao,
    ) -> None:
        self._port = port
        self._kind = kind
        self._lifetimes = dict(lifetimes or {})
        self._check = check
        self._exit = ExitStack()

    def __enter__(self) -> DevServer:
        with ExitStack() as exit_stack:
            self._start(exit_stack)
            self._exit = exit_stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._exit.close()

    def _start(self, exit_stack: ExitStack) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="vault-dev-", dir=temporary_folder()))
        exit_stack.callback(shutil.rmtree, self.folder)
        self.openbao = self._kind(self.folder, self._check, port=self._port)
        self.postgres = Postgres(self.folder, self._check)
        exit_stack.callback(self.openbao.stop)
        exit_stack.callback(self.postgres.stop)
        self.openbao.start()
        self.postgres.start()
        self.postgres.wait()
        self.openbao.wait()
        self.secret_id = self.setup(**self._lifetimes)

    def check(self) -> None:
        """Raises: DevServerError, if one of the servers has ended by itself."""
        self.openbao.check()
        self.postgres.check()

    def setup(self, **lifetimes: str) -> str:
        """Run setup-vault.sh, perhaps again and with other TTLs; return the secret_id that it issued."""
        return run_setup(self.folder, {**self.administration, **lifetimes}, self._check)

    @property
    def administration(self) -> dict[str, str]:
        """The variables with which setup-vault.sh and the `bao` command administer both servers."""
        return {
            "PATH": f"{bao_folder()}{os.pathsep}{os.environ.get('PATH', '')}",
            "VAULT_ADDR": self.openbao.url,
            "VAULT_TOKEN": self.openbao.root_token,
            "DB_HOST": self.postgres.host,
            "DB_PORT": str(POSTGRES_PORT),
            "DB_NAME": "postgres",
            "DB_USER": SUPERUSER,
            "DB_PASSWORD": self.postgres.password,
        }

    @property
    def application(self) -> dict[str, str]:
        """The variables with which the application finds the server and logs in.

        VAULT_ADDR, which `bao` and setup-vault.sh read, too: whoever then exports another moves all three.
        """
        return {"VAULT_ADDR": self.openbao.url, "VAULT_SECRET_ID": self.secret_id}

    @property
    def database(self) -> dict[str, str]:
        """The variables with which libpq finds the database; user and password are Vault's to hand out."""
        return {"PGHOST": self.postgres.host, "PGPORT": str(POSTGRES_PORT), "PGDATABASE": "postgres"}

    @property
    def environment(self) -> dict[str, str]:
        """The environment of a program that is to work with both servers, and does not administer them."""
        past_proxies = ",".join(filter(None, [os.environ.get("NO_PROXY") or os.environ.get("no_proxy"), HOST]))
        return {
            **without_vault(os.environ),
            **self.application,
            "DATABASE_DYNAMIC_CHECK_LOGIN": "true",
            **self.database,
            "NO_PROXY": past_proxies,
            "no_proxy": past_proxies,
        }


def temporary_folder() -> str:
    """The usual one, unless its path is too long for a socket in it (as on macOS)."""
    usual = tempfile.gettempdir()
    return usual if len(usual) <= LONGEST_SOCKET_FOLDER else "/tmp"
