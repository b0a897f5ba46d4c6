"""The catalogue on a real API server (whatever KUBECONFIG names), with a real OpenBao; External Secrets is played.

`make kubernetes-test` runs these. They make namespaces of their own, and delete them. The CRDs of External Secrets are
the cluster's to have; kinds that it does not serve are named, and were checked by schema alone. If the controller
itself runs, it does what is played here, and these wait for it.
"""

from __future__ import annotations

import base64
import json
import secrets
import subprocess
from collections.abc import Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any

import hvac
import pytest

from catalogue.cluster import KubernetesCluster, by_kubectl
from catalogue.drift import report
from catalogue.entries import READER, Catalogue, Place, Stored
from catalogue.kubernetes_side import VERSION
from catalogue.rendered import on_disk
from catalogue.seen import Found, seen_in
from config_loader import VaultConfig
from tests.backends import Backend
from tests.catalogue_server import catalogue_in, write_by_path
from tests.e2e.test_kubernetes import REVIEWER, Cluster
from tests.e2e.test_pod import kubectl
from tests.integration.conftest import eventually
from vault_client import VaultClient

pytestmark = [pytest.mark.cluster, pytest.mark.tools("kubectl")]

CONTROLLER = "external-secrets"
ENVIRONMENTS = ("dev", "prod")


@cache
def kinds_of(version: str) -> set[str]:
    """The kinds that the cluster serves of a version of the API."""
    path = f"/apis/{version}" if "/" in version else f"/api/{version}"
    done = subprocess.run(["kubectl", "get", "--raw", path], capture_output=True, text=True, timeout=60, check=False)
    return {each["kind"] for each in json.loads(done.stdout)["resources"]} if done.returncode == 0 else set()


def is_served(found: Found) -> bool:
    return found.kind in kinds_of(str(found.object["apiVersion"]))


class Prepared:
    """Catalogue, namespaces and server. Everything that is served is created."""

    def __init__(self, backend: Backend, folder: Path, cluster: Cluster) -> None:
        self.backend, self.cluster, self.prefix = backend, cluster, cluster.namespace
        self.catalogue = catalogue_in(folder, namespaces=self.prefix)
        self.objects = {name: seen_in(on_disk(folder), name).objects for name in ENVIRONMENTS}
        self.namespaces = sorted({each.namespace for found in self.objects.values() for each in found})

    def create(self) -> None:
        for namespace in self.namespaces:
            kubectl("create", "namespace", namespace)
        kubectl("-n", self.catalogue.operator.namespace, "create", "serviceaccount", CONTROLLER)
        done = set()
        for each in (each for found in self.objects.values() for each in found if is_served(each)):
            if (each.kind, each.namespace, each.name) not in done:
                kubectl("create", "--filename=-", given=json.dumps(each.object))
            done.add((each.kind, each.namespace, each.name))

    def delete(self) -> None:
        kubectl("delete", "namespace", *self.namespaces, "--wait=false")

    def token(self, namespace: str, account: str = READER) -> str:
        """By TokenRequest, as the account of External Secrets."""
        operator = f"system:serviceaccount:{self.catalogue.operator.namespace}:{CONTROLLER}"
        return kubectl(
            f"--as={operator}", "-n", namespace, "create", "token", account, "--audience=vault", "--duration=600s"
        ).strip()

    def log_in(self, place: Place, role: str) -> hvac.Client:
        api = hvac.Client(url=self.backend.url)
        api.auth.kubernetes.login(role=role, jwt=self.token(place.namespace), mount_point=place.environment.auth)
        return api

    def external_secrets(self, place: Place) -> list[dict[str, Any]]:
        """As the cluster has them, or as they are rendered, where it does not serve them."""
        rendered = [each for each in self.objects[place.environment.name] if each.kind == "ExternalSecret"]
        ours = [each for each in rendered if each.namespace == place.namespace and each.at("spec", "data")]
        if not all(map(is_served, ours)):
            return [each.object for each in ours]
        path = f"/apis/external-secrets.io/v1/namespaces/{place.namespace}/externalsecrets"
        return [each for each in by_kubectl(path)["items"] if "data" in each["spec"]]


@pytest.fixture(scope="module")
def prepared(backend: Backend, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prepared]:
    folder = tmp_path_factory.mktemp("catalogue-cluster")
    made = Prepared(backend, folder, Cluster(folder))
    made.create()
    operators, root = made.catalogue.operator.namespace, backend.root
    kubectl("-n", operators, "create", "serviceaccount", REVIEWER)
    account = f"--serviceaccount={operators}:{REVIEWER}"
    kubectl("create", "clusterrolebinding", made.prefix, "--clusterrole=system:auth-delegator", account)
    reviewer = kubectl("-n", operators, "create", "token", REVIEWER).strip()
    root.sys.enable_secrets_engine("kv-v2", path=made.catalogue.vault.kv)
    for environment in made.catalogue.environments:
        root.sys.enable_auth_method("kubernetes", path=environment.auth)
        write_by_path(
            backend, made.catalogue, environment.name, but=(made.catalogue.vault.database, made.catalogue.vault.pki)
        )
        server = {"kubernetes_host": made.cluster.url, "kubernetes_ca_cert": made.cluster.ca_file.read_text()}
        config = {**server, "token_reviewer_jwt": reviewer, "disable_local_ca_jwt": True}
        root.write_data(f"auth/{environment.auth}/config", data=config)
    write_secrets(root, made.catalogue)
    yield made
    root.sys.disable_secrets_engine(made.catalogue.vault.kv)
    for environment in made.catalogue.environments:
        root.sys.disable_auth_method(environment.auth)
    kubectl("delete", "clusterrolebinding", made.prefix)
    made.delete()


def write_secrets(root: hvac.Client, catalogue: Catalogue) -> None:
    for place, entry in all_stored(catalogue):
        values = {name: secrets.token_urlsafe(8) for name in entry.keys.values()}
        body = {"data": values, "options": {"cas": 0}}
        root.write_data(f"{catalogue.vault.kv}/data/{place.key_of(entry)}", data=body)


def all_stored(catalogue: Catalogue) -> list[tuple[Place, Stored]]:
    return [(place, entry) for place in catalogue.places for entry in place.stored]


def synchronize(prepared: Prepared, place: Place, found: dict[str, Any]) -> None:
    """What External Secrets does of one: log in with the store's role, read what the object names, write the Secret."""
    api = prepared.log_in(place, place.name)
    mount, values = prepared.catalogue.vault.kv, {}
    for each in found["spec"]["data"]:
        of, key = each["remoteRef"], each["remoteRef"]["key"]
        if of.get("metadataPolicy") == "Fetch":
            values[each["secretKey"]] = api.read(f"{mount}/metadata/{key}")["data"][of["property"]]
        else:
            values[each["secretKey"]] = api.read(f"{mount}/data/{key}")["data"]["data"][of["property"]]
    target, metadata = found["spec"]["target"], found["metadata"]
    template = target["template"]
    owner = {"apiVersion": "external-secrets.io/v1", "kind": "ExternalSecret", "name": metadata["name"]}
    made = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            **template["metadata"],
            "name": target["name"],
            "namespace": place.namespace,
            "annotations": {VERSION: filled(template["metadata"]["annotations"][VERSION], values)},
            "ownerReferences": [{**owner, "uid": metadata.get("uid", "0")}],
        },
        "data": {
            key: base64.b64encode(filled(text, values).encode()).decode() for key, text in template["data"].items()
        },
    }
    kubectl("apply", "--filename=-", given=json.dumps(made))


def filled(template: str, values: dict[str, Any]) -> str:
    return str(values[template.removeprefix("{{ .").removesuffix(" }}")])


def controller_runs() -> bool:
    pods = kubectl(
        "get", "deployments", "--all-namespaces", f"--selector=app.kubernetes.io/name={CONTROLLER}", "-oname"
    )
    return bool(pods.strip())


def drifts(prepared: Prepared, environment: str) -> list[tuple[str, str]]:
    """What is not as it is to be, short of what Vault would issue, for which there is no engine here."""
    environ = {"VAULT_URL": prepared.backend.url, "VAULT_AUTH_METHOD": "token"}
    config = VaultConfig.load(environ={**environ, "TOKEN_AUTH_TOKEN": prepared.backend.root_token})
    cluster = KubernetesCluster(by_kubectl)
    found = report(prepared.catalogue, environment, VaultClient(config).ask, cluster).drifts
    issued = {entry.name for place in prepared.catalogue.places for entry in place.issued}
    return [(each.name, each.kind) for each in found if each.name not in issued]


def no_drift(prepared: Prepared, environment: str) -> bool:
    return not drifts(prepared, environment)


def test_cluster_takes_every_object(prepared: Prepared, capsys: pytest.CaptureFixture[str]) -> None:
    """By --dry-run=server, as `kubectl diff -k` asks; they were created, too."""
    not_served = set()
    for environment in ENVIRONMENTS:
        for each in prepared.objects[environment]:
            if is_served(each):
                kubectl("apply", "--dry-run=server", "--filename=-", given=json.dumps(each.object))
            else:
                not_served.add(f"{each.object['apiVersion']} {each.kind}")
    with capsys.disabled():
        print(f"\nnot served here, and checked by schema alone: {', '.join(sorted(not_served)) or 'nothing'}")


def test_external_secrets_is_one_account_alone(prepared: Prepared) -> None:
    """It gets tokens of the readers, and of nobody else in their namespaces."""
    operator = f"system:serviceaccount:{prepared.catalogue.operator.namespace}:{CONTROLLER}"
    for place in prepared.catalogue.places:
        for account, expected in ((READER, "yes"), ("default", "no")):
            done = subprocess.run(
                ["kubectl", f"--as={operator}", "-n", place.namespace, "auth", "can-i", "create",
                 f"serviceaccounts/{account}", "--subresource=token"],
                capture_output=True, text=True, timeout=60, check=False,
            )  # fmt: skip
            assert done.stdout.strip() == expected, (place.name, account, done.stderr)


def test_every_secret_is_synchronized(prepared: Prepared) -> None:
    """In each place; then there is no drift, and a hand edit is one."""
    if not controller_runs():
        for place in prepared.catalogue.places:
            for found in prepared.external_secrets(place):
                synchronize(prepared, place, found)
    for environment in ENVIRONMENTS:
        assert eventually(partial(no_drift, prepared, environment)), drifts(prepared, environment)
    namespace = next(each.namespace for each in prepared.catalogue.places if each.name == "llm-prod")
    patch = json.dumps({"stringData": {"api_key": "by hand"}})
    kubectl("-n", namespace, "patch", "secret", "openai-api-key", "--patch", patch)
    assert controller_runs() or drifts(prepared, "prod") == [("openai-api-key", "edited")]


def test_nobody_reads_what_is_anothers(prepared: Prepared) -> None:
    """Every role is refused every path of every other service and environment, with real tokens."""
    mount = prepared.catalogue.vault.kv
    for place in prepared.catalogue.places:
        api = prepared.log_in(place, place.name)
        for other, entry in all_stored(prepared.catalogue):
            if other.name != place.name:
                with pytest.raises(hvac.exceptions.Forbidden):
                    api.read(f"{mount}/data/{other.key_of(entry)}")


def test_reader_has_its_own_role_alone(prepared: Prepared) -> None:
    """A real token of one place does not get into the role of another."""
    places = list(prepared.catalogue.places)
    for place in places:
        for other in (each for each in places if each.name != place.name):
            api = hvac.Client(url=prepared.backend.url)
            with pytest.raises(hvac.exceptions.Forbidden):
                api.auth.kubernetes.login(
                    role=other.name, jwt=prepared.token(place.namespace), mount_point=other.environment.auth
                )
