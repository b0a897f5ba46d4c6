"""python -m gateway.demo: the gateway on a real OpenBao, with an identity provider, two tenants and four people.

`make gateway` runs this. It shows what to paste into a second terminal; Ctrl+C ends and removes everything.
"""

from __future__ import annotations

import signal

if __name__ == "__main__":  # Skip this: it keeps a Ctrl+C during the imports from showing a traceback.
    signal.signal(signal.SIGINT, signal.SIG_DFL)

import http.client
import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from devserver import DevServer, DevServerError
from devserver.__main__ import PORT, Interrupted, Signals
from devserver.openbao import HOST, free_port
from devserver.process import Process
from devserver.running import Running, announced
from listeners.usage import CommandLine

from .store import etag_of

PROJECT = Path(__file__).parent.parent
COMMAND = (sys.executable, "-m", "gateway")
GATEWAY_PORT, METRICS_PORT = 8280, 8281
"""Those of gateway.ini; others if these are taken."""
START_SECONDS = 30.0
STEP = "  ✓ "
"""How setup-vault.sh begins a line about what it has done."""


@dataclass(frozen=True)
class Demo:
    """What runs, and where."""

    server: DevServer
    process: Process
    log: Path
    audit: Path
    port: int
    metrics_port: int

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    def check(self) -> None:
        """Raises: DevServerError, if one of the three has ended by itself."""
        self.server.check()
        self.process.check()


TENANTS = {"GATEWAY_TENANTS": "acme,globex", "GATEWAY_MOUNT": "tenants", "GATEWAY_PREFIX": "{tenant}"}
"""Whatever the terminal still holds for another server: people, secrets and commands are of these tenants."""
AUDIENCE = "secrets-gateway"


@contextmanager
def running(check: Callable[[], None]) -> Iterator[Demo]:
    """OpenBao, prepared, and the gateway on it. Raises: DevServerError; and whatever `check` raises while it starts."""
    steps = Steps()

    def look() -> None:
        steps.look(server.folder / "setup-vault.log")
        check()

    with tempfile.TemporaryDirectory(prefix="vault-gateway-") as secrets:
        server = DevServer(port=PORT, lifetimes=to_prepare(secrets), check=look)
        with server:
            look()
            say("starting the gateway …")
            demo = start(server, secrets)
            try:
                demo.process.wait_until(lambda: is_ready(demo), START_SECONDS, check)
                with announced("gateway", Running(vault=server.openbao.url, secrets=secrets)):
                    yield demo
            finally:
                demo.process.stop()


class Steps:
    """Tells what setup-vault.sh has done, as soon as it is done: a start takes some seconds."""

    def __init__(self) -> None:
        self._told = 0

    def look(self, log: Path) -> None:
        text = log.read_text(encoding="utf-8") if log.exists() else ""
        done = [line for line in text.rpartition("\n")[0].splitlines() if line.startswith(STEP)]
        for line in done[self._told :]:
            print(line, file=sys.stderr, flush=True)
        self._told = len(done)


def to_prepare(secrets: str) -> dict[str, str]:
    """The variables of setup-vault.sh. Its secret_ids do not end: nobody is there to issue new ones."""
    return {
        **TENANTS,
        "SETUP_ROOMS": "gateway",
        "SECRET_ID_TTL": "0",
        "DATABASE_DYNAMIC_ENABLED": "false",
        "DATABASE_STATIC_ENABLED": "false",
        "GATEWAY_DEMO": "true",
        "GATEWAY_AUDIENCE": AUDIENCE,
        "GATEWAY_SECRETS_DIR": secrets,
    }


def start(server: DevServer, secrets: str) -> Demo:
    port, metrics_port = free_port(GATEWAY_PORT), free_port(METRICS_PORT)
    log, audit = server.folder / "gateway.log", server.folder / "gateway-audit.log"
    environment = {
        **server.environment,
        **TENANTS,
        "GATEWAY_HOST": HOST,
        "GATEWAY_PORT": str(port),
        "GATEWAY_NAMESPACE": "",
        "GATEWAY_AUDIT_FILE": str(audit),
        "GATEWAY_SECRET_ID_FILE": f"{secrets}/{{tenant}}",
        "GATEWAY_IDENTITY_ISSUER": f"{server.openbao.url}/v1/identity/oidc",
        "GATEWAY_IDENTITY_AUDIENCE": AUDIENCE,
        "GATEWAY_METRICS_HOST": HOST,
        "GATEWAY_METRICS_PORT": str(metrics_port),
        "PYTHONPATH": os.pathsep.join(filter(None, [str(PROJECT), os.environ.get("PYTHONPATH")])),
    }
    process = Process("the gateway", COMMAND, log=log, env=environment)
    return Demo(server, process, log, audit, port, metrics_port)


def is_ready(demo: Demo) -> bool:
    """Whether the gateway has its keys and its tokens: ours, and not another that took the port in the meantime."""
    return demo.url in demo.log.read_text(encoding="utf-8") and says_ready(demo.metrics_port)


def says_ready(metrics_port: int) -> bool:
    """What a gateway's /readyz says; asked through no proxy: this is loopback."""
    connection = http.client.HTTPConnection(HOST, metrics_port, timeout=2)
    with closing(connection), suppress(OSError, http.client.HTTPException):
        connection.request("GET", "/readyz")
        return connection.getresponse().status == 200
    return False


# ── What to paste ────────────────────────────────────────────────────────────────────────────────────────────────────


def curl(who: str, path: str, *options: str) -> str:
    """A command line. The JWT comes by stdin: on a command line every user of the machine could read it."""
    return " ".join([f"scripts/demo-token --header {who} | curl -sSi -H @-", *options, path])


def a_body(text: str) -> str:
    return f"-H 'Content-Type: application/json' -d '{text}'"


def to_paste(url: str, etag: str) -> list[tuple[str, str]]:
    """What is shown, and the line that shows it, in this order. The ETag is that of version 3."""
    app, put = f"{url}/vault/secrets/app", "-X PUT"
    one, another = a_body('{"data":{"api_key":"changed"}}'), a_body('{"data":{"api_key":"lost"}}')
    back, restorer = a_body('{"version":1}'), who_puts_back()
    return [
        ("alice reads a secret of her tenant, acme", curl("alice", app)),
        ("oscar, an operator, may not read it", curl("oscar", app)),
        ("alice writes version 4", curl("alice", app, put, one)),
        (
            "who believes that it is still version 3 writes nothing",
            curl("alice", app, put, f"-H 'If-Match: {etag}'", another),
        ),
        (f"{restorer} puts back version 1, as version 5", curl(restorer, f"{url}/vault/rollback/app", back)),
    ]


def who_puts_back() -> str:
    """Oscar, who may not read what he puts back; but where Vault knows the caller, it lets nobody do that."""
    return "alice" if os.environ.get("GATEWAY_ACT_AS") == "caller" else "oscar"


def etag_of_app(server: DevServer) -> str:
    """That of the version which setup/gateway wrote last, as the gateway gives it to who reads it."""
    connection = http.client.HTTPConnection(HOST, server.openbao.port, timeout=START_SECONDS)
    with closing(connection):
        connection.request("GET", "/v1/tenants/metadata/acme/app", headers={"X-Vault-Token": server.openbao.root_token})
        metadata = json.load(connection.getresponse())["data"]
    version = metadata["current_version"]
    return etag_of(version, metadata["versions"][str(version)]["created_time"])


def how_to_use(demo: Demo) -> str:
    openbao = demo.server.openbao
    return "\n".join(
        [
            "",
            f"OpenBao, which is also the identity provider: {openbao.url}",
            "Tenants: acme and globex, each with a secret `app`",
            "People: alice writes and bob reads in acme, mallory is of globex, oscar operates acme",
            f"The gateway: {demo.url}; to who shows a token, {demo.url}/openapi.json describes it",
            f"Its metrics and health, apart: http://{HOST}:{demo.metrics_port}/metrics, /livez, /readyz",
            f"What it logs: {demo.log}",
            f"Who did what: {demo.audit}",
            f"What the server wrote down of it: {openbao.audit_log}",
            "",
            "Paste this into a second terminal, in this folder, line by line:",
            *(
                text
                for what, line in to_paste(demo.url, etag_of_app(demo.server))
                for text in ("", f"{what}:", f"  {line}")
            ),
            "",
            "Ctrl+C ends and removes all of it.",
        ]
    )


def main(arguments: Sequence[str] | None = None) -> int:
    CommandLine(
        prog="python -m gateway.demo",
        example="python -m gateway.demo",
        description="Runs the gateway on an OpenBao of its own until Ctrl+C, and shows what to paste into a terminal.",
    ).parse_args(arguments)
    signals = Signals()
    try:
        say("starting OpenBao and what setup-vault.sh prepares on it; this takes some seconds …")
        with running(signals.check) as demo:
            if demo.port != GATEWAY_PORT:
                say(f"port {GATEWAY_PORT} is in use, so another was taken")
            print(how_to_use(demo), flush=True)
            signals.wait(demo.check)
        say("everything is stopped and removed")
    except Interrupted:
        say("what had started is stopped and removed")
        return 128 + (signals.received or 0)
    except (DevServerError, OSError) as error:
        say(str(error))
        return 1
    return 0


def say(text: str) -> None:
    print(f"gateway: {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
