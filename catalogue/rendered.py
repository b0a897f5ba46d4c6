"""A tree of files in memory: rendered from the catalogue, read from disk, written, compared."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ruamel.yaml import YAML
from ruamel.yaml.scalarstring import LiteralScalarString

FOLDERS = ("vault", "synced", "alerts")
"""Beside the catalogue: all that is in them is rendered, but for BY_HAND."""
BY_HAND = frozenset({"vault/apply.sh"})
HEADER = "# Rendered from catalogue.yaml by `python -m catalogue render`: what is changed here is lost.\n"
NO_FOLDING = 10**6
Object = dict[str, Any]
Tree = dict[str, str]
"""Path, relative to the catalogue's folder → text."""


def as_yaml(*objects: Mapping[str, Any]) -> str:
    """The objects as one file, keys in the order in which they were written down."""
    yaml = YAML(typ="rt")
    yaml.default_flow_style, yaml.width = False, NO_FOLDING
    yaml.indent(mapping=2, sequence=4, offset=2)
    out = io.StringIO()
    yaml.dump_all([literal(each) for each in objects], out)
    return HEADER + out.getvalue().removeprefix("---\n")


def literal(value: Any) -> Any:
    """Texts of several lines as they stand."""
    if isinstance(value, Mapping):
        return {key: literal(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [literal(each) for each in value]
    return LiteralScalarString(value) if isinstance(value, str) and "\n" in value else value


class Sample(NamedTuple):
    """One series of Prometheus, and its value."""

    name: str
    labels: Mapping[str, str]
    value: float


def exposed(samples: Iterable[Sample]) -> str:
    """In the text format, as node_exporter's textfile collector reads it. All are gauges."""
    lines: dict[str, list[str]] = {}
    for name, labels, value in samples:
        words = ",".join(f"{key}={json.dumps(text, ensure_ascii=False)}" for key, text in labels.items())
        series = f"{name}{{{words}}}" if words else name
        lines.setdefault(name, [f"# TYPE {name} gauge"]).append(f"{series} {value:.0f}")
    return "".join(f"{line}\n" for each in lines.values() for line in each)


def objects_in(text: str) -> list[Object]:
    """The objects of a file of YAML. Raises: ruamel.yaml.error.YAMLError."""
    return [each for each in YAML(typ="safe", pure=True).load_all(text) if each is not None]


def as_json(value: Mapping[str, Any]) -> str:
    return json.dumps(value, indent=2) + "\n"


def on_disk(folder: Path) -> Tree:
    """What is there of the rendered files."""
    files = (path for name in FOLDERS for path in (folder / name).rglob("*") if path.is_file())
    names = ((path, path.relative_to(folder).as_posix()) for path in files)
    # What is no text is none of ours, and differs.
    return {name: path.read_text(encoding="utf-8", errors="replace") for path, name in names if name not in BY_HAND}


def write(tree: Tree, folder: Path) -> list[str]:
    """Make the files be those of the tree. Returns which were written or deleted."""
    there = on_disk(folder)
    for name in there.keys() - tree.keys():
        (folder / name).unlink()
    changed = [name for name, text in tree.items() if there.get(name) != text]
    for name in changed:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(tree[name], encoding="utf-8")
    without_empty(folder / name for name in FOLDERS)
    return sorted([*changed, *(there.keys() - tree.keys())])


def without_empty(folders: Iterable[Path]) -> None:
    """Delete folders that nothing is in any more."""
    for folder in folders:
        for path in sorted(folder.rglob("*"), reverse=True):
            if path.is_dir() and not any(path.iterdir()):
                path.rmdir()


def differences(wanted: Tree, there: Tree) -> list[tuple[str, str]]:
    """Which files differ, and how."""
    words = [(name, "is missing") for name in wanted.keys() - there.keys()]
    words += [(name, "is not of the catalogue") for name in there.keys() - wanted.keys()]
    words += [(name, "is not what is rendered") for name in wanted.keys() & there.keys() if wanted[name] != there[name]]
    return sorted(words)
