"""The walls of the house: who may import whom, and how long a file may be."""

from __future__ import annotations

import ast
import re
from graphlib import TopologicalSorter
from importlib.util import resolve_name
from pathlib import Path

import pytest

PROJECT = Path(__file__).parent.parent.parent
KIT = sorted(PROJECT.glob("vaultkit/**/*.py"))
GATEWAY = sorted(PROJECT.glob("gateway/**/*.py"))
TOP = [PROJECT / "config_loader.py", PROJECT / "vault_client.py"]
NO_ROOMS = {"vaultkit", "tests"}
ROOMS = {path.parent.name for path in PROJECT.glob("[!.]*/*.py")} - NO_ROOMS
FOR_ALL = {"listeners", "devserver"}
"""Rooms on which others may stand."""
HOUSE = ROOMS | {"vaultkit", "config_loader", "vault_client", "vault_app"}

MAY_USE = {
    "config_loader": {"vaultkit"},
    "vault_client": {"vaultkit", "config_loader"},
    "vault_app": {"vaultkit", "config_loader", "vault_client", "listeners", "doctor"},
    "devserver": {"live", "recipes"},  # devserver/live.py plays them together; neither knows the other
    "benchmarks": {"recipes", "issuer", "gateway", "scripts"},  # besides what any room may: it measures them
    "workshop": {"recipes", "catalogue"},  # the pool of lab 5; lab 10 reads the catalogue
}
STOREYS = (("engines",), ("token",), ("announcer", "auth", "transport"), ("events",))
"""Of the kit, from the top down; what is not named here is the ground floor."""

MOST_LINES = 300
MOST_LINES_OF = {
    "vault_client.py": 280,
    "vaultkit/engines/cache.py": 360,
    "vaultkit/token.py": 360,
    "vaultkit/engines/pki.py": 120,  # an engine with its settings and its words: the measure of the house
}
SILENCED = {
    "vaultkit/shield.py": ["BLE001"],  # the one broad except
    # A port that is none raises where it is looked at.
    "vaultkit/settings.py": ["B018"],
    "vaultkit/transport/proxies.py": ["B018"],
    "vaultkit/transport/connection_errors.py": ["B018"],
}


def relative(path: Path) -> str:
    return path.relative_to(PROJECT).as_posix()


def imports(path: Path) -> list[str]:
    """The modules that a file imports; relative ones begin with as many dots as they have in the file."""
    names = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            of = [node.module] if node.module else [alias.name for alias in node.names]
            names += ["." * node.level + name for name in of]
    return names


def parts_used(path: Path) -> set[str]:
    """The parts of the house that a file imports by their full names."""
    return {name.split(".")[0] for name in imports(path)} & HOUSE


def modules_used(path: Path) -> list[str]:
    """The modules of its own package that a file of the kit, or of a room, imports, as vaultkit.…"""
    package = relative(path.parent).replace("/", ".")
    return [resolve_name(name, package) for name in imports(path) if name.startswith(".")]


def module_of(path: Path) -> str:
    return relative(path).removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def storey(module: str) -> int:
    """How far down a module of the kit stands."""
    part = [*module.split("."), ""][1]
    return next((number for number, parts in enumerate(STOREYS) if part in parts), len(STOREYS))


@pytest.mark.parametrize("path", KIT, ids=relative)
def test_kit_knows_nothing_above_it(path: Path) -> None:
    """Neither the root nor a room, and itself by relative imports alone: so it can be put anywhere."""
    assert parts_used(path) == set()


@pytest.mark.parametrize("path", KIT, ids=relative)
def test_kit_is_built_downward(path: Path) -> None:
    """Engines, then the token, then what both ask with, then what all use."""
    upward = [module for module in modules_used(path) if storey(module) < storey(module_of(path))]
    assert upward == []


def test_kit_has_no_circle() -> None:
    """There is an order in which its files can be read."""
    TopologicalSorter({module_of(path): modules_used(path) for path in KIT}).prepare()


def test_kit_is_read_in_its_order() -> None:
    """By the order on its page nobody meets what has not been explained, but for transport, which stands last."""
    page = (PROJECT / "vaultkit/README.md").read_text(encoding="utf-8")
    rows = [re.findall(r"`([\w/]+)(?:\.py)?`", row) for row in re.findall(r"^\| (`.*?) \|", page, flags=re.MULTILINE)]
    place = {"vaultkit." + name.strip("/").replace("/", "."): number for number, row in enumerate(rows) for name in row}
    del place["vaultkit.transport"]
    read = {module: path for path in KIT if (module := module_of(path)) in place}
    ahead = [
        (module, used) for module in read for used in modules_used(read[module]) if place.get(used, 0) > place[module]
    ]
    assert ahead == []


@pytest.mark.parametrize("name", ["config_loader", "vault_client", "vault_app"])
def test_three_files_know_what_is_below(name: str) -> None:
    """The client never knows who listens; of the rooms the application alone uses any."""
    assert parts_used(PROJECT / f"{name}.py") <= MAY_USE[name]


@pytest.mark.parametrize("room", sorted(ROOMS))
def test_rooms_do_not_know_each_other(room: str) -> None:
    """Each is copied, run and read on its own."""
    used = {part for path in PROJECT.glob(f"{room}/**/*.py") for part in parts_used(path)}
    assert used & ROOMS <= {room} | FOR_ALL | MAY_USE.get(room, set())


def test_gateway_has_no_circle() -> None:
    """Nor has this room, the largest; and what is in it, it calls by relative names, so that it can be put anywhere."""
    TopologicalSorter({module_of(path): modules_used(path) for path in GATEWAY}).prepare()
    by_full_name = [relative(path) for path in GATEWAY if "gateway" in parts_used(path)]
    assert by_full_name == ["gateway/__main__.py"]  # where Python takes no others


def test_gateway_is_of_use_without_http() -> None:
    """What VaultManager is made of knows no web server, and nothing below knows the API."""
    web = {
        relative(path) for path in GATEWAY if {"starlette", "uvicorn"} & {name.split(".")[0] for name in imports(path)}
    }
    assert {name.rpartition("/")[0] for name in web} == {"gateway/api"}
    above = [relative(path) for path in GATEWAY if any(name.startswith("gateway.api") for name in modules_used(path))]
    assert [name for name in above if not name.startswith("gateway/api/")] == []


@pytest.mark.parametrize("path", [*TOP, *KIT, *GATEWAY], ids=relative)
def test_file_is_read_in_one_sitting(path: Path) -> None:
    """A longer one has a second subject, which wants a file of its own."""
    lines = path.read_text(encoding="utf-8").splitlines()
    assert len(lines) <= MOST_LINES_OF.get(relative(path), MOST_LINES)


@pytest.mark.parametrize("path", [*TOP, PROJECT / "vault_app.py", *KIT], ids=relative)
def test_linter_is_not_silenced(path: Path) -> None:
    """What people copy needs no excuses; the few that there are stand above, with their reasons."""
    silenced = re.findall(r"# noqa:? ?(\w*)", path.read_text(encoding="utf-8"))
    assert set(silenced) <= set(SILENCED.get(relative(path), []))


SCRIPTS = [PROJECT / "setup-vault.sh", PROJECT / ".ci/run", *PROJECT.glob("setup/*"), *PROJECT.glob("**/*.sh")]


@pytest.mark.parametrize("script", sorted({relative(path) for path in SCRIPTS if ".venv" not in path.parts}))
def test_no_pipe_ends_before_it_is_written(script: str) -> None:
    """`grep -q` leaves at the first match: what still writes then fails, and with it, under pipefail, the pipe."""
    assert not re.findall(r"\| *(?:grep -\w*q|head|grep -m)", (PROJECT / script).read_text(encoding="utf-8"))
