"""The faults of the live page: how each is made on the devserver, and what it shows.

Each is mended by itself, and leaves all as it was, but for what is new: a version, a password, a token.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import hvac
import requests

from devserver.postgres import Postgres
from devserver.proxy import Proxy, say_nothing
from devserver.stored import StoredOpenBao
from live.faults import Fault

NAME = "my-vault-app"
KV, KV_PATH = f"{NAME}-kv", "database"
DYNAMIC, STATIC = "db-demo-dynamic", "db-demo-static"
ROLE = f"/v1/auth/approle/role/{NAME}"
TRIES = 3
PAUSE_SECONDS = 1.0


@dataclass
class World:
    """What a fault may lay hands on."""

    openbao: StoredOpenBao
    postgres: Postgres
    proxy: Proxy
    """Between the application and OpenBao."""
    kill_application: Callable[[], object]
    secret_id: str = field(default="", repr=False)
    """With which the application logs in."""

    @property
    def root(self) -> hvac.Client:
        return self.openbao.root

    # ── What is asked of the administrator ───────────────────────────────────────────────────────────────────────────

    def write_secret(self) -> None:
        values = {"api_key": f"changed-{secrets.token_hex(4)}", "database_url": "mysql://localhost:3306/mydb"}
        self.root.secrets.kv.v2.create_or_update_secret(KV_PATH, values, mount_point=KV)

    def delete_secret(self) -> None:
        self.root.secrets.kv.v2.delete_latest_version_of_secret(KV_PATH, mount_point=KV)

    def undelete_secret(self) -> None:
        kv = self.root.secrets.kv.v2
        version = kv.read_secret_metadata(KV_PATH, mount_point=KV)["data"]["current_version"]
        kv.undelete_secret_versions(KV_PATH, [version], mount_point=KV)

    def rotate(self) -> None:
        """Tried again: while it rotates by itself, an OpenBao may answer "transaction commit failed"."""
        patiently(lambda: self._post(f"/v1/{NAME}-database/rotate-role/{STATIC}"))

    def revoke_token(self) -> None:
        """The token of who logged in by AppRole, which the application alone has."""
        self._post("/v1/sys/leases/revoke-prefix/auth/approle/login", sync=True)

    def revoke_lease(self) -> None:
        self._post(f"/v1/sys/leases/revoke-prefix/{NAME}-database/creds/{DYNAMIC}", sync=True)

    def issue_secret_id(self) -> str:
        """A new one for the application. Raises: an error of hvac or requests."""
        self.secret_id = str(self._post(f"{ROLE}/secret-id").json()["data"]["secret_id"])
        return self.secret_id

    def spend_secret_id(self) -> None:
        """Destroy it, and make a login necessary."""
        self._post(f"{ROLE}/secret-id/destroy", secret_id=self.secret_id)
        self.revoke_token()

    def _post(self, path: str, **body: Any) -> requests.Response:
        # hvac's raw requests: its own methods know some of these not at all.
        answer = hvac.adapters.RawAdapter.from_adapter(self.root.adapter).post(path, json=body)
        assert isinstance(answer, requests.Response)
        return answer

    # ── What is done to the processes and the network ────────────────────────────────────────────────────────────────

    def start_openbao(self) -> None:
        self.openbao.start()
        self.openbao.wait()

    def start_postgres(self) -> None:
        self.postgres.start_again()
        self.postgres.wait()

    def cut_network(self) -> None:
        """What is sent is lost, and nobody says so: the worst kind of outage."""
        self.proxy.misbehave(say_nothing)


def patiently(action: Callable[[], object]) -> None:
    """Try it up to TRIES times. Raises: what the last try raised."""
    for left in reversed(range(TRIES)):
        try:
            action()
            return
        except (hvac.exceptions.VaultError, requests.RequestException):
            if left == 0:
                raise
            time.sleep(PAUSE_SECONDS)


def faults_of(world: World) -> list[Fault]:
    """In the order of the buttons: the secrets, the token, the servers, the application."""
    return [
        Fault(
            "kv-write", "Write a new version",
            "within a refresh interval the version moves, and only then are the values read again",
            "K1", 6, world.write_secret,
        ),
        Fault(
            "kv-delete", "Delete the secret for 10 s",
            "a deleted version is an error, and the cached value goes; then it is there again",
            "K3", 10, world.delete_secret, world.undelete_secret,
        ),
        Fault(
            "rotate", "Rotate the static password",
            "nobody tells the application: it learns of it when the cached one's time is up (here 10 s), or is refused",
            "S1", 12, world.rotate,
        ),
        Fault(
            "revoke-lease", "Revoke the lease",
            "the database user is gone: the pool's next new connection is refused, and Vault is asked once for others",
            "C1", 10, world.revoke_lease,
        ),
        Fault(
            "revoke-token", "Revoke the token",
            "the next request is a 403; one question tells that the token is dead, and a login makes a new generation",
            "T9", 8, world.revoke_token,
        ),
        Fault(
            "seal", "Seal for 15 s",
            "Vault runs and answers nothing: what is cached serves on, marked stale",
            "K4", 15, world.openbao.seal, world.openbao.unseal,
        ),
        Fault(
            "kill", "Kill OpenBao for 8 s",
            "connections end at once; back-off, and afterwards token and leases are those of before",
            "T6", 8, world.openbao.kill, world.start_openbao,
        ),
        Fault(
            "cut", "Cut the network for 15 s",
            "requests hang to their timeout, and one that would renew the token leaves time for another",
            "H1", 15, world.cut_network, world.proxy.behave,
        ),
        Fault(
            "stop-database", "Stop the database for 10 s",
            "queries fail, for there is nobody to ask; credentials serve on to their end, and the pool connects again",
            "D2", 10, world.postgres.stop, world.start_postgres,
        ),
        Fault(
            "spend-secret-id", "Spend the secret_id",
            "the login is refused for good, so the application ends with status 1; it is started with a new secret_id",
            "T7", 12, world.spend_secret_id,
        ),
        Fault(
            "restart", "Kill the application",
            "this page shows the past, marked so, until the new process reports; the old token ends by itself",
            "T8", 8, world.kill_application,
        ),
    ]  # fmt: skip
