"""python -m issuer: issue, list, renew, rotate and revoke tokens of services, or watch over them.

Where the server is, and who the issuer is, say config.ini and the environment ([vault]); the rest says issuer.ini.
"""

from __future__ import annotations

import signal

if __name__ == "__main__":  # Skip this: it keeps a Ctrl+C during the imports from showing a traceback.
    signal.signal(signal.SIGINT, signal.SIG_DFL)

import argparse
import json
import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from queue import SimpleQueue
from typing import TypeAlias

from config_loader import DEFAULT_PATH, VaultConfig, read
from issuer.handover import Delivery, into_file, into_folder, receive, write_private
from issuer.issuer import VaultTokenIssuer
from issuer.issues import Service
from issuer.settings import IssuerSettings
from issuer.watch import Watch
from issuer.words import as_json, as_table
from listeners.command_line import configure_logging
from listeners.signals import SignalHandler, next_of
from listeners.streams import open_missing, settled
from listeners.usage import CommandLine
from vault_client import VaultClient
from vaultkit.auth.sources import from_file
from vaultkit.errors import ConfigurationError, VaultError
from vaultkit.shield import log_error
from vaultkit.transport.answers import printable
from vaultkit.transport.connection import ConnectionSettings
from vaultkit.worker import Worker

OK, FAILED, MISCONFIGURED = 0, 1, 2
EPILOG = """\
No token is ever an argument. A token goes into a file (--to), wrapped, which `receive` or `issuer.handover.receive`
unwraps once; onto a terminal it goes with --show-token alone.

exit status: 0 done, 1 refused or no answer, 2 the configuration or an option is wrong
"""
STOP_SECONDS = 2.0
Commands: TypeAlias = "argparse._SubParsersAction[CommandLine]"
Action = Callable[[VaultTokenIssuer, argparse.Namespace], None]


# ── The commands ─────────────────────────────────────────────────────────────────────────────────────────────────────


def issue(issuer: VaultTokenIssuer, options: argparse.Namespace) -> None:
    service = Service.of(options.tenant, options.service)
    delivery = issuer.issue(service, options.policy, options.ttl, key=options.key, replace=options.replace)
    if options.to:
        try:
            into_file(options.to)(delivery)
        except OSError:
            issuer.revoke(service, options.key)
            raise
    show_delivery(delivery, options)


def show_delivery(delivery: Delivery, options: argparse.Namespace) -> None:
    issued = [(delivery.service, delivery.issue)]
    shown = {"wrapping_token": delivery.wrapping_token} if options.show_token else {}
    if options.json:
        print(as_json(issued, wrap_ttl=delivery.wrap_ttl, **shown))
        return
    print(as_table(issued, time.time()))
    print(f"to be unwrapped within {delivery.wrap_ttl:g} s, from {delivery.creation_path}")
    for token in shown.values():
        print(token)


def show(issuer: VaultTokenIssuer, options: argparse.Namespace) -> None:
    issued = list(issuer.issued(options.tenant, options.service))
    print(as_json(issued) if options.json else as_table(issued, time.time()))


def renew(issuer: VaultTokenIssuer, options: argparse.Namespace) -> None:
    service = Service.of(options.tenant, options.service)
    issued = [(service, issuer.renew(service, options.key))]
    print(as_json(issued) if options.json else as_table(issued, time.time()))


def rotate(issuer: VaultTokenIssuer, options: argparse.Namespace) -> None:
    service = Service.of(options.tenant, options.service)
    issued = [(service, issuer.rotate(service, into_file(options.to), options.key))]
    print(as_json(issued) if options.json else as_table(issued, time.time()))


def revoke(issuer: VaultTokenIssuer, options: argparse.Namespace) -> None:
    if options.all:
        count = issuer.revoke_all(options.tenant, options.service, by_role=options.by_role)
    else:
        count = issuer.revoke(Service.of(options.tenant, options.service), options.key)
    say_count("revoked", count, options)


def recover(issuer: VaultTokenIssuer, options: argparse.Namespace) -> None:
    say_count("cleared", issuer.recover(), options)


def say_count(what: str, count: int, options: argparse.Namespace) -> None:
    print(json.dumps({what: count}) if options.json else f"{what}: {count}")


def watch(issuer: VaultTokenIssuer, options: argparse.Namespace) -> None:
    """Until a signal comes."""
    signals: SimpleQueue[str] = SimpleQueue()
    SignalHandler(signals.put)
    stop, over = threading.Event(), Watch(issuer, into_folder(options.to))
    worker = Worker(
        "issuer-watch", over.turn, interval=lambda: issuer.settings.interval, stop=stop,
        on_error=lambda error: log_error("issuer-watch", error),
    )  # fmt: skip
    worker.start()
    next_of(signals)
    stop.set()
    worker.join(STOP_SECONDS)  # not for ever: what it was at is cleared away by whoever looks next
    if options.revoke_at_end:
        say_count("revoked", issuer.revoke_all(options.tenant, options.service), options)


def take(vault: ConnectionSettings, settings: IssuerSettings, options: argparse.Namespace) -> None:
    """The other end: unwrap what was handed over, into a file that [token_auth] token_file names."""
    wrapping_token = from_file(str(options.file), "receive")
    write_private(options.to, receive(wrapping_token, options.role or settings.role, vault))


# ── The command line ─────────────────────────────────────────────────────────────────────────────────────────────────


def parser() -> CommandLine:
    top = CommandLine(
        prog="python -m issuer",
        example="python -m issuer issue shop web --to web.wrapped",
        description=str(__doc__).splitlines()[0].partition(": ")[2],
        epilog=EPILOG,
    )
    commands = top.add_subparsers(required=True, metavar="COMMAND")
    made = add(commands, "issue", issue, "shop web --to web.wrapped", "a new token for a service, wrapped", of_one=True)
    made.add_argument("--policy", action="append", default=[], metavar="NAME", help="instead of [issuer] policies")
    made.add_argument("--ttl", type=float, default=0.0, metavar="SECONDS", help="instead of [issuer] ttl")
    made.add_argument("--replace", action="store_true", help="revoke the one that there is under this key, then issue")
    out = made.add_mutually_exclusive_group(required=True)
    out.add_argument("--to", type=Path, metavar="FILE", help="where the wrapping token goes, with mode 0600")
    out.add_argument("--show-token", action="store_true", help="print the wrapping token")
    add(commands, "list", show, "shop", "what was issued, as the ledger knows it")
    add(commands, "renew", renew, "shop web", "renew a token by its TTL", of_one=True)
    turned = add(
        commands,
        "rotate",
        rotate,
        "shop web --to web.wrapped",
        "replace a token, and revoke it when the new one is in use",
        of_one=True,
    )
    turned.add_argument("--to", type=Path, metavar="FILE", required=True, help="where the new wrapping token goes")
    ended = add(commands, "revoke", revoke, "shop web", "revoke a service's token, or with --all many")
    ended.add_argument("--key", default="main", help="which of a service's tokens [main]")
    ended.add_argument("--all", action="store_true", help="all of the service, of the tenant, or, without both, of all")
    ended.add_argument("--by-role", action="store_true", help="with --all, also what the ledger does not know")
    add(commands, "recover", recover, "", "clear away what was left half done")
    over = add(
        commands, "watch", watch, "--to handed-over/", "rotate every token at 4/5 of its life, until a signal comes"
    )
    over.add_argument("--to", type=Path, metavar="FOLDER", required=True, help="where they go, as TENANT-SERVICE.KEY")
    over.add_argument("--revoke-at-end", action="store_true", help="revoke, at the end, what `revoke --all` would")
    taken = commands.add_parser(
        "receive",
        example="python -m issuer receive web.wrapped --to web.token",
        help="the other end: unwrap a token, with neither a login nor the ledger",
    )
    taken.add_argument("file", type=Path, metavar="FILE", help="where the wrapping token is")
    taken.add_argument("--to", type=Path, metavar="FILE", required=True, help="where the token goes, with mode 0600")
    taken.add_argument("--role", default="", help="the token role that it must be of, if not [issuer] role")
    taken.set_defaults(action=None, json=False)
    return top


def add(commands: Commands, name: str, action: Action, typed: str, help: str, *, of_one: bool = False) -> CommandLine:
    """A command; `typed` is what an example has behind its name."""
    example = f"python -m issuer {name} {typed}".rstrip()
    command = commands.add_parser(name, help=help, description=help, example=example)
    for each in ("tenant", "service"):
        command.add_argument(each) if of_one else command.add_argument(each, nargs="?", default="")
    if of_one:
        command.add_argument("--key", default="main", help="which of the service's tokens [main]")
    command.add_argument("--json", action="store_true", help="JSON instead of a table")
    command.set_defaults(action=action)
    return command


def main(arguments: Sequence[str] | None = None) -> int:
    open_missing()
    options = parser().parse_args(arguments)
    configure_logging("info" if options.action is watch else "warning")
    try:
        run(options)
    except ConfigurationError as error:
        complain(*error.problems)
        return MISCONFIGURED
    except (VaultError, OSError) as error:
        complain(str(error))
        return FAILED
    return settled(OK)


def run(options: argparse.Namespace) -> None:
    if options.action is None:  # whoever receives a token has nothing yet to log in with
        vault = read(DEFAULT_PATH, os.environ, to_log_in=False)["vault"]
        take(vault, IssuerSettings.load(vault.entity), options)
        return
    config = VaultConfig.load()
    settings = IssuerSettings.load(config.vault.entity)
    with VaultClient(config) as client:
        client.keep_alive()
        options.action(VaultTokenIssuer(client, settings), options)


def complain(*texts: str) -> None:
    print("issuer:", *map(printable, texts), sep="\n  " if len(texts) > 1 else " ", file=sys.stderr, flush=True)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
