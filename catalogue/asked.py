"""What the checks ask of the objects: whose they are, and what they make External Secrets ask Vault for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from catalogue.entries import Catalogue, Entry, Issued, Place, Stored
from catalogue.kubernetes_side import GENERATORS
from catalogue.seen import Found, Seen


def entries(catalogue: Catalogue, seen: Seen) -> Iterator[tuple[Place, Entry]]:
    return ((place, entry) for place in catalogue.places_in(seen.environment) for entry in place.entries)


def objects(catalogue: Catalogue, seen: Seen, *kinds: str) -> Iterator[tuple[Place, Found]]:
    """Those that have a place; the others are told of by a check of their own."""
    for found in seen.of_kind(*kinds):
        place = place_of(catalogue, seen, found)
        if place:
            yield place, found


def place_of(catalogue: Catalogue, seen: Seen, found: Found) -> Place | None:
    there = (place for place in catalogue.places_in(seen.environment) if place.namespace == found.namespace)
    return next(there, None)


def entry_of(place: Place, found: Found) -> Entry | None:
    return next((entry for entry in place.entries if entry.name == found.name), None)


def line_of(place: Place, found: Found) -> int:
    entry = entry_of(place, found)
    return entry.line if entry else place.line


def line_of_environment(catalogue: Catalogue, seen: Seen) -> int:
    return next(each.line for each in catalogue.environments if each.name == seen.environment)


def generators(found: Found) -> list[dict[str, Any]]:
    return [each for each in found.at("spec", "dataFrom") or [] if "generatorRef" in each.get("sourceRef", {})]


def asked(catalogue: Catalogue, found: Found) -> Iterator[tuple[str, str]]:
    """The paths that an object makes External Secrets ask for, and with what capability."""
    if found.object.get("apiVersion") == GENERATORS:
        yield str(found.at("spec", "path")), "update" if found.at("spec", "method") == "POST" else "read"
    for each in found.at("spec", "data") or []:
        part = "metadata" if each["remoteRef"].get("metadataPolicy") == "Fetch" else "data"
        yield f"{catalogue.vault.kv}/{part}/{each['remoteRef']['key']}", "read"


def expected_paths(catalogue: Catalogue, place: Place, entry: Entry) -> set[str]:
    if isinstance(entry, Issued):
        return {catalogue.issuing_path(place, entry)}
    assert isinstance(entry, Stored)
    return {f"{catalogue.vault.kv}/{part}/{place.key_of(entry)}" for part in ("data", "metadata")}
