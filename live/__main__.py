"""python -m live: the page for an application on a server of your own, as config.ini and the environment say."""

from __future__ import annotations

import signal

if __name__ == "__main__":  # Skip this: it keeps a Ctrl+C during the imports from showing a traceback.
    signal.signal(signal.SIGINT, signal.SIG_DFL)

import argparse
import os
import sys
from queue import SimpleQueue

from config_loader import VaultConfig
from listeners.command_line import report
from listeners.signals import SignalHandler, next_of
from listeners.streams import open_missing
from listeners.usage import CommandLine, port
from live.board import Board
from live.health import watched
from live.page import PORT, listen, served
from live.program import Program
from vault_app import MISCONFIGURED, OK
from vaultkit.errors import ConfigurationError

APPLICATION = (sys.executable, "-m", "live.application")


def parse_arguments() -> argparse.Namespace:
    parser = CommandLine(
        example="VAULT_SECRET_ID=475a6500-... python -m live",
        prog="python -m live",
        description="Runs the application on your own server, and shows how it lives on a page of this machine.",
        epilog="With a server, a database and faults at a button: make live",
    )
    parser.add_argument("--port", type=port, default=PORT, help="preferred port of the page [%(default)s]; 0: any")
    parser.add_argument("--show-secrets", action="store_true", help="show values instead of a mask")
    return parser.parse_args()


def main() -> int:
    options = parse_arguments()
    open_missing()
    if options.show_secrets:
        os.environ["CONSOLE_SHOW_SECRETS"] = "true"
    try:
        config = VaultConfig.load()
    except ConfigurationError as error:
        report(error)
        return MISCONFIGURED
    ends: SimpleQueue[int] = SimpleQueue()
    SignalHandler(lambda name: ends.put(OK))
    board = Board(config.vault.url)
    program = Program(APPLICATION, lambda: os.environ, board, ended=ends.put)
    with served(board, None, listen(options.port)) as address, watched(config, board):
        print(f"live page: {address}", flush=True)
        program.start()
        status = next_of(ends)
        program.stop()
    return status


if __name__ == "__main__":
    sys.exit(main())
