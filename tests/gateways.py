"""Gateways as processes, each with secrets, AppRoles and an identity provider of its own on a server that all share."""

from __future__ import annotations

import http.client
import json
import re
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import hvac

from devserver.openbao import HOST
from tests.backends import until
from tests.e2e.conftest import Program
from tests.identity_provider import Provider

TENANTS = ("acme", "globex")
COMMAND = (sys.executable, "-m", "gateway")
TYPE = "urn:vault-gateway:problem:"
POLICY = """
path "{mount}/data/{place}/*"     {{ capabilities = ["create", "read", "update", "delete"] }}
path "{mount}/metadata/{place}/*" {{ capabilities = ["read", "list"] }}
"""
QUICK = {
    "HTTP_TIMEOUT": "1",
    "TOKEN_CHECK_INTERVAL": "0.5",
    "TOKEN_BACKOFF_MAX": "2",
    "GATEWAY_CACHE_REFRESH_INTERVAL": "0.5",
    "GATEWAY_CACHE_PATIENCE": "0.3",
    "GATEWAY_CACHE_BACKOFF_MAX": "2",
    "GATEWAY_IDENTITY_KEYS_REFRESH": "0.5",
    "GATEWAY_IDENTITY_KEYS_COOLDOWN": "0.5",
}
"""Settings with which all goes ten times as fast as with those of the files."""


@dataclass(frozen=True)
class Answer:
    """What came back, and how long it took."""

    status: int
    headers: dict[str, str]
    body: bytes = field(repr=False)
    seconds: float

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def kind(self) -> str:
        """The type of a problem without what all of them begin with; nothing for a good answer."""
        if self.headers.get("content-type") != "application/problem+json":
            return ""
        return str(self.json["type"]).removeprefix(TYPE)

    def __str__(self) -> str:
        return " ".join(filter(None, [str(self.status), self.kind]))


def ask(
    port: int, method: str, path: str, token: str = "", body: Any = None, *, timeout: float = 60.0, **headers: str
) -> Answer:
    """One request on a connection of its own. Raises: OSError, http.client.HTTPException."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    if token:
        named["Authorization"] = f"Bearer {token}"
    if body is not None:
        named["Content-Type"] = "application/json"
    connection = http.client.HTTPConnection(HOST, port, timeout=timeout)
    began = time.monotonic()
    try:
        connection.request(method, path, None if body is None else json.dumps(body), named)
        response = connection.getresponse()
        raw = response.read()
    finally:
        connection.close()
    found = {name.lower(): value for name, value in response.getheaders()}
    return Answer(response.status, found, raw, time.monotonic() - began)


class Vault:
    """What the gateways called `name` find on a server: a place and an AppRole for each tenant, and a secret `app`."""

    def __init__(self, name: str, root: hvac.Client, folder: Path, mount: str = "my-vault-app-kv") -> None:
        self.name, self.root, self.folder, self.mount = name, root, folder, mount
        self.versions = 0
        self.secret_ids: list[str] = []

    def prepare(self) -> Vault:
        """Safe to call again: what was taken away is there again, and the secret_ids are new."""
        self.folder.mkdir(exist_ok=True)
        if f"{self.mount}/" not in self.root.sys.list_mounted_secrets_engines()["data"]:
            self.root.sys.enable_secrets_engine("kv", path=self.mount, options={"version": "2"})
            until(self._takes_writes, self.mount)
        for tenant in TENANTS:
            self.give_policy(tenant, POLICY)
            role = {"token_policies": self.role(tenant), "token_no_default_policy": False, "token_period": "5m"}
            self.root.adapter.post(f"/v1/auth/approle/role/{self.role(tenant)}", json=role)
            url = f"/v1/auth/approle/role/{self.role(tenant)}"
            self.root.adapter.post(f"{url}/role-id", json={"role_id": self.role(tenant)})
            self.secret_ids.append(self.root.adapter.post(f"{url}/secret-id")["data"]["secret_id"])
            (self.folder / tenant).write_text(self.secret_ids[-1])
        self.write()
        return self

    def _takes_writes(self) -> bool:
        """A new mount needs a moment."""
        with suppress(hvac.exceptions.InvalidRequest):
            self.write("first")
            return True
        return False

    def role(self, tenant: str) -> str:
        return f"{self.name}-{tenant}"

    def give_policy(self, tenant: str, text: str) -> None:
        place = f"{self.name}-{tenant}"
        self.root.sys.create_or_update_policy(self.role(tenant), text.format(mount=self.mount, place=place))

    def write(self, path: str = "app", tenant: str = "acme") -> str:
        """A new version, behind the gateway's back; its value."""
        self.versions += 1
        value = f"value-{self.versions}-of-{self.name}"
        self.root.secrets.kv.v2.create_or_update_secret(
            f"{self.name}-{tenant}/{path}", {"value": value}, mount_point=self.mount
        )
        return value

    def environment(self, provider: Provider) -> dict[str, str]:
        return {
            "VAULT_URL": str(self.root.url),
            "GATEWAY_PORT": "0",
            "GATEWAY_METRICS_PORT": "0",
            "GATEWAY_MOUNT": self.mount,
            "GATEWAY_PREFIX": f"{self.name}-{{tenant}}",
            "GATEWAY_ROLE_ID": f"{self.name}-{{tenant}}",
            "GATEWAY_SECRET_ID_FILE": f"{self.folder}/{{tenant}}",
            "GATEWAY_IDENTITY_ISSUER": provider.issuer,
            "GATEWAY_IDENTITY_JWKS_URL": f"{provider.issuer}/keys",
        }


class GatewayProcess(Program):
    """`python -m gateway`, on ports of its own."""

    def __init__(self, vault: Vault, provider: Provider, *, command: Sequence[str] = COMMAND, **environ: str) -> None:
        super().__init__(command, {**vault.environment(provider), **QUICK, **environ})

    @property
    def port(self) -> int:
        """Of the API, as its log says."""
        self.wait_for("the API is at http")
        return self._port_after("the API is at")

    @property
    def metrics_port(self) -> int:
        self.wait_for("metrics and health are at http")
        return self._port_after("metrics and health are at")

    def _port_after(self, words: str) -> int:
        found = re.search(rf"{words} http://[^:]+:(\d+)", self.err)
        assert found is not None
        return int(found[1])

    def ask(self, method: str, path: str, token: str = "", body: Any = None, **options: Any) -> Answer:
        return ask(self.port, method, path, token, body, **options)

    def health(self, path: str) -> Answer:
        return ask(self.metrics_port, "GET", path)

    def wait_until_ready(self) -> GatewayProcess:
        def is_ready() -> bool:
            with suppress(OSError):
                return self.health("/readyz").status == 200
            return False

        until(is_ready, "the gateway")
        self.wait_for("the API is at http")
        return self


@contextmanager
def gateway(vault: Vault, provider: Provider, **environ: str) -> Iterator[GatewayProcess]:
    """One that is ready, and has gone in the end."""
    with ExitStack() as stack:
        program = GatewayProcess(vault, provider, **environ)
        stack.callback(program.kill)
        yield program.wait_until_ready()
