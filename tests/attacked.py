"""A gateway to attack: in this process, on the real server, with two tenants, and with whatever JWT a test makes up.

In this process, since what it logs at DEBUG, keeps and raises is looked at from inside; over a real socket, raw, since
clients would normalise what is sent.
"""

from __future__ import annotations

import asyncio
import io
import json
import logging
import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any, NamedTuple

from devserver.openbao import free_port
from gateway.access_log import AccessLog
from gateway.api.gate import Gate
from gateway.api.server import Server, gateway_of, uvicorn_config
from gateway.settings import GatewaySettings
from gateway.tenants import vault_config
from listeners.json_log import JsonFormatter
from tests.backends import Backend
from tests.e2e.test_setup_gateway import Gateway as Setup
from tests.identity_provider import Provider
from tests.servers import respond

HOST = "127.0.0.1"
PATIENCE_SECONDS = 60.0
VALUES = {tenant: f"canary-of-{tenant}-4711" for tenant in ("acme", "globex")}
"""What stands in `app` of each tenant: at the same path."""
ALICE: dict[str, Any] = {}
MALLORY = {"sub": "0bad", "username": "mallory", "tenant": "globex", "groups": ["globex-writers", "globex-readers"]}
OSCAR = {"sub": "0ca1", "username": "oscar", "groups": ["gateway-operators"]}
NOBODY = {"sub": "0000", "username": "nobody", "groups": []}


class Reply(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def kind(self) -> str:
        """The type of the problem, short."""
        return str(self.json["type"]).rpartition(":")[2]


class Attacked:
    """The gateway, and what is seen of it."""

    def __init__(self, gate: Gate, port: int, provider: Provider, log: io.StringIO, files: Path) -> None:
        self.gate, self.port, self.provider = gate, port, provider
        self.gateway = gate._gateway
        self.metrics_port = self.gateway.settings.metrics.port
        self._log, self._files = log, files

    @property
    def log(self) -> str:
        """All that was logged, by whomever, at DEBUG."""
        return self._log.getvalue()

    @property
    def access(self) -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in self.log.splitlines()]
        return [line for line in lines if "ms" in line]

    def lines(self, request_id: str) -> list[dict[str, Any]]:
        return [line for line in self.access if line["request_id"] == request_id]

    @property
    def trail(self) -> str:
        return (self._files / "audit.log").read_text()

    def secret_ids(self) -> list[str]:
        return [path.read_text().strip() for path in (self._files / "secrets").iterdir()]

    def jwt(self, person: dict[str, Any] = ALICE, **changes: Any) -> str:
        return self.provider.token(**{**person, **changes})

    def connect(self, timeout: float = PATIENCE_SECONDS) -> socket.socket:
        return socket.create_connection((HOST, self.port), timeout)

    def send(self, raw: bytes) -> bytes:
        """All that comes back, until the other side closes or a whole answer is there."""
        with closing(self.connect()) as connection:
            connection.sendall(raw)
            return received(connection, has_body=not raw.startswith(b"HEAD "))

    def ask(
        self, target: bytes | str, method: str = "GET", *, jwt: str = "", body: Any = None, **headers: str
    ) -> Reply:
        """An answer to one request; `If_Match="…"` becomes a header."""
        raw = request(target, method, jwt or self.jwt(), body, **headers)
        return reply(self.send(raw))

    def metrics(self) -> str:
        with closing(socket.create_connection((HOST, self.metrics_port), PATIENCE_SECONDS)) as connection:
            connection.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
            return received(connection).decode().partition("\r\n\r\n")[2]


def request(target: bytes | str, method: str = "GET", jwt: str = "", body: Any = None, **headers: str) -> bytes:
    """The bytes of a request."""
    target = target.encode() if isinstance(target, str) else target
    lines = [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    lines += [f"Authorization: Bearer {jwt}"] if jwt else []
    raw = b""
    if body is not None:
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        lines += ["Content-Type: application/json", f"Content-Length: {len(raw)}"]
    head = "".join(f"{line}\r\n" for line in ["Host: gateway", *lines])
    return method.encode() + b" " + target + b" HTTP/1.1\r\n" + head.encode("latin-1") + b"\r\n" + raw


def received(connection: socket.socket, *, has_body: bool = True) -> bytes:
    """What comes until the end, or until an answer is whole."""
    found = b""
    while chunk := connection.recv(65_536):
        found += chunk
        head, ends, body = found.partition(b"\r\n\r\n")
        if ends and b"\r\ncontent-length: " in head.lower():
            if not has_body or len(body) >= int(reply(found).headers["content-length"]):
                break
        elif ends and head.startswith((b"HTTP/1.1 204", b"HTTP/1.1 304")):
            break
    return found


def reply(raw: bytes) -> Reply:
    head, _, body = raw.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    return Reply(int(first.split(" ")[1]), headers, body)


# ── Starting ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@contextmanager
def prepared(backend: Backend, files: Path) -> Iterator[Provider]:
    """The server with two tenants, which trusts this provider, too; afterwards it is as it was."""
    provider = Provider()
    setup = Setup(backend, files / "secrets")
    with provider.server.running():
        provider.answer(described(provider))
        try:
            done = setup.prepare(GATEWAY_DEMO="false", GATEWAY_ISSUER=provider.issuer)
            assert done.returncode == 0, done.stderr
            for tenant, value in VALUES.items():
                backend.root.adapter.post(f"/v1/tenants/data/{tenant}/app", json={"data": {"value": value}})
            yield provider
        finally:
            setup.remove()


def described(provider: Provider) -> Any:
    """Answers with the provider's description, or its keys: OpenBao asks for both."""
    description = {
        "issuer": provider.issuer, "jwks_uri": f"{provider.issuer}/keys", "subject_types_supported": ["public"],
        "authorization_endpoint": f"{provider.issuer}/authorize", "token_endpoint": f"{provider.issuer}/token",
        "response_types_supported": ["code"], "id_token_signing_alg_values_supported": ["ES256"],
    }  # fmt: skip

    def answer(handler: BaseHTTPRequestHandler) -> None:
        respond(200, description if "openid-configuration" in handler.path else provider.jwks())(handler)

    return answer


@contextmanager
def attacked(url: str, provider: Provider, files: Path, **environment: str) -> Iterator[Attacked]:
    """A gateway on the server with this address."""
    environ = {
        "VAULT_URL": url,
        "GATEWAY_PORT": "0",
        "GATEWAY_METRICS_PORT": str(free_port(0)),
        "GATEWAY_SECRET_ID_FILE": f"{files}/secrets/{{tenant}}",
        "GATEWAY_AUDIT_FILE": f"{files}/audit.log",
        "GATEWAY_IDENTITY_ISSUER": provider.issuer,
        "GATEWAY_IDENTITY_JWKS_URL": f"{provider.issuer}/keys",
        "GATEWAY_LIMITS_BODY_SECONDS": "0.5",
        **environment,
    }
    with logged() as log:
        running = Running(environ, log)
        running.start()
        try:
            gate, port = running.found()
            yield Attacked(gate, port, provider, log, files)
        finally:
            running.end()


class Running(threading.Thread):
    """An event loop of its own, with uvicorn, as `python -m gateway` has it."""

    def __init__(self, environ: dict[str, str], log: io.StringIO) -> None:
        super().__init__(name="attacked-gateway")
        self._access_log = AccessLog(log)
        self._settings, self._config = GatewaySettings.load(environ=environ), vault_config(environ)
        self._is_up = threading.Event()
        self._gate: Gate | None = None
        self._server: Server | None = None

    def run(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        async with gateway_of(self._settings, self._config, self._access_log) as self._gate:
            self._server = Server(uvicorn_config(self._settings, self._gate), self._gate)
            serving = asyncio.ensure_future(self._server.serve())
            while not self._server.started:
                await asyncio.sleep(0.01)
            self._is_up.set()
            await serving

    def found(self) -> tuple[Gate, int]:
        assert self._is_up.wait(PATIENCE_SECONDS)
        assert self._gate is not None
        assert self._server is not None
        return self._gate, self._server.servers[0].sockets[0].getsockname()[1]

    def end(self) -> None:
        if self._server is not None:
            self._server.should_exit = True
        self.join(PATIENCE_SECONDS)


@contextmanager
def logged() -> Iterator[io.StringIO]:
    """All that is logged at DEBUG, as `--log-level debug` has it; the access log goes there, too."""
    stream, root = io.StringIO(), logging.getLogger()
    handler, level = logging.StreamHandler(stream), root.level
    handler.setFormatter(JsonFormatter())
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    try:
        yield stream
    finally:
        root.removeHandler(handler)
        root.setLevel(level)
