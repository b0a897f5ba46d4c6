"""Whether each object is one that Kubernetes and External Secrets know: strictly, for an API server drops the rest."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import kubernetes_validate
from jsonschema import Draft202012Validator

from catalogue.problems import Problem
from catalogue.rendered import Object

KUBERNETES = "1.34"
"""Whose schemas are taken of what Kubernetes itself has."""
FOLDER = Path(__file__).with_name("schemas")
OURS = {path.stem for path in FOLDER.glob("*.json")}
"""Kinds that others define, of which we know what we use."""


@cache
def schema(kind: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((FOLDER / f"{kind}.json").read_text(encoding="utf-8"))
    return found


def against_schema(found: Object, file: str) -> Iterator[Problem]:
    """What is wrong with an object by its kind's schema."""
    kind, name = found.get("kind"), found.get("metadata", {}).get("name", "")
    words = [*of_ours(found, str(kind))] if kind in OURS else [*of_kubernetes(found)]
    for text in words:
        yield Problem(0, f"{kind} {name}".strip() + f": {text}", file)


def of_ours(found: Object, kind: str) -> Iterator[str]:
    for error in Draft202012Validator(schema(kind)).iter_errors(found):
        yield f"{'.'.join(map(str, error.absolute_path)) or 'the object'}: {error.message}"


def of_kubernetes(found: Object) -> Iterator[str]:
    try:
        kubernetes_validate.validate(found, KUBERNETES, strict=True)
    except kubernetes_validate.ValidationError as error:
        yield f"{'.'.join(map(str, error.path)) or 'the object'}: {error.message}"
    except kubernetes_validate.SchemaNotFoundError:
        yield f"Kubernetes {KUBERNETES} has no such kind in {found.get('apiVersion')}"
    except KeyError as error:
        yield f"{error} is missing"
