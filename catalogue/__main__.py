"""python -m catalogue: render and check what is made of kubernetes/catalogue.yaml."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeAlias

from catalogue import checking
from catalogue.entries import Catalogue
from catalogue.problems import Problem
from catalogue.reading import DEFAULT_PATH, CatalogueError, load
from catalogue.render import render
from catalogue.rendered import on_disk, write

OK, FAILED, MISCONFIGURED = 0, 1, 2
EPILOG = """\
exit status: 0 all is well, 1 something is wrong and is listed, 2 the catalogue or an option is wrong
"""
Action = Callable[[Catalogue, argparse.Namespace], int]
Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


def write_files(catalogue: Catalogue, options: argparse.Namespace) -> int:
    changed = write(render(catalogue), options.catalogue.parent)
    print(*changed, f"{len(changed)} files written", sep="\n")
    return OK


def check_files(catalogue: Catalogue, options: argparse.Namespace) -> int:
    folder = options.catalogue.parent
    if options.objects:
        text = sys.stdin.read() if options.objects == Path("-") else options.objects.read_text(encoding="utf-8")
        return told(catalogue, checking.of_objects(catalogue, options.environment, text, folder))
    problems = checking.check(catalogue, folder) or checking.with_tools(catalogue, folder)
    status = told(catalogue, problems)
    if status == OK:
        places = list(catalogue.places)
        entries = sum(len(place.entries) for place in places)
        print(f"{len(on_disk(folder))} files are what {catalogue.file} says: {entries} secrets in {len(places)} places")
    for tool in checking.missing_tools():
        print(f"with {tool} it would also check {checking.MORE[tool]}")
    return status


def told(catalogue: Catalogue, problems: Sequence[Problem]) -> int:
    for problem in problems:
        print(problem.told(catalogue.file), file=sys.stderr)
    return FAILED if problems else OK


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        prog="python -m catalogue",
        description=str(__doc__).splitlines()[0].partition(": ")[2],
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--catalogue", type=Path, default=DEFAULT_PATH, metavar="FILE", help="[%(default)s]")
    commands = top.add_subparsers(required=True, metavar="COMMAND")
    add(commands, "render", write_files, "write the files beside the catalogue")
    checked = add(commands, "check", check_files, "see whether the files are what the catalogue says")
    objects = "check these objects instead, such as `kubectl kustomize` prints of an overlay of yours; - for stdin"
    checked.add_argument("--objects", type=Path, metavar="FILE", help=objects)
    checked.add_argument("--environment", default="", metavar="NAME", help="the one that --objects are of")
    return top


def add(commands: Commands, name: str, action: Action, help: str) -> argparse.ArgumentParser:
    command = commands.add_parser(name, help=help, description=help)
    command.set_defaults(action=action)
    return command


def main(arguments: Sequence[str] | None = None) -> int:
    top = parser()
    options = top.parse_args(arguments)
    try:
        catalogue = load(options.catalogue)
        known = [each.name for each in catalogue.environments]
        if getattr(options, "objects", None) and options.environment not in known:
            top.error(f"--environment: found {options.environment!r}, expected one of {', '.join(known)}")
        action: Action = options.action
        return action(catalogue, options)
    except CatalogueError as error:
        print(error, file=sys.stderr)
    except OSError as error:
        print(f"catalogue: {error}", file=sys.stderr)
    return MISCONFIGURED


if __name__ == "__main__":
    sys.exit(main())
