"""python -m gateway.demo: the gateway on a real OpenBao, with an identity provider, two tenants and four people.

`make gateway` runs this. It shows what to paste into a second terminal; Ctrl+C ends and removes everything.
"""

from __future__ import annotations

import signal

if __name__ == "__main__":  # Skip this: it keeps a Ctrl+C during the imports from showing a traceback.
    signal.signal(signal.SIGINT, signal.SIG_DFL)

import http.client
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from devserver import DevServer, DevServerError
from devserver.__main__ import PORT, Interrupted, Signals
from devserver.openbao import HOST, free_port
from devserver.process import Process
from devserver.running import Running, announced

PROJECT = Path(__file__).parent.parent
COMMAND = (sys.executable, "-m", "gateway")
GATEWAY_PORT, METRICS_PORT = 8280, 8281
"""Those of gateway.ini; others if these are taken."""
START_SECONDS = 30.0


@dataclass(frozen=True)
class Demo:
    """What runs, and where."""

    server: DevServer
    process: Process
    log: Path
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
    with (
        tempfile.TemporaryDirectory(prefix="vault-gateway-") as secrets,
        DevServer(port=PORT, lifetimes=to_prepare(secrets), check=check) as server,
    ):
        demo = start(server, secrets)
        try:
            demo.process.wait_until(lambda: is_ready(demo.metrics_port), START_SECONDS, check)
            with announced("gateway", Running(vault=server.openbao.url, secrets=secrets)):
                yield demo
        finally:
            demo.process.stop()


def to_prepare(secrets: str) -> dict[str, str]:
    """The variables of setup-vault.sh. Its secret_ids do not end: nobody is there to issue new ones."""
    return {
        **TENANTS,
        "SETUP_ROOMS": "gateway",
        "SECRET_ID_TTL": "0",
        "GATEWAY_DEMO": "true",
        "GATEWAY_AUDIENCE": AUDIENCE,
        "GATEWAY_SECRETS_DIR": secrets,
    }


def start(server: DevServer, secrets: str) -> Demo:
    port, metrics_port = free_port(GATEWAY_PORT), free_port(METRICS_PORT)
    environment = {
        **server.environment,
        **TENANTS,
        "GATEWAY_HOST": HOST,
        "GATEWAY_PORT": str(port),
        "GATEWAY_NAMESPACE": "",
        "GATEWAY_SECRET_ID_FILE": f"{secrets}/{{tenant}}",
        "GATEWAY_IDENTITY_ISSUER": f"{server.openbao.url}/v1/identity/oidc",
        "GATEWAY_IDENTITY_AUDIENCE": AUDIENCE,
        "GATEWAY_METRICS_HOST": HOST,
        "GATEWAY_METRICS_PORT": str(metrics_port),
        "PYTHONPATH": os.pathsep.join(filter(None, [str(PROJECT), os.environ.get("PYTHONPATH")])),
    }
    log = server.folder / "gateway.log"
    return Demo(server, Process("the gateway", COMMAND, log=log, env=environment), log, port, metrics_port)


def is_ready(metrics_port: int) -> bool:
    """Whether the gateway has its keys and its tokens. Not through a proxy: this is loopback."""
    connection = http.client.HTTPConnection(HOST, metrics_port, timeout=2)
    with closing(connection), suppress(OSError, http.client.HTTPException):
        connection.request("GET", "/readyz")
        return connection.getresponse().status == 200
    return False


# ── What to paste ────────────────────────────────────────────────────────────────────────────────────────────────────


def curl(who: str, path: str, *options: str) -> str:
    """A command line. The JWT comes by stdin: on a command line every user of the machine could read it."""
    return " ".join([f"scripts/demo-token --header {who} | curl -sS -i -H @-", *options, path])


def a_body(text: str) -> str:
    return f"-H 'Content-Type: application/json' -d '{text}'"


def to_paste(url: str) -> list[tuple[str, str]]:
    """What is shown, and the line that shows it, in this order."""
    app, value = f"{url}/vault/secrets/app", '{"data": {"owner": "acme", "api_key": "changed"}}'
    return [
        ("alice reads a secret of her tenant, acme", curl("alice", app)),
        ("oscar, an operator, may not read it", curl("oscar", app)),
        ("alice writes version 4", curl("alice", app, "-X PUT", a_body(value))),
        (
            "who has not seen that writes nothing",
            curl("alice", app, "-X PUT", "-H 'If-Match: \"3-000000000000\"'", a_body(value)),
        ),
        ("version 1 is put back, as version 5", curl("alice", f"{url}/vault/rollback/app", a_body('{"version": 1}'))),
    ]


def how_to_use(demo: Demo) -> str:
    openbao = demo.server.openbao
    return "\n".join(
        [
            "",
            f"OpenBao, which is also the identity provider: {openbao.url}",
            "Tenants: acme and globex, each with a secret `app`",
            "People: alice writes and bob reads in acme, mallory is of globex, oscar operates acme",
            f"The gateway: {demo.url}, described in {demo.url}/openapi.json",
            f"Its metrics and health, apart: http://{HOST}:{demo.metrics_port}/metrics, /livez, /readyz",
            f"What it logs: {demo.log}",
            f"What the server logs of it: {openbao.audit_log}",
            "",
            "Paste this into a second terminal, in this folder, line by line:",
            *(text for what, line in to_paste(demo.url) for text in ("", f"{what}:", f"  {line}")),
            "",
            "Ctrl+C ends and removes all of it.",
        ]
    )


def main() -> int:
    signals = Signals()
    try:
        say("starting OpenBao, its identity provider and the gateway …")
        with running(signals.check) as demo:
            print(how_to_use(demo), flush=True)
            signals.wait(demo.check)
        say("everything is stopped and removed")
    except Interrupted:
        return 128 + (signals.received or 0)
    except (DevServerError, OSError) as error:
        say(str(error))
        return 1
    return 0


def say(text: str) -> None:
    print(f"gateway: {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
