"""A real Kubernetes API server (whatever KUBECONFIG names): TokenRequest and TokenReview, deletion, outage, rotation.

`make kubernetes-test` runs these. They make namespaces of their own, and delete them. The API server is stopped for
Vault alone, by a proxy between the two: whose cluster it is, nobody else is harmed.
"""

from __future__ import annotations

import base64
import json
import secrets
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import hvac
import pytest

from config_loader import VaultConfig
from devserver.proxy import Proxy
from tests.backends import Backend
from tests.e2e.test_pod import kubectl, rendered
from tests.integration.conftest import eventually
from vault_client import VaultClient
from vaultkit.auth.login import LOGINS
from vaultkit.errors import LoginRefused, LoginUnavailable, VaultError

pytestmark = [pytest.mark.cluster, pytest.mark.tools("kubectl")]

ACCOUNT = "my-vault-app"
REVIEWER = "vault-token-reviewer"
TOKEN_SECONDS = 600
"""The shortest life of a token that Kubernetes grants."""


class Cluster:
    """The cluster, and two namespaces of the test's own in it: that of the application, and that of the reviewer."""

    def __init__(self, folder: Path) -> None:
        config = json.loads(kubectl("config", "view", "--minify", "--flatten", "--output=json"))
        self._server = config["clusters"][0]["cluster"]
        self.url = str(self._server["server"])
        self.namespace = f"vault-test-{secrets.token_hex(4)}"
        self._folder = folder

    @property
    def address(self) -> tuple[str, int]:
        parts = urlsplit(self.url)
        return str(parts.hostname), parts.port or 443

    @property
    def ca_file(self) -> Path:
        path = self._folder / "ca.pem"
        path.write_bytes(base64.b64decode(self._server["certificate-authority-data"]))
        return path

    def kubectl(self, *arguments: str) -> str:
        return kubectl(f"--namespace={self.namespace}", *arguments)

    def token(self, account: str = ACCOUNT, audience: str = "vault") -> str:
        """By TokenRequest, as the kubelet gets that of a pod."""
        options = [f"--audience={audience}"] if audience else []
        return self.kubectl("create", "token", account, f"--duration={TOKEN_SECONDS}s", *options).strip()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """With an account for the application, and one that may have tokens reviewed."""
    made = Cluster(tmp_path_factory.mktemp("cluster"))
    kubectl("create", "namespace", made.namespace)
    for account in (ACCOUNT, REVIEWER):
        made.kubectl("create", "serviceaccount", account)
    reviewer = f"--serviceaccount={made.namespace}:{REVIEWER}"
    kubectl("create", "clusterrolebinding", made.namespace, "--clusterrole=system:auth-delegator", reviewer)
    yield made
    kubectl("delete", "clusterrolebinding", made.namespace)
    kubectl("delete", "namespace", made.namespace, "--wait=false")


@pytest.fixture(scope="module")
def way(cluster: Cluster) -> Iterator[Proxy]:
    """The way from Vault to the API server."""
    with Proxy(cluster.address).running() as proxy:
        yield proxy


@pytest.fixture(scope="module")
def prepared(
    backend: Backend, cluster: Cluster, way: Proxy, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[None]:
    """By `./setup-vault.sh kubernetes`."""
    reviewer = tmp_path_factory.mktemp("reviewer") / "token"
    reviewer.write_text(cluster.token(REVIEWER, audience=""))
    backend.setup(
        SETUP_ROOMS="kubernetes",
        K8S_HOST=way.url.replace("http:", "https:"),
        K8S_CA_FILE=str(cluster.ca_file),
        K8S_REVIEWER_FILE=str(reviewer),
        K8S_NAMESPACE=cluster.namespace,
        K8S_SERVICE_ACCOUNT=ACCOUNT,
    )
    yield
    backend.root.sys.disable_auth_method("kubernetes")


@pytest.fixture
def token_file(cluster: Cluster, tmp_path: Path) -> Path:
    """The file that a pod has."""
    path = tmp_path / "token"
    path.write_text(cluster.token())
    return path


@pytest.fixture
def client(backend: Backend, prepared: None, token_file: Path) -> Iterator[VaultClient]:
    environ = {
        "VAULT_URL": backend.url,
        "VAULT_AUTH_METHOD": "kubernetes",
        "KUBERNETES_AUTH_ROLE": ACCOUNT,
        "KUBERNETES_AUTH_TOKEN_FILE": str(token_file),
        "TOKEN_BACKOFF_MAX": "1",
    }
    with VaultClient(VaultConfig.load(environ=environ)) as client:
        yield client


def logs_in(client: VaultClient) -> bool:
    LOGINS.clear()
    try:
        client.login()
    except LoginUnavailable:
        return False
    return True


def entities(root: hvac.Client) -> int:
    return len(root.secrets.identity.list_entities_by_name()["data"]["keys"])


def test_pod_reads_everything(client: VaultClient) -> None:
    """Its token is reviewed by the API server, and the entity is ours."""
    client.get_kv_secret("database")
    client.get_database_dynamic_secret("db-demo-dynamic")
    client.get_database_static_secret("db-demo-static")


def test_t7_token_for_others_is_refused(client: VaultClient, cluster: Cluster, token_file: Path) -> None:
    """One for another audience could be played back by who it was meant for: that is for good, and said so."""
    token_file.write_text(cluster.token(audience="https://other.example"))
    with pytest.raises(LoginRefused, match="audience"):
        client.login()


def test_rotated_token_is_read_anew(client: VaultClient, cluster: Cluster, token_file: Path) -> None:
    """As the kubelet replaces it; what was there before is not remembered."""
    client.login()
    token_file.write_text("no token at all")
    with pytest.raises(VaultError):
        client.login()
    token_file.write_text(cluster.token())
    eventually(lambda: logs_in(client))


def test_t7_deleted_account_may_come_back(
    client: VaultClient, cluster: Cluster, token_file: Path, root: hvac.Client
) -> None:
    """Gone, it is refused as in an outage, once the API server has noticed. Made anew it is the same entity."""
    client.login()
    before = entities(root)
    cluster.kubectl("delete", "serviceaccount", ACCOUNT)
    eventually(lambda: not logs_in(client))
    cluster.kubectl("create", "serviceaccount", ACCOUNT)
    token_file.write_text(cluster.token())
    eventually(lambda: logs_in(client))
    assert client.get_kv_secret("database").stale is False
    assert entities(root) == before


def test_t7_outage_is_not_the_end(client: VaultClient, way: Proxy) -> None:
    """While the API server is away there is no login; what is cached serves, and the next login goes through."""
    held = client.get_kv_secret("database")
    way.refuse()
    assert not logs_in(client)
    assert client.get_kv_secret("database").data == held.data
    way.behave()
    eventually(lambda: logs_in(client))


@pytest.mark.parametrize("folder", ["dev", "prod", "reviewer"])
def test_cluster_takes_the_files(cluster: Cluster, folder: str) -> None:
    """Each object as kustomize renders it, under a name that is free; of kinds that this cluster knows."""
    known = kubectl("api-versions").split()
    for each in rendered(folder):
        if each["apiVersion"] in known:
            metadata = {**each["metadata"], "namespace": cluster.namespace, "name": f"{cluster.namespace}-free"}
            kubectl("create", "--dry-run=server", "--filename=-", given=json.dumps({**each, "metadata": metadata}))
