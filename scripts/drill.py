"""Plays an incident: an intruder with the application's credentials is locked out, and the application let in again.

On an OpenBao and a PostgreSQL of its own, with the two scripts as an operator calls them. `make break-glass-drill`
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psycopg

from config_loader import VaultConfig
from devserver import DevServer, DevServerError
from devserver.setup import without_vault
from listeners.usage import CommandLine
from scripts.operating import tell
from vault_client import VaultClient
from vaultkit.errors import LoginRefused, PermissionDenied, VaultError

FOLDER = Path(__file__).parent
WHO = ("entity", "my-vault-app")


class Intruder:
    """Somebody who got hold of the secret_id: with a token, a database user, and a session."""

    def __init__(self, server: DevServer) -> None:
        self._client = VaultClient(VaultConfig.load(environ=server.application))
        self._api = self._client.ask(lambda api: api)
        self.secret = self._client.get_database_dynamic_secret("db-demo-dynamic")
        self._session = psycopg.connect(
            host=server.postgres.host, dbname="postgres", user=self.secret.data["username"],
            password=self.secret.data["password"], autocommit=True,
        )  # fmt: skip

    def still_can(self) -> list[str]:
        """What it still gets away with."""
        ways: dict[str, Callable[[], object]] = {
            "use its token": self._uses_token,
            "log in": self._client.login,
            "query the database": self._queries,
        }
        return [what for what, way in ways.items() if succeeds(way)]

    def _uses_token(self) -> None:
        self._api.auth.token.lookup_self()

    def _queries(self) -> None:
        self._session.execute("SELECT 1")


def succeeds(way: Callable[[], object]) -> bool:
    try:
        way()
    except (PermissionDenied, LoginRefused, psycopg.OperationalError):
        return False
    return True


def script(server: DevServer, name: str, *arguments: str) -> int:
    """Run a script as an operator does, and show what it says."""
    tell(f"\n$ scripts/{name} {' '.join(arguments)}")
    environment = {**without_vault(os.environ), **server.administration}
    return subprocess.run(["bash", str(FOLDER / name), *arguments], env=environment, check=False).returncode


def play(server: DevServer) -> list[str]:
    """What went otherwise than it must."""
    intruder = Intruder(server)
    tell(f"an intruder is in: as {intruder.secret.data['username']}, and can {', '.join(intruder.still_can())}")
    wrong = []
    for mode in ("--dry-run", "--go"):
        if script(server, "break-glass.sh", mode, *WHO):
            wrong.append(f"break-glass.sh {mode} failed")
    left = intruder.still_can()
    tell(f"\nthe intruder can {', '.join(left) or 'do nothing more'}")
    wrong += [f"the intruder can still {what}" for what in left]
    if script(server, "break-glass.sh", "--lift", *WHO):
        wrong.append("the freeze was not lifted")
    if script(server, "verify-vault-credentials.sh", "my-vault-app", "my-vault-app-kv/data/database"):
        wrong.append("the application was not let in again")
    return wrong


def main() -> int:
    CommandLine(
        prog="python -m scripts.drill", example="python -m scripts.drill", description=str(__doc__).splitlines()[0]
    ).parse_args()
    try:
        tell("starting OpenBao and PostgreSQL …")
        with DevServer() as server:
            wrong = play(server)
    except (DevServerError, VaultError, OSError) as error:
        wrong = [str(error)]
    for words in wrong:
        tell(f"✗ {words}")
    tell("\nthe drill failed" if wrong else "\nthe drill went as it must")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
