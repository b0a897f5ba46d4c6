"""What a demo leaves for a second terminal: where its server is, and the folder with its passwords.

In a folder of this checkout that git does not know, so that both terminals find it, whatever their environment; for
nobody else to read, and gone with the demo.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

FOLDER = Path(__file__).parent.parent / ".run"
FOLDER_VARIABLE = "DEMO_RUN_FOLDER"
"""The environment variable that names another folder."""


class NothingRuns(Exception):
    """No demo of this name has left anything."""


@dataclass(frozen=True)
class Running:
    """A demo that runs. Neither value is a secret; the files in the folder are."""

    vault: str
    """The server's address."""
    secrets: str
    """The folder with a file for each secret_id and each password."""


def place_of(name: str) -> Path:
    return Path(os.environ.get(FOLDER_VARIABLE) or FOLDER) / f"{name}.json"


@contextmanager
def announced(name: str, running: Running) -> Iterator[None]:
    """While this lasts, others find the demo by its name; one that was announced since keeps its place."""
    path = place_of(name)
    path.parent.mkdir(mode=0o700, exist_ok=True)
    text = json.dumps(asdict(running))
    new = path.with_suffix(f".{os.getpid()}")
    new.touch(mode=0o600)
    new.write_text(text, encoding="utf-8")
    new.replace(path)
    try:
        yield
    finally:
        if path.exists() and path.read_text(encoding="utf-8") == text:
            path.unlink()


def find(name: str) -> Running:
    """The demo of this name. Raises: NothingRuns."""
    try:
        return Running(**json.loads(place_of(name).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        raise NothingRuns(name) from None
