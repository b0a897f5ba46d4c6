"""What Vault is told, against the catalogue and what Kubernetes is told. Each check is a mistake."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from catalogue.asked import asked, entries, entry_of, expected_paths, line_of, line_of_environment, objects, place_of
from catalogue.entries import READER, RENEW_AT, Catalogue, Certificate, Dynamic, Entry, Issued, Place, Static, Stored
from catalogue.fields import in_words
from catalogue.keeper_jobs import CATALOGUE
from catalogue.keepers import keeper_paths
from catalogue.problems import Problem
from catalogue.seen import Seen, allows
from catalogue.vault_side import engine_path, issuing_paths, reading_paths

DURATION = re.compile(r"([0-9]+)([smh])")


def roles_let_in_their_reader_alone(catalogue: Catalogue, seen: Seen) -> Iterator[Problem]:
    """A role without an audience takes tokens that were meant for others; one with * lets in the cluster."""
    for line, account, namespace, name in logins(catalogue, seen):
        auth = next(each.auth for each in catalogue.environments if each.name == seen.environment)
        path = f"auth/{auth}/role/{name}"
        there = seen.vault.get(path, {})
        wanted = {
            "bound_service_account_names": [account],
            "bound_service_account_namespaces": [namespace],
            "audience": catalogue.vault.audience,
            "alias_name_source": "serviceaccount_name",
            "token_policies": [name],
            "token_no_default_policy": True,
        }
        for key, value in wanted.items():
            if there.get(key) != value:
                yield Problem(line, f"{path}: found {key} {there.get(key)}, expected {value}")


def logins(catalogue: Catalogue, seen: Seen) -> Iterator[tuple[int, str, str, str]]:
    """Each role: the line that it is of, the account, its namespace, and the name."""
    for place in catalogue.places_in(seen.environment):
        for name in (place.name, place.issuing) if place.issued else (place.name,):
            yield place.line, READER, place.namespace, name
    for name in keeper_paths(catalogue, seen.environment):
        account = name.removesuffix(f"-{seen.environment}")
        yield line_of_environment(catalogue, seen), account, catalogue.operator.namespace, name


def paths_are_allowed(catalogue: Catalogue, seen: Seen) -> Iterator[Problem]:
    """A path that the place's policy does not allow is a 403; one that is another's as well, a leak."""
    keepers = keeper_paths(catalogue, seen.environment)
    for place, found in objects(catalogue, seen, "ExternalSecret", "VaultDynamicSecret"):
        entry = entry_of(place, found)
        for path, capability in asked(catalogue, found):
            line = line_of(place, found)
            policy = place.name if found.kind == "ExternalSecret" else place.issuing
            if not allows(seen.policies.get(policy, {}), path, capability):
                yield Problem(
                    line, f"{found.name} asks for {path}, which the policy {policy} does not allow", found.file
                )
            if entry and path not in expected_paths(catalogue, place, entry):
                yield Problem(line, f"{found.name} asks for {path}, which is another's", found.file)
            for other, may in seen.policies.items():
                if other not in {policy, *keepers} and allows(may, path, capability):
                    yield Problem(line, f"{path} of {found.name} is allowed by the policy {other}, too")


def policies_are_no_wider(catalogue: Catalogue, seen: Seen) -> Iterator[Problem]:
    """What the catalogue has no entry for, nobody needs."""
    here = line_of_environment(catalogue, seen)
    known = {name: (here, paths) for name, paths in keeper_paths(catalogue, seen.environment).items()}
    for place in catalogue.places_in(seen.environment):
        known[place.name] = place.line, reading_paths(catalogue, place)
        if place.issued:
            known[place.issuing] = place.line, issuing_paths(catalogue, place)
    for name, policy in seen.policies.items():
        if name not in known:
            yield Problem(here, f"the policy {name} is of no service")
            continue
        line, paths = known[name]
        for path, may in policy.items():
            more = may - set(paths.get(path, []))
            if more:
                yield Problem(line, f"the policy {name} allows {', '.join(sorted(more))} at {path}: of no entry")


def refresh_is_soon_enough(catalogue: Catalogue, seen: Seen) -> Iterator[Problem]:
    """A user that is gone before there is another; a lease that ends with the token which asked for it."""
    for place, found in objects(catalogue, seen, "ExternalSecret"):
        entry, refresh = entry_of(place, found), in_seconds(found.at("spec", "refreshInterval"))
        if entry is None or refresh is None:
            continue
        longest = longest_refresh(catalogue, seen, place, entry)
        if refresh > longest:
            text = f"{found.name} is refreshed every {in_words(refresh)}, expected {in_words(longest)} at most"
            yield Problem(entry.line, text, found.file)
        if isinstance(entry, Dynamic):
            lease = engine_role(catalogue, seen, place, entry).get("default_ttl", 0)
            token = seen.vault.get(f"auth/{place.environment.auth}/role/{place.issuing}", {}).get("token_ttl", 0)
            if token < lease:
                yield Problem(
                    entry.line, f"a token of {place.issuing} lives {token} s, its lease {lease} s: both end then"
                )


def longest_refresh(catalogue: Catalogue, seen: Seen, place: Place, entry: Entry) -> int:
    """Seconds; by what Vault's side says of how long it lives."""
    about = engine_role(catalogue, seen, place, entry) if isinstance(entry, Issued) else {}
    if isinstance(entry, Dynamic):
        return int(about.get("default_ttl", 0)) // 2
    if isinstance(entry, Static):
        return int(about.get("rotation_period", 0)) // 2
    if isinstance(entry, Certificate):
        return int(about.get("max_ttl", 0)) * RENEW_AT[0] // RENEW_AT[1]
    return entry.refresh


def environments_are_apart(catalogue: Catalogue, seen: Seen) -> Iterator[Problem]:
    """A name of one environment in another: a role, a namespace, a mount, a part of a path."""
    others = names_of_others(catalogue, seen.environment)
    for found in seen.objects:
        if (found.kind, found.name) == ("ConfigMap", CATALOGUE):  # which is the catalogue, with all environments
            continue
        place = place_of(catalogue, seen, found)
        line = line_of(place, found) if place else line_of_environment(catalogue, seen)
        for word in sorted(words_in(found.object) & others):
            yield Problem(
                line, f"{found.kind} {found.name} names {word}, which is not of {seen.environment}", found.file
            )
    vault: dict[str, Any] = {**seen.vault, **{f"policy {name}": list(paths) for name, paths in seen.policies.items()}}
    for path, there in vault.items():
        for word in sorted((words_in(there) | words_in(path)) & others):
            yield Problem(
                line_of_environment(catalogue, seen), f"{path} names {word}, which is not of {seen.environment}"
            )


def secrets_are_owned_and_scheduled(catalogue: Catalogue, seen: Seen) -> Iterator[Problem]:
    """A key that is nobody's is never replaced."""
    if seen.vault.get(f"{catalogue.vault.kv}/config", {}).get("cas_required") is not True:
        yield Problem(
            catalogue.vault.line, f"{catalogue.vault.kv} of {seen.environment} takes writes without check-and-set"
        )
    for place, entry in entries(catalogue, seen):
        if not isinstance(entry, Stored):
            continue
        path = f"{catalogue.vault.kv}/metadata/{place.key_of(entry)}"
        about = seen.vault.get(path, {}).get("custom_metadata", {})
        for key, value in (("owner", entry.owner), ("rotate_every", in_words(entry.rotate))):
            if about.get(key) != value:
                yield Problem(entry.line, f"{path}: found {key} {about.get(key)}, expected {value}")


# ── What these ask ──


def engine_role(catalogue: Catalogue, seen: Seen, place: Place, entry: Issued) -> dict[str, Any]:
    found: dict[str, Any] = seen.vault.get(engine_path(catalogue, place, entry), {})
    return found


def in_seconds(text: Any) -> int | None:
    """Of Go's durations those that are rendered."""
    found = DURATION.fullmatch(text) if isinstance(text, str) else None
    return int(found[1]) * {"s": 1, "m": 60, "h": 3600}[found[2]] if found else None


def words_in(value: Any) -> set[str]:
    """The words of all texts, parts of paths and of host names among them."""
    if isinstance(value, dict):
        return {word for pair in value.items() for each in pair for word in words_in(each)}
    if isinstance(value, list):
        return {word for each in value for word in words_in(each)}
    return set(re.findall(r"[A-Za-z0-9][-A-Za-z0-9]*", value)) if isinstance(value, str) else set()


def names_of_others(catalogue: Catalogue, environment: str) -> set[str]:
    """What belongs to the other environments, and is not also called something here."""

    def names(of: str) -> set[str]:
        places = list(catalogue.places_in(of))
        auth = {place.environment.auth for place in places}
        return {of, *auth, *(name for place in places for name in (place.namespace, place.name, place.issuing))}

    here = names(environment) | {service.name for service in catalogue.services} | {"kubernetes"}
    return {name for each in catalogue.environments if each.name != environment for name in names(each.name)} - here
