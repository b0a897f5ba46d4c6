"""The schemas of External Secrets that are written here, held to its CRDs where KUBE_CRDS names a folder of those."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from catalogue.schemas import FOLDER

Schema = dict[str, Any]
CRDS = os.environ.get("KUBE_CRDS", "")
KINDS = ("SecretStore", "ExternalSecret", "VaultDynamicSecret")


def crd(kind: str, version: str) -> Schema:
    """Its schema, in the version that we write. Of the files that the folder has."""
    for path in Path(CRDS).glob("*.yaml"):
        for each in YAML(typ="safe", pure=True).load_all(path.read_text(encoding="utf-8")):
            if each and each["spec"]["names"]["kind"] == kind:
                found = next(one for one in each["spec"]["versions"] if one["name"] == version)
                assert found["served"]
                schema: Schema = found["schema"]["openAPIV3Schema"]
                return schema
    raise AssertionError(f"no CRD of {kind} in {CRDS}")


def more_than(ours: Schema, theirs: Schema, path: str) -> list[str]:
    """Where ours allows what theirs does not."""
    if ours.get("type") == "array":
        return more_than(ours["items"], theirs["items"], f"{path}[]")
    if theirs.get("x-kubernetes-preserve-unknown-fields"):
        return []
    found = [path] if ours.get("type", theirs.get("type")) != theirs.get("type") else []
    found += [f"{path}={value}" for value in ours.get("enum", []) if value not in theirs.get("enum", [value])]
    for key, each in ours.get("properties", {}).items():
        inner = f"{path}.{key}"
        found += more_than(each, theirs["properties"][key], inner) if key in theirs.get("properties", {}) else [inner]
    return found + [f"{path}.{key} is required" for key in theirs.get("required", []) if key not in ours["required"]]


@pytest.mark.skipif(not CRDS, reason="KUBE_CRDS names no folder with the CRDs of External Secrets")
@pytest.mark.parametrize("kind", KINDS)
def test_schema_allows_no_more_than_the_crd(kind: str) -> None:
    """Each field that we know is one of theirs, of the same type; what they require, we do; its words are theirs."""
    ours = json.loads((FOLDER / f"{kind}.json").read_text(encoding="utf-8"))
    version = ours["properties"]["apiVersion"]["const"].rpartition("/")[2]
    assert more_than(ours["properties"]["spec"], crd(kind, version)["properties"]["spec"], "spec") == []


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.json")), ids=lambda path: path.stem)
def test_schema_knows_what_it_does_not_know(path: Path) -> None:
    """Each object that has fields allows no other; else a mistake in writing is a default."""

    def loose(schema: Schema, at: str) -> list[str]:
        inside = [each for key, one in schema.get("properties", {}).items() for each in loose(one, f"{at}.{key}")]
        inside += loose(schema["items"], f"{at}[]") if "items" in schema else []
        return inside + ([at] if "properties" in schema and schema.get("additionalProperties") is not False else [])

    assert loose(json.loads(path.read_text(encoding="utf-8")), path.stem) == []
