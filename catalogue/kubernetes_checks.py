"""What Kubernetes is told, against the catalogue. Each check is a mistake that no schema sees."""

from __future__ import annotations

from collections.abc import Iterator

from catalogue.asked import entries, entry_of, generators, line_of, line_of_environment, objects, place_of
from catalogue.entries import READER, Catalogue, Issued
from catalogue.keeper_jobs import may_see
from catalogue.keepers import DRIFT, ROTATION
from catalogue.kubernetes_side import reader
from catalogue.problems import Problem
from catalogue.seen import Seen

SYNCED = ("SecretStore", "ExternalSecret", "VaultDynamicSecret")


def all_is_there(catalogue: Catalogue, seen: Seen) -> Iterator[Problem]:
    """An entry that an overlay forgot; an object that no entry is behind."""
    for place, entry in entries(catalogue, seen):
        if not seen.has("ExternalSecret", place.namespace, entry.name):
            yield Problem(
                entry.line, f"{place.name} has no ExternalSecret {entry.name} in the namespace {place.namespace}"
            )
        if isinstance(entry, Issued) and not seen.has("VaultDynamicSecret", place.namespace, entry.name):
            yield Problem(entry.line, f"{place.name} has no generator {entry.name} in the namespace {place.namespace}")
    for found in seen.of_kind("ExternalSecret", "VaultDynamicSecret"):
        place_or_none = place_of(catalogue, seen, found)
        if place_or_none and entry_of(place_or_none, found) is None:
            yield Problem(
                place_or_none.line, f"{found.kind} {found.name} is of no entry of {place_or_none.name}", found.file
            )


def namespaces_are_those_of_the_catalogue(catalogue: Catalogue, seen: Seen) -> Iterator[Problem]:
    """An object in the namespace of another environment, or in one that is nobody's."""
    for found in seen.of_kind(*SYNCED, "ServiceAccount", "Role", "RoleBinding", "CronJob"):
        keeper = found.kind in ("ServiceAccount", "CronJob") and found.name in (DRIFT, ROTATION)
        if place_of(catalogue, seen, found) is None and not (
            keeper and found.namespace == catalogue.operator.namespace
        ):
            line = line_of_environment(catalogue, seen)
            where = found.namespace or "(none)"
            yield Problem(
                line, f"{found.kind} {found.name} is in {where}, no namespace of {seen.environment}", found.file
            )


def stores_are_near(catalogue: Catalogue, seen: Seen) -> Iterator[Problem]:
    """A store in another namespace is not found; one for the cluster is everybody's."""
    for place, found in objects(catalogue, seen, "ExternalSecret"):
        wants = [("SecretStore", found.at("spec", "secretStoreRef"))] if found.at("spec", "secretStoreRef") else []
        wants += [("VaultDynamicSecret", each["sourceRef"]["generatorRef"]) for each in generators(found)]
        for kind, wanted in wants:
            line = line_of(place, found)
            if wanted.get("kind", "SecretStore") != kind:
                yield Problem(
                    line, f"{found.name} asks a {wanted['kind']}, expected a {kind} of its namespace", found.file
                )
            elif not seen.has(kind, found.namespace, wanted.get("name", "")):
                yield Problem(
                    line, f"{found.name}: there is no {kind} {wanted['name']} in {found.namespace}", found.file
                )


def logins_are_their_own(catalogue: Catalogue, seen: Seen) -> Iterator[Problem]:
    """A dev role in the prod overlay: every validator takes it."""
    for place, found in objects(catalogue, seen, "SecretStore", "VaultDynamicSecret"):
        store = found.kind == "SecretStore"
        provider = found.at("spec", "provider", "vault") if store else found.at("spec", "provider")
        login = (provider or {}).get("auth", {}).get("kubernetes", {})
        account = login.get("serviceAccountRef") or {}
        wanted = {
            "role": (login.get("role"), place.name if store else place.issuing),
            "mountPath": (login.get("mountPath"), place.environment.auth),
            "server": ((provider or {}).get("server"), catalogue.vault.server),
            "serviceAccountRef": (account.get("name"), READER),
            "serviceAccountRef.namespace": (account.get("namespace", place.namespace), place.namespace),
            "audiences": (account.get("audiences"), [catalogue.vault.audience]),
        }
        if store:
            wanted["path"] = (provider.get("path") if provider else None, catalogue.vault.kv)
        for what, (is_, expected) in wanted.items():
            if is_ != expected:
                text = f"{found.kind} {found.name}: found {what} {is_}, expected {expected}"
                yield Problem(line_of(place, found), text, found.file)


def accounts_may_no_more(catalogue: Catalogue, seen: Seen) -> Iterator[Problem]:
    """A role without resourceNames lets External Secrets be every account of the namespace."""
    for place in catalogue.places_in(seen.environment):
        if not seen.has("ServiceAccount", place.namespace, READER):
            yield Problem(place.line, f"{place.namespace} has no account {READER}")
    wanted = {(each["kind"], each["metadata"]["name"]): each for each in [*reader(catalogue), *may_see(catalogue)]}
    for place, found in objects(catalogue, seen, "Role", "RoleBinding"):
        expected = wanted.get((found.kind, found.name), {})
        for key in ("rules", "roleRef", "subjects"):
            if found.at(key) != expected.get(key, ""):
                text = f"{found.kind} {found.name}: found {key} {found.at(key)}, expected {expected.get(key, 'none')}"
                yield Problem(place.line, text, found.file)
