"""Compares what is in the cluster with what Vault has, in memory. What is told are names, versions and keys.

Never a value, and never a hash of one: whoever reads a log could try short values against it.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from cryptography import x509

from catalogue.cluster import Cluster, Secret
from catalogue.entries import Catalogue, Certificate, Place, Stored
from catalogue.keepers import keeper_paths
from catalogue.kv import Ask, Kv, Version
from catalogue.rendered import Sample
from vaultkit.errors import SecretNotFound
from vaultkit.transport.answers import expect

MISSING, STALE, EDITED, INCOMPLETE, UNOWNED, ORPHAN = "missing", "stale", "edited", "incomplete", "unowned", "orphan"


@dataclass(frozen=True, order=True)
class Drift:
    """One thing that is not as it is to be."""

    namespace: str
    """"" where it is about Vault alone."""
    name: str
    kind: str
    text: str

    def __str__(self) -> str:
        place = f"{self.namespace}/{self.name}" if self.namespace else self.name
        return f"{self.kind} {place}: {self.text}"


@dataclass(frozen=True)
class Report:
    """All that was found in an environment."""

    drifts: list[Drift]
    ends: dict[tuple[str, str], float]
    """Namespace and name of each certificate → when it ends, in seconds of the wall clock."""

    def samples(self, now: float) -> Iterator[Sample]:
        """As series for Prometheus."""
        for each in self.drifts:
            labels = {"namespace": each.namespace, "name": each.name, "kind": each.kind}
            yield Sample("secrets_catalogue_drift", labels, 1)
        for (namespace, name), end in self.ends.items():
            labels = {"namespace": namespace, "name": name}
            yield Sample("secrets_catalogue_certificate_end_timestamp_seconds", labels, end)
        yield Sample("secrets_catalogue_checked_timestamp_seconds", {}, now)


def report(catalogue: Catalogue, environment: str, ask: Ask, cluster: Cluster) -> Report:
    """Raises: ClusterError, and the errors of `vaultkit`: what could not be looked at is no match."""
    kv = Kv(ask, catalogue.vault.kv)
    drifts: set[Drift] = set()
    ends: dict[tuple[str, str], float] = {}
    for place in catalogue.places_in(environment):
        secrets = {each.name: each for each in cluster.secrets(place.namespace)}
        drifts |= {*of_place(kv, place, secrets), *unowned(place, secrets)}
        for entry in place.entries:
            end = end_of(secrets.get(entry.name)) if isinstance(entry, Certificate) else 0.0
            if end:
                ends[place.namespace, entry.name] = end
    drifts |= {*orphans(catalogue, environment, kv), *strangers(catalogue, environment, ask)}
    return Report(sorted(drifts), ends)


def of_place(kv: Kv, place: Place, secrets: Mapping[str, Secret]) -> Iterator[Drift]:
    """Each entry, against the Secret that is made of it. What Vault issues is in the cluster alone."""
    for entry in place.entries:
        secret = secrets.get(entry.name)
        if secret is None:
            yield Drift(place.namespace, entry.name, MISSING, "there is no such Secret")
        elif isinstance(entry, Stored):
            yield from of_secret(entry, secret, kv.read(place.key_of(entry)))


def of_secret(entry: Stored, secret: Secret, there: Version) -> Iterator[Drift]:
    absent = sorted({name for name in entry.keys.values() if name not in there.values})
    if absent:
        text = f"version {there.number} in Vault has no {', '.join(absent)}"
        yield Drift(secret.namespace, secret.name, INCOMPLETE, text)
        return
    wanted = {key: str(there.values[name]).encode() for key, name in entry.keys.items()}
    keys = differing(wanted, secret.data)
    if keys:
        kind = STALE if secret.version < there.number else EDITED
        text = f"version {secret.version or '(none)'}, Vault has {there.number}; {', '.join(keys)} differ"
        yield Drift(secret.namespace, secret.name, kind, text)


def differing(wanted: Mapping[str, bytes], there: Mapping[str, bytes]) -> list[str]:
    """The keys that are in one alone, or not the same; each compared in the same time whatever it holds."""
    both = sorted(wanted.keys() & there.keys())
    return sorted([*(wanted.keys() ^ there.keys()), *(key for key in both if not same(wanted[key], there[key]))])


def same(one: bytes, other: bytes) -> bool:
    return hmac.compare_digest(one, other)


def unowned(place: Place, secrets: Mapping[str, Secret]) -> Iterator[Drift]:
    """A Secret of ours that nothing keeps up to date any more."""
    names = {entry.name for entry in place.entries}
    for secret in secrets.values():
        if secret.name in names and not secret.owned:
            yield Drift(place.namespace, secret.name, UNOWNED, "no ExternalSecret owns it")
        elif secret.ours and secret.name not in names:
            yield Drift(place.namespace, secret.name, UNOWNED, "no entry of the catalogue is behind it")


def orphans(catalogue: Catalogue, environment: str, kv: Kv) -> Iterator[Drift]:
    """A secret in Vault that nobody is given."""
    named = {place.key_of(entry) for place in catalogue.places_in(environment) for entry in place.stored}
    for path, about in kv.known_below(environment).items():
        if path not in named:
            owner = (about.get("custom_metadata") or {}).get("owner", "(none)")
            yield Drift("", f"{kv.mount}/{path}", ORPHAN, f"no entry of the catalogue names it; its owner: {owner}")


def strangers(catalogue: Catalogue, environment: str, ask: Ask) -> Iterator[Drift]:
    """Policies and roles of services that are gone: whoever gets such an account gets their secrets."""
    known = {name for place in catalogue.places_in(environment) for name in (place.name, place.issuing)}
    known |= keeper_paths(catalogue, environment).keys()
    auth = next(each.auth for each in catalogue.environments if each.name == environment)
    for path in ("sys/policies/acl", f"auth/{auth}/role"):
        for name in listed(ask, path):
            if name.removesuffix("-issued").endswith(f"-{environment}") and name not in known:
                yield Drift("", f"{path}/{name}", ORPHAN, "is of no service of the catalogue")


def listed(ask: Ask, path: str) -> list[str]:
    try:
        return expect(expect(ask(lambda api: api.list(path)) or {}, "data", dict), "keys", list)
    except SecretNotFound:
        return []


def end_of(secret: Secret | None) -> float:
    """When its certificate ends; 0 if it has none that can be read."""
    try:
        certificate: Any = x509.load_pem_x509_certificate(secret.data["tls.crt"] if secret else b"")
    except (KeyError, ValueError):
        return 0.0
    return float(certificate.not_valid_after_utc.timestamp())
