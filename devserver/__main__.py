"""python -m devserver [-- COMMAND…]: run a command against a real server and database, or wait in the foreground."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from queue import Empty, SimpleQueue

from devserver import DevServer, DevServerError
from devserver.openbao import HOST
from listeners.usage import CommandLine, port

PORT = 8200
SIGNALS = (signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGHUP)
"""Ctrl+C, Ctrl+\\, kill, and a terminal that is closed."""


class Interrupted(Exception):
    """A signal came before there was a command to pass it on to."""


class Signals:
    """Passes signals on to the command, and remembers one that comes while there is none.

    A handler never raises: wherever the signal strikes, what was started is stopped in order.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self._command: subprocess.Popen[bytes] | None = None
        self._arrived: SimpleQueue[int] = SimpleQueue()
        for number in SIGNALS:
            if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:  # as under nohup
                signal.signal(number, self._handle)

    def _handle(self, number: int, _frame: object) -> None:
        self.received = number
        if self._command is not None:
            self._command.send_signal(number)
        self._arrived.put(number)

    def check(self) -> None:
        """Raises: Interrupted, if a signal came."""
        if self.received is not None:
            raise Interrupted

    def run(self, command: Sequence[str], environment: dict[str, str]) -> int:
        """Run the command to its end and return its exit status, as a shell would."""
        self.check()
        # A session of its own: the Ctrl+C of a terminal comes from us alone, so that it comes once.
        self._command = subprocess.Popen(command, env=environment, start_new_session=True)
        if self.received is not None:
            self._command.send_signal(self.received)
        status = self._command.wait()
        self._command = None
        return 128 - status if status < 0 else status

    def wait(self, check: Callable[[], None]) -> None:
        """Wait for a signal; `check` is called every second and may raise."""
        while True:
            with suppress(Empty):
                self._arrived.get(timeout=1)
                return
            check()


def main() -> int:
    parser = CommandLine(
        prog="python -m devserver",
        example="TOKEN_PERIOD=15s python -m devserver -- python vault_app.py --show-secrets",
        description="Starts OpenBao and PostgreSQL, prepares them with setup-vault.sh, runs COMMAND with the"
        " environment that\nthe application needs, and removes everything. Without a COMMAND it waits for Ctrl+C.",
    )
    parser.add_argument("--port", type=port, default=PORT, help="preferred port of OpenBao [%(default)s]; 0: any")
    parser.add_argument("command", nargs="*", metavar="COMMAND")
    options = parser.parse_args()
    signals = Signals()
    try:
        say("starting OpenBao and PostgreSQL …")
        with DevServer(port=options.port, check=signals.check) as server:
            say(f"OpenBao at {server.openbao.url}, PostgreSQL at {server.postgres.host}")
            if options.port not in (0, server.openbao.port):
                say(f"port {options.port} is in use, so this one was taken")
            if options.command:
                return signals.run(options.command, server.environment)
            print(how_to_use(server), flush=True)
            signals.wait(server.check)
        say("both servers are stopped, and everything is removed")
    except Interrupted:
        return 128 + (signals.received or 0)
    except (DevServerError, OSError) as error:
        say(str(error))
        return 1
    return 0


def say(text: str) -> None:
    print(f"devserver: {text}", file=sys.stderr, flush=True)


STALE = ("VAULT_URL", "VAULT_NAMESPACE", "VAULT_ENTITY", "VAULT_ROLE_ID", "BAO_ADDR", "BAO_TOKEN", "BAO_NAMESPACE")
"""What a terminal may still hold of another server, and what is printed here does not replace."""

KV = "my-vault-app-kv/database"
DYNAMIC = "my-vault-app-database/creds/db-demo-dynamic"
STATIC = "my-vault-app-database/rotate-role/db-demo-static"
CHANGES = (
    (f"bao kv patch {KV} api_key=changed", "version 2, seen within 5 s"),
    (f"bao kv delete {KV}", "version 2 is deleted, which is an error,"),
    (f"bao kv undelete -versions=2 {KV}", "and it is there again"),
    (f"bao write -force {STATIC}", "a new static password"),
    (f"bao list sys/leases/lookup/{DYNAMIC}", "the leases of the dynamic credentials"),
    (f"bao lease revoke -prefix {DYNAMIC}", "their database users are gone"),
    ("bao token revoke -mode=path auth/approle", "the application's token, too: it logs in again"),
)
"""What to type beside a running application, in this order, and what comes of it."""


def how_to_use(server: DevServer) -> str:
    """What a second terminal needs."""
    variables = {**server.administration, **server.application, **server.database}
    path = variables.pop("PATH").split(os.pathsep)[0]
    exports = [f"export {name}={shlex.quote(value)}" for name, value in variables.items()]
    # requests reads the small letters first, most others the capitals; what the terminal has is kept.
    past_proxies = [f"export {name}={HOST}${{{name}:+,${name}}}" for name in ("NO_PROXY", "no_proxy")]
    return "\n".join(
        [
            "",
            "Paste this into a second and a third terminal, in this folder:",
            "",
            f"unset {' '.join(STALE)}",
            *exports,
            *past_proxies,
            f"export PATH={shlex.quote(path)}:$PATH",
            "",
            "Then start the application in one of them:",
            "  .venv/bin/python vault_app.py --show-secrets",
            "",
            "And change things in the other, line by line:",
            *(f"  {command:<70} # {outcome}" for command, outcome in CHANGES),
            "",
            *([f"Web UI: {server.openbao.url}/ui/ (sign in with the token)"] if server.openbao.has_ui() else []),
            f"Root token: {server.openbao.root_token}",
            f"Every request, as the server logs it: {server.openbao.audit_log}",
            "",
            "Ctrl+C stops both servers and removes everything.",
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
