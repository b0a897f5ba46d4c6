"""python -m catalogue: render and check what is made of kubernetes/catalogue.yaml, replace keys, and find drift."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeAlias

from catalogue import checking, keeping
from catalogue.cluster import ClusterError
from catalogue.entries import Catalogue, Certificate
from catalogue.fields import a_duration
from catalogue.problems import Problem
from catalogue.reading import DEFAULT_PATH, CatalogueError, load, text_of
from catalogue.render import render
from catalogue.rendered import on_disk, write
from listeners.usage import CommandLine
from vaultkit.errors import ConfigurationError, VaultError

OK, FAILED, MISCONFIGURED = 0, 1, 2
EPILOG = """\
render and check need neither Vault nor a cluster. For the others config.ini and the environment say where Vault is and
who we are ([vault]), and KUBECONFIG, or the pod that this runs in, which cluster is meant.

exit status: 0 all is well, 1 something is wrong or late and is listed, 2 the catalogue or an option is wrong
"""
Action = Callable[[Catalogue, argparse.Namespace], int]
Commands: TypeAlias = "argparse._SubParsersAction[CommandLine]"


def write_files(catalogue: Catalogue, options: argparse.Namespace) -> int:
    changed = write(render(catalogue), options.catalogue.parent)
    print(*changed, f"{len(changed)} files written", sep="\n")
    return OK


def check_files(catalogue: Catalogue, options: argparse.Namespace) -> int:
    folder = options.catalogue.parent
    if options.objects:
        found = checking.of_objects(catalogue, options.environment, text_of(options.objects), folder)
        return told(catalogue, found)
    problems = checking.check(catalogue, folder) or checking.with_tools(catalogue, folder)
    status = told(catalogue, problems)
    if status == OK:
        places = list(catalogue.places)
        entries = sum(len(place.entries) for place in places)
        print(f"{len(on_disk(folder))} files are what {catalogue.file} says: {entries} secrets in {len(places)} places")
    for tool in checking.missing_tools():
        print(f"with {tool} it would also check {checking.MORE[tool]}")
    return status


def scopes(catalogue: Catalogue, options: argparse.Namespace) -> int:
    """For scripts/break-glass.sh: a line for each, and what no machine locks out."""
    places = [place for place in catalogue.places if options.service in (place.service.name, place.name)]
    if not places:
        return told(catalogue, [Problem(0, f"found {options.service}, expected a SERVICE or SERVICE-ENVIRONMENT")]) + 1
    for place in places:
        print(f"role auth/{place.environment.auth}/{place.name}")
        if place.issued:
            print(f"role auth/{place.environment.auth}/{place.issuing}")
        for entry in place.issued:
            if not isinstance(entry, Certificate):
                print(f"role {catalogue.vault.database}/{place.role_of(entry)}")
        for stored in place.stored:
            print(f"by-hand {catalogue.vault.kv}/{place.key_of(stored)}")
    return OK


def told(catalogue: Catalogue, problems: Sequence[Problem]) -> int:
    for problem in problems:
        print(problem.told(catalogue.file), file=sys.stderr)
    return FAILED if problems else OK


# ── The command line ─────────────────────────────────────────────────────────────────────────────────────────────────


def parser() -> CommandLine:
    top = CommandLine(
        prog="python -m catalogue",
        example="python -m catalogue check",
        description=str(__doc__).splitlines()[0].partition(": ")[2],
        epilog=EPILOG,
    )
    top.add_argument("--catalogue", type=Path, default=DEFAULT_PATH, metavar="FILE", help="[%(default)s]")
    commands = top.add_subparsers(required=True, metavar="COMMAND")
    add(commands, "render", write_files, "", "write the files beside the catalogue")
    checked = add(
        commands,
        "check",
        check_files,
        "--environment prod --objects objects.yaml",
        "see whether the files are what the catalogue says",
    )
    objects = "check these objects instead, such as `kubectl kustomize` prints of an overlay of yours; - for stdin"
    checked.add_argument("--objects", type=Path, metavar="FILE", help=objects)
    in_environment(checked, "the one that --objects are of")
    add_rotation(commands)
    done = add(
        commands,
        "noted",
        keeping.noted,
        "prod/llm/openai",
        "note that people have replaced a secret that has no provider",
    )
    done.add_argument("path", metavar="PATH", help="ENVIRONMENT/SERVICE/PATH")
    held = add(
        commands, "scopes", scopes, "llm-prod", "what a service holds in Vault, as scripts/break-glass.sh locks it out"
    )
    held.add_argument("service", metavar="SERVICE[-ENVIRONMENT]")
    late = add(commands, "overdue", keeping.overdue, "--environment prod", "list what was to be replaced by now")
    late.add_argument("--all", action="store_true", help="also what is not late, and when it will be")
    drift = add(
        commands, "drift", keeping.compare, "--environment prod", "compare the cluster with Vault; no value is told"
    )
    for command in (late, drift):
        in_environment(command, "which one", required=True)
        command.add_argument("--metrics", type=Path, metavar="FILE", help="also write series for Prometheus")
    return top


def add_rotation(commands: Commands) -> None:
    turned = add(
        commands,
        "rotate",
        keeping.rotate,
        "prod/user/reporting",
        "replace a key, and retire the old one when all have the new",
    )
    which = turned.add_mutually_exclusive_group(required=True)
    which.add_argument("path", nargs="?", default="", metavar="PATH", help="ENVIRONMENT/SERVICE/PATH")
    in_environment(which, "whatever is late in this one")
    turned.add_argument("--provider", default="", metavar="NAME", help="who makes the new one [that of the catalogue]")
    of_time(turned, "grace", None, "how long the old key stays good after all have the new one [its refresh]")
    of_time(turned, "wait", 900, "how long to wait for all to have it; run it again to go on [15m]")
    of_time(turned, "hold", 120, "after how long without a word another process may go on with it [2m]")


def in_environment(command: argparse._ActionsContainer, help: str, required: bool = False) -> None:
    command.add_argument("--environment", default="", metavar="NAME", required=required, help=help)


def of_time(command: CommandLine, name: str, default: float | None, help: str) -> None:
    command.add_argument(f"--{name}", type=seconds, default=default, metavar="TIME", help=help)


def seconds(text: str) -> float:
    try:
        return 0.0 if text == "0s" else float(a_duration(text))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"found {text}, expected {error}") from None


def add(commands: Commands, name: str, action: Action, typed: str, help: str) -> CommandLine:
    """A command; `typed` is what an example has behind its name."""
    example = f"python -m catalogue {name} {typed}".rstrip()
    command = commands.add_parser(name, help=help, description=help, example=example)
    command.set_defaults(action=action, environment="", objects=None)
    return command


def main(arguments: Sequence[str] | None = None) -> int:
    top = parser()
    options = top.parse_args(arguments)
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    try:
        catalogue = load(options.catalogue)
        known = [each.name for each in catalogue.environments]
        if (options.environment or options.objects) and options.environment not in known:
            top.error(f"--environment: found {options.environment!r}, expected one of {', '.join(known)}")
        action: Action = options.action
        return action(catalogue, options)
    except CatalogueError as error:
        print(error, file=sys.stderr)
        return MISCONFIGURED
    except ConfigurationError as error:
        print("catalogue:", *error.problems, sep="\n  ", file=sys.stderr)
        return MISCONFIGURED
    except (VaultError, ClusterError, OSError) as error:
        print(f"catalogue: {error}", file=sys.stderr)
        return FAILED


if __name__ == "__main__":
    sys.exit(main())
