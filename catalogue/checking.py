"""`python -m catalogue check`: everything that can be said of the files without a cluster and without Vault."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from catalogue.cross_checks import cross_checks
from catalogue.entries import Catalogue
from catalogue.problems import Problem
from catalogue.render import render
from catalogue.rendered import Tree, differences, objects_in, on_disk
from catalogue.schemas import against_schema
from catalogue.seen import Found, Seen, parsed, seen_in

GROUP = "external-secrets.io"
"""Whatever kind is of it concerns us, also one that we never render."""
TOOL_SECONDS = 60.0
MORE = {
    "kubectl": "that kustomize builds the same objects as were checked",
    "promtool": "that Prometheus takes the alerts",
}
"""Tools of the system, and what is known with them."""


def check(catalogue: Catalogue, folder: Path) -> list[Problem]:
    """All that is wrong with the files beside the catalogue."""
    there = on_disk(folder)
    problems = [Problem(0, text, file) for file, text in differences(render(catalogue), there)]
    problems += [problem for file, text in there.items() if is_kustomization(file) for problem in of_file(text, file)]
    for environment in catalogue.environments:
        problems += of_environment(catalogue, seen_in(there, environment.name))
    return sorted(set(problems))


def of_environment(catalogue: Catalogue, seen: Seen) -> list[Problem]:
    """By schema, and against the catalogue."""
    by_schema = [problem for found in seen.objects for problem in against_schema(found.object, found.file)]
    # An object that is not what its kind is would make the other checks stumble.
    return by_schema or cross_checks(catalogue, seen)


def of_objects(catalogue: Catalogue, environment: str, text: str, folder: Path) -> list[Problem]:
    """What somebody built upon the rendered files, as with a kustomize overlay, against the same catalogue."""
    seen = seen_in(on_disk(folder), environment)
    kinds = {each.kind for each in seen.objects}
    unreadable: list[Problem] = []
    objects = [Found(each, "objects") for each in parsed({"objects": text}, "objects", unreadable)]
    if unreadable:
        return unreadable
    seen.objects = [each for each in objects if each.kind in kinds or GROUP in str(each.at("apiVersion"))]
    return of_environment(catalogue, seen)


def is_kustomization(file: str) -> bool:
    return file.endswith("/kustomization.yaml")


def of_file(text: str, file: str) -> Iterator[Problem]:
    for each in objects_in(text):
        yield from against_schema(each, file)


# ── With tools of the system ─────────────────────────────────────────────────────────────────────────────────────────


def missing_tools() -> list[str]:
    return [name for name in MORE if shutil.which(name) is None]


def with_tools(catalogue: Catalogue, folder: Path) -> list[Problem]:
    """What is found with those tools that there are."""
    problems: list[Problem] = []
    there = on_disk(folder)
    for environment in catalogue.environments:
        if shutil.which("kubectl"):
            problems += kustomized(there, environment.name, folder)
        if shutil.which("promtool"):
            file = f"alerts/{environment.name}.yaml"
            _, words = run("promtool", "check", "rules", str(folder / file))
            problems += [Problem(0, words, file)] if words else []
    return problems


def kustomized(there: Tree, environment: str, folder: Path) -> list[Problem]:
    """Our way to build is a few lines; kubectl's is what will be applied."""
    file = f"synced/{environment}"
    text, words = run("kubectl", "kustomize", str(folder / file))
    if words:
        return [Problem(0, words, file)]
    ours = in_order([found.object for found in seen_in(there, environment).objects])
    return (
        []
        if in_order(objects_in(text)) == ours
        else [Problem(0, "kustomize builds other objects than were checked", file)]
    )


def in_order(objects: list[dict[str, object]]) -> list[str]:
    return sorted(json.dumps(each, sort_keys=True) for each in objects)


def run(*command: str) -> tuple[str, str]:
    """What a tool printed, and, if it failed, its words."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=TOOL_SECONDS, check=False)
    return done.stdout, "" if done.returncode == 0 else " ".join((done.stderr or done.stdout).split())
