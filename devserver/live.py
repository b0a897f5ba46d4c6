"""python -m devserver.live: the live page on a real OpenBao and PostgreSQL, with a pool, and faults at a button.

`make live` runs this. What plays several rooms together stands here: neither the page nor the pool knows the other.
"""

from __future__ import annotations

import signal

if __name__ == "__main__":  # Skip this: it keeps a Ctrl+C during the imports from showing a traceback.
    signal.signal(signal.SIGINT, signal.SIG_DFL)

import argparse
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from itertools import count

import hvac

from config_loader import VaultConfig
from devserver import DevServer, DevServerError
from devserver.__main__ import PORT as VAULT_PORT
from devserver.__main__ import Interrupted, Signals
from devserver.breaking import World, faults_of
from devserver.openbao import HOST
from devserver.proxy import Proxy
from devserver.stored import StoredOpenBao
from listeners.usage import CommandLine, port
from live.audit import AuditLog
from live.board import Board
from live.counting import Counting
from live.faults import Faults
from live.health import watched
from live.page import PORT, listen, served
from live.program import Program
from live.repeating import repeated

APPLICATION = (sys.executable, "-m", "devserver.live_traffic")
LIFETIMES = {
    "TOKEN_PERIOD": "20s",
    "DB_DYNAMIC_TTL": "25s",
    "DB_ROTATION_PERIOD": "30s",
    "SECRET_ID_TTL": "24h",
}
"""So short that half a minute shows a renewal, new credentials and a rotation; others may be in the environment."""
SETTINGS = {"HTTP_TIMEOUT": "3", "TOKEN_BACKOFF_MAX": "5", "DATABASE_STATIC_CACHE_TIME": "10"}
"""For outages of seconds; with those of config.ini they would be over before they are seen."""
START_AGAIN_SECONDS, FIRST_SCREEN_SECONDS = 4.0, 5
LOOK_SECONDS = 0.2


def parse_arguments() -> argparse.Namespace:
    parser = CommandLine(
        example="CONSOLE_SHOW_SECRETS=true TOKEN_PERIOD=1m python -m devserver.live",
        prog="python -m devserver.live",
        description="Starts OpenBao, PostgreSQL and the application, and shows on a page how they live.",
    )
    parser.add_argument("--port", type=port, default=PORT, help="preferred port of the page [%(default)s]; 0: any")
    parser.add_argument(
        "--vault-port", type=port, default=VAULT_PORT, help="preferred port of OpenBao [%(default)s]; 0: any"
    )
    return parser.parse_args()


def main() -> int:
    options = parse_arguments()
    signals = Signals()
    try:
        say("starting OpenBao and PostgreSQL; this takes some seconds …")
        lifetimes = {name: os.environ.get(name) or value for name, value in LIFETIMES.items()}
        server = DevServer(port=options.vault_port, lifetimes=lifetimes, check=signals.check, kind=StoredOpenBao)
        with server, showing(server, options.port) as address:
            print(f"live page: {address}\n", flush=True)
            signals.wait(told_again(address))
        say("everything is stopped and removed")
    except Interrupted:
        return 128 + (signals.received or 0)
    except (DevServerError, OSError) as error:
        say(str(error))
        return 1
    return 0


def told_again(address: str) -> Callable[[], None]:
    """To be called each second. The application's first screen is longer than many a terminal: where was the page?"""
    seconds = count(1)

    def look() -> None:
        if next(seconds) == FIRST_SCREEN_SECONDS:
            print(f"\nlive page: {address}\n", flush=True)

    return look


@contextmanager
def showing(server: DevServer, port: int, pace: float = 1.0) -> Iterator[str]:
    """The application on this server, and its page; the page's address. With a `pace` of 0.5, faults last half as long.

    The server is one with storage (`DevServer(kind=StoredOpenBao)`).
    """
    assert isinstance(server.openbao, StoredOpenBao)
    with ExitStack() as stack:
        proxy = stack.enter_context(Proxy((HOST, server.openbao.port)).running())
        settings = {**SETTINGS, **server.environment, "VAULT_ADDR": proxy.url}
        config = VaultConfig.load(environ=settings)
        board = Board(proxy.url, Counting(config))
        world = World(server.openbao, server.postgres, proxy, lambda: program.kill(), server.secret_id)
        program = Program(
            APPLICATION, lambda: environment(world, settings), board, start_again_after=START_AGAIN_SECONDS
        )
        faults = Faults([fault.at(pace) for fault in faults_of(world)], board)
        board.faults, board.fault = faults.facts, lambda: faults.running
        stack.enter_context(audited(AuditLog(server.openbao.audit_log, config), board))
        stack.enter_context(watched(config, board))
        stack.callback(end, faults, proxy, program)
        address = stack.enter_context(served(board, faults, listen(port)))
        program.start()
        yield address


def environment(world: World, settings: Mapping[str, str]) -> dict[str, str]:
    """That of the application, with a secret_id of its own at each start. Raises: OSError, if none is to be had."""
    try:
        return {**settings, "VAULT_SECRET_ID": world.issue_secret_id()}
    except hvac.exceptions.VaultError as error:
        raise OSError(f"no secret_id is to be had ({type(error).__name__})") from None


def end(faults: Faults, proxy: Proxy, program: Program) -> None:
    """In the midst of a fault nothing that hangs is waited for: who asks finds nobody."""
    if faults.close():
        proxy.refuse()
    program.stop()


@contextmanager
def audited(log: AuditLog, board: Board) -> Iterator[None]:
    """While this lasts, the board is told of every request."""

    def look() -> None:
        for request in log.requests():
            board.requested(request)

    with closing(log), repeated("live-audit", look, every=LOOK_SECONDS, end=1.0):
        yield


def say(text: str) -> None:
    print(f"live: {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
