"""The command line of a program whose --help opens with an example: a line to type says more than its grammar."""

from __future__ import annotations

import argparse
from typing import Any

LAST_PORT = 65_535


def port(text: str) -> int:
    """The type of an option that takes a port; 0 for any."""
    try:
        number = int(text)
    except ValueError:
        number = -1
    if not 0 <= number <= LAST_PORT:
        raise argparse.ArgumentTypeError(f"{text!r} is no port: expected a number from 0 to {LAST_PORT}")
    return number


class CommandLine(argparse.ArgumentParser):
    """Takes an `example`, the line to type, beside what argparse takes. Its texts keep their lines as they are."""

    def __init__(self, *, example: str, **options: Any) -> None:
        super().__init__(formatter_class=argparse.RawDescriptionHelpFormatter, **options)
        self._example = example

    def format_help(self) -> str:
        return f"example: {self._example}\n\n{super().format_help()}"
