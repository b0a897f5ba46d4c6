"""The pages hang together: the map has each of them, links lead somewhere, and files that are named are there."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

PROJECT = Path(__file__).parent.parent.parent
MAP = PROJECT / "docs/README.md"
LINK = re.compile(r"\]\(([^)\s]+)\)")
FENCED = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
NAMED_FILE = re.compile(r"(?<![\w/.:$~{-])(?:[\w.*-]+/)*[\w.*-]+\.(?:py|md|sh|ini|ya?ml|json|toml|txt|svg)(?![\w/])")
PLACEHOLDER = re.compile(r"(?:^|/)[A-Z-]+/")
"""A part of a path that stands for another: E/SERVICE/…"""
OF_READERS = {"transit.py", "userpass.py", "lasting.py", "manage.py", "place.json"}
"""Names of files that whoever reads a page has, or makes there."""
OF_THE_PAST = {"CHANGELOG.md"}
"""Names files as they were called once."""


def known_to_git() -> list[str]:
    listed = subprocess.run(["git", "ls-files"], cwd=PROJECT, check=True, capture_output=True, text=True)
    return [name for name in listed.stdout.splitlines() if (PROJECT / name).exists()]


FILES = known_to_git()
NAMES = {Path(name).name for name in FILES}
PAGES = [name for name in FILES if name.endswith(".md")]
LABS = {name for name in PAGES if re.match(r"workshop/\d", name)}


def text_of(page: Path) -> str:
    """Without the blocks of code: what looks like a link there is none."""
    return FENCED.sub("", page.read_text(encoding="utf-8"))


def links_of(page: Path) -> list[str]:
    """Those within the project."""
    return [link for link in LINK.findall(text_of(page)) if not re.match(r"https?:|mailto:", link)]


def anchors_of(page: Path) -> set[str]:
    """Those that GitHub gives to the headings."""
    headings = re.findall(r"^#+ (.+)", text_of(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def leads_somewhere(page: Path, link: str) -> bool:
    where, _, anchor = link.partition("#")
    target = (page.parent / where).resolve() if where else page
    return target.exists() and (not anchor or anchor in anchors_of(target))


def is_there(page: Path, name: str) -> bool:
    """Seen from the page or from the root; a name without a folder may be that of any file."""
    if "/" not in name and name in NAMES | OF_READERS:
        return True
    return any(any(folder.glob(name)) for folder in (page.parent, PROJECT))


def test_map_has_every_page() -> None:
    """Each once, those of the rooms as well; the labs are on a map of their own."""
    assert linked_from(MAP) == sorted(set(PAGES) - {"docs/README.md"} - LABS)
    assert set(linked_from(PROJECT / "workshop/README.md")) > LABS


def linked_from(page: Path) -> list[str]:
    return sorted((page.parent / link).resolve().relative_to(PROJECT).as_posix() for link in links_of(page))


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    """To a file that is there, and a heading in it."""
    assert [link for link in links_of(PROJECT / page) if not leads_somewhere(PROJECT / page, link)] == []


@pytest.mark.parametrize("page", sorted(set(PAGES) - OF_THE_PAST))
def test_named_files_are_there(page: str) -> None:
    """What stands in backticks and looks like a file of the project."""
    codes = re.findall(r"`([^`\n]+)`", text_of(PROJECT / page))
    names = [name for code in codes for name in NAMED_FILE.findall(code) if not PLACEHOLDER.search(name)]
    missing = [name for name in names if not is_there(PROJECT / page, name) and Path(name).name not in OF_READERS]
    assert missing == []
