"""The gateway as a process on a server that setup/gateway has prepared, and people who ask it.

    with prepared_server(backend, folder) as server, server.gateway(GATEWAY_ACT_AS="caller") as gateway:
        gateway.request("GET", "/vault/secrets/app", "alice").json

Whatever is answered is held to the OpenAPI file (`tests.gateway_contract`), wherever it is asked for.
"""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import hvac

from devserver.openbao import HOST, free_port
from devserver.process import Process
from devserver.setup import SCRIPT, without_vault
from gateway.demo import COMMAND, says_ready
from tests import gateway_contract
from tests.backends import START_SECONDS, Backend

PROJECT = Path(__file__).parent.parent
NAME = "my-vault-app-gateway"
TENANTS = ("acme", "globex")
PEOPLE = ("alice", "bob", "oscar", "mallory")
MOUNT = "tenants"
PATIENCE_SECONDS = 30.0
YOUNG_SECONDS = 200.0
"""A JWT lives for five minutes; one that is older than this is not used any more."""


@dataclass(frozen=True)
class Answer:
    """What came back. Header names are in small letters."""

    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def problem(self) -> str:
        """The kind of problem it is; nothing, if it is none."""
        is_one = self.headers.get("content-type") == "application/problem+json"
        return str(self.json["type"]).rpartition(":")[2] if is_one and self.body else ""

    @property
    def etag(self) -> str:
        return self.headers["etag"]


@dataclass
class Running:
    """A gateway that runs."""

    server: Prepared
    process: Process
    log: Path
    """What it has written: its log, and the access log."""
    port: int
    metrics_port: int

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    @property
    def metrics_url(self) -> str:
        return f"http://{HOST}:{self.metrics_port}"

    def token(self, name: str) -> str:
        """A JWT of this person."""
        return self.server.token(name)

    def request(
        self, method: str, target: str, who: str | None = None, *, body: Any = None, **headers: str | None
    ) -> Answer:
        """Ask as somebody, or as nobody. A body that is no bytes goes as JSON; `If_Match="x"` is a header.

        The target goes as it stands here: nothing is collapsed or escaped on the way.
        """
        sent = {} if who is None else {"Authorization": f"Bearer {self.token(who)}"}
        if body is not None and not isinstance(body, bytes):
            body, sent["Content-Type"] = json.dumps(body).encode(), "application/json"
        sent.update({name.replace("_", "-"): value for name, value in headers.items() if value is not None})
        answer = ask(self.port, method, target, body, sent)
        gateway_contract.check(method, target, answer.status, answer.headers, answer.body)
        return answer

    def metrics(self) -> str:
        return ask(self.metrics_port, "GET", "/metrics").body.decode()

    def log_lines(self, request_id: str) -> list[dict[str, Any]]:
        """Of the access log, those of one request."""
        lines = [line for line in self.log.read_text().splitlines() if f'"{request_id}"' in line]
        return [json.loads(line) for line in lines]


def ask(
    port: int, method: str, target: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
) -> Answer:
    """One request on a connection of its own. Raises: OSError, http.client.HTTPException."""
    with closing(http.client.HTTPConnection(HOST, port, timeout=PATIENCE_SECONDS)) as connection:
        connection.request(method, target, body, dict(headers or {}))
        response = connection.getresponse()
        found = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, found, response.read())


class Prepared:
    """A server on which setup/gateway has been, with people who can prove who they are."""

    def __init__(self, backend: Backend, folder: Path) -> None:
        self.backend = backend
        self.folder = folder
        self.secrets = folder / "secrets"
        self._tokens: dict[str, tuple[str, float]] = {}

    def set_up(self, **variables: str) -> None:
        """Run setup-vault.sh gateway, perhaps again."""
        own = {"GATEWAY_SECRETS_DIR": str(self.secrets), "GATEWAY_DEMO": "true", **variables}
        environment = {**without_vault(os.environ), **self.backend.administration, **own}
        done = subprocess.run(
            ["bash", str(SCRIPT), "gateway"], env=environment, capture_output=True, text=True, start_new_session=True,
            check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr

    def clear_away(self) -> None:
        """All that the script has made."""
        root = self.backend.root
        for tenant in TENANTS:
            root.adapter.delete(f"/v1/auth/approle/role/{NAME}-{tenant}")
            for policy in (f"{NAME}-{tenant}", f"gateway-{tenant}-read", f"gateway-{tenant}-write"):
                root.sys.delete_policy(policy)
        root.sys.disable_secrets_engine(MOUNT)
        for method in ("gateway-jwt", "userpass"):
            root.sys.disable_auth_method(method)
        for name in PEOPLE:
            root.secrets.identity.delete_entity_by_name(name)

    def token(self, name: str) -> str:
        """A JWT of this person, good for some minutes more."""
        token, since = self._tokens.get(name, ("", 0.0))
        if not token or time.monotonic() - since > YOUNG_SECONDS:
            token = self.new_token(name)
            self._tokens[name] = token, time.monotonic()
        return token

    def new_token(self, name: str) -> str:
        """A JWT of this person as the provider knows them now."""
        client = hvac.Client(url=self.backend.url, token="")
        client.auth.userpass.login(name, (self.secrets / f"{name}.password").read_text().strip())
        return str(client.read("identity/oidc/token/gateway")["data"]["token"])

    @contextmanager
    def gateway(self, log: str = "gateway.log", **environment: str) -> Iterator[Running]:
        """A gateway with these variables beside the usual ones."""
        running = self.start(log, **environment)
        try:
            running.process.wait_until(lambda: says_ready(running.metrics_port), START_SECONDS, lambda: None)
            yield running
        finally:
            running.process.stop()

    def start(self, log: str = "gateway.log", **environment: str) -> Running:
        """A gateway that is perhaps not ready yet, and not stopped by itself."""
        port, metrics_port = free_port(0), free_port(0)
        variables = {
            **without_vault(os.environ),
            "VAULT_URL": self.backend.url,
            "NO_PROXY": HOST,
            "PYTHONPATH": str(PROJECT),
            "GATEWAY_PORT": str(port),
            "GATEWAY_METRICS_PORT": str(metrics_port),
            "GATEWAY_SECRET_ID_FILE": f"{self.secrets}/{{tenant}}",
            "GATEWAY_IDENTITY_ISSUER": f"{self.backend.url}/v1/identity/oidc",
            **environment,
        }
        path = self.folder / log
        return Running(self, Process("the gateway", COMMAND, log=path, env=variables), path, port, metrics_port)


@contextmanager
def prepared_server(backend: Backend, folder: Path) -> Iterator[Prepared]:
    """A server on which setup/gateway has been; afterwards it is as it was."""
    made = Prepared(backend, folder)
    try:
        made.set_up()
        yield made
    finally:
        made.clear_away()


def address_of(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    return parts.hostname or "", parts.port or 80
