"""What Kubernetes is told: who reads, where the store is, and which Secrets come of it. Kustomize folders."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from catalogue.entries import READER, STORE, Catalogue, Certificate, Entry, Issued, Place, Stored
from catalogue.fields import in_words
from catalogue.keeper_jobs import jobs, may_see
from catalogue.rendered import Object, Tree, as_yaml

STORES = "external-secrets.io/v1"
GENERATORS = "generators.external-secrets.io/v1alpha1"
MARK = "secrets-catalogue"
"""Prefix of our labels and annotations."""
VERSION = f"{MARK}/version"
"""Annotation of a Secret: the version in Vault that it has."""
KEEPERS = "secrets-keepers"
CA = {"type": "ConfigMap", "name": "vault-ca", "key": "ca.crt"}


def kubernetes_side(catalogue: Catalogue) -> Tree:
    """base is the same everywhere; each environment is a folder that Argo CD or `kubectl apply -k` takes."""
    tree = {
        "synced/base/kustomization.yaml": kustomization(resources=["reader.yaml", "keepers.yaml"]),
        "synced/base/reader.yaml": as_yaml(*reader(catalogue)),
        "synced/base/keepers.yaml": as_yaml(*may_see(catalogue)),
    }
    for environment in catalogue.environments:
        places = list(catalogue.places_in(environment.name))
        folder = f"synced/{environment.name}"
        services = [place.service.name for place in places]
        tree[f"{folder}/kustomization.yaml"] = kustomization(resources=[*services, KEEPERS])
        keepers = kustomization(namespace=catalogue.operator.namespace, resources=["jobs.yaml"])
        tree[f"{folder}/{KEEPERS}/kustomization.yaml"] = keepers
        tree[f"{folder}/{KEEPERS}/jobs.yaml"] = as_yaml(*jobs(catalogue, environment, catalogue.text))
        for place in places:
            tree |= {f"{folder}/{place.service.name}/{name}": text for name, text in of_place(catalogue, place)}
    return tree


def kustomization(**fields: Any) -> str:
    return as_yaml({"apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization", **fields})


def of_place(catalogue: Catalogue, place: Place) -> list[tuple[str, str]]:
    files = [("store.yaml", as_yaml(store(catalogue, place)))] if place.stored else []
    files += [(f"{each.name}.yaml", as_yaml(*secret(catalogue, place, each))) for each in place.entries]
    names = ["../../base", *(name for name, _ in files)]
    return [("kustomization.yaml", kustomization(namespace=place.namespace, resources=names)), *files]


def thing(version: str, kind: str, name: str, **rest: Any) -> Object:
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name}, **rest}


# ── The base ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def reader(catalogue: Catalogue) -> list[Object]:
    """The account, and that External Secrets may have tokens of it, and of no other."""
    tokens = {"apiGroups": [""], "resources": ["serviceaccounts/token"], "resourceNames": [READER], "verbs": ["create"]}
    name, operator = "external-secrets-logs-in", catalogue.operator
    return [
        thing("v1", "ServiceAccount", READER, automountServiceAccountToken=False),
        thing("rbac.authorization.k8s.io/v1", "Role", name, rules=[tokens]),
        thing(
            "rbac.authorization.k8s.io/v1",
            "RoleBinding",
            name,
            roleRef={"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name},
            subjects=[{"kind": "ServiceAccount", "name": operator.account, "namespace": operator.namespace}],
        ),
        thing("v1", "ConfigMap", CA["name"], data={CA["key"]: catalogue.vault.ca}),
    ]


# ── A place ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def store(catalogue: Catalogue, place: Place) -> Object:
    vault = {"path": catalogue.vault.kv, "version": "v2"}
    return thing(
        STORES, "SecretStore", STORE, spec={"provider": {"vault": {**server(catalogue, place, place.name), **vault}}}
    )


def server(catalogue: Catalogue, place: Place, role: str) -> Object:
    """Where Vault is, and as whom to log in."""
    account = {"name": READER, "audiences": [catalogue.vault.audience]}
    return {
        "server": catalogue.vault.server,
        "caProvider": dict(CA),
        "auth": {"kubernetes": {"mountPath": place.environment.auth, "role": role, "serviceAccountRef": account}},
    }


def secret(catalogue: Catalogue, place: Place, entry: Entry) -> list[Object]:
    """The ExternalSecret, behind the generator of what is not stored."""
    if isinstance(entry, Stored):
        return [external_secret(place, entry, kept(entry), **of_store(place, entry))]
    assert isinstance(entry, Issued)
    source = {"generatorRef": {"apiVersion": GENERATORS, "kind": "VaultDynamicSecret", "name": entry.name}}
    template = tls() if isinstance(entry, Certificate) else user()
    return [
        generator(catalogue, place, entry),
        external_secret(place, entry, template, dataFrom=[{"sourceRef": source}]),
    ]


def of_store(place: Place, entry: Stored) -> Object:
    """Each property, and the version, which is not written to the Secret but into its annotation."""
    key = place.key_of(entry)
    data = [
        {"secretKey": each, "remoteRef": {"key": key, "property": each}} for each in sorted(set(entry.keys.values()))
    ]
    version = {"key": key, "property": "current_version", "metadataPolicy": "Fetch"}
    return {
        "secretStoreRef": {"kind": "SecretStore", "name": STORE},
        "data": [*data, {"secretKey": "current_version", "remoteRef": version}],
    }


def external_secret(place: Place, entry: Entry, template: Mapping[str, Any], **source: Any) -> Object:
    labels = {f"{MARK}/service": place.service.name, f"{MARK}/environment": place.environment.name}
    marks = {"labels": labels, **template.get("metadata", {})}
    target = {
        "name": entry.name,
        "creationPolicy": "Owner",
        # What is deleted in Vault by mistake stays in the cluster, and there is an alert. A revoked key is dead anyway.
        "deletionPolicy": "Retain",
        "template": {"engineVersion": "v2", **template, "metadata": marks},
    }
    spec = {"refreshPolicy": "Periodic", "refreshInterval": in_words(entry.refresh), **source, "target": target}
    return thing(STORES, "ExternalSecret", entry.name, spec=spec)


def kept(entry: Stored) -> Object:
    annotations = {VERSION: "{{ .current_version }}"}
    return {
        "metadata": {"annotations": annotations},
        "data": {key: f"{{{{ .{of} }}}}" for key, of in entry.keys.items()},
    }


def user() -> Object:
    return {"data": {key: f"{{{{ .{key} }}}}" for key in ("username", "password")}}


def tls() -> Object:
    """In the form that ingresses read: the certificate with its issuer, and who is to be trusted."""
    chain = "{{ .certificate }}\n{{ .issuing_ca }}\n"
    data = {"tls.crt": chain, "tls.key": "{{ .private_key }}", "ca.crt": "{{ .issuing_ca }}"}
    return {"type": "kubernetes.io/tls", "data": data}


def generator(catalogue: Catalogue, place: Place, entry: Issued) -> Object:
    spec: Object = {"path": catalogue.issuing_path(place, entry), "method": "GET", "resultType": "Data"}
    if isinstance(entry, Certificate):
        common, *others = [place.filled(name) for name in entry.names]
        alternative = {"alt_names": ",".join(others)} if others else {}
        spec |= {"method": "POST", "parameters": {"common_name": common, "ttl": in_words(entry.life), **alternative}}
    provider = server(catalogue, place, place.issuing)
    return thing(GENERATORS, "VaultDynamicSecret", entry.name, spec={**spec, "provider": provider})
