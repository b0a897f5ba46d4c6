"""P1: what Python tells about the code itself, in help() or an editor, holds nothing of the environment."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).parents[2]
CANARY = "475a6500-canary-of-the-environment"
TELL_ALL = """
import gc, importlib, inspect, pydoc, sys

for name in sys.argv[1:]:
    print("module", pydoc.render_doc(importlib.import_module(name), renderer=pydoc.plaintext))
for each in gc.get_objects():  # also what is private, which pydoc leaves out
    if inspect.isfunction(each) and each.__module__ in sys.argv:
        print(each.__qualname__, each.__defaults__, each.__kwdefaults__)
"""


def test_p1_reflection_shows_no_environment() -> None:
    """No signature, docstring, default or attribute of a module that one imports."""
    files = [*PROJECT.glob("*.py"), *PROJECT.glob("recipes/*.py")]
    names = [".".join(path.relative_to(PROJECT).with_suffix("").parts) for path in files if path.stem != "__init__"]
    told = subprocess.run(
        [sys.executable, "-c", TELL_ALL, *names],
        env={**os.environ, "VAULT_SECRET_ID": CANARY, "PYTHONPATH": str(PROJECT)},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert told.count("module ") >= len(names)
    assert CANARY not in told
