"""What is in the cluster, read by the paths of the Kubernetes API: from within a pod, or with kubectl from anywhere."""

from __future__ import annotations

import base64
import binascii
import json
import os
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import requests

from catalogue.kubernetes_side import MARK, STORES, VERSION

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
SECONDS = 30.0
Get = Callable[[str], dict[str, Any]]
"""What is at a path of the API. Raises: ClusterError."""


class ClusterError(Exception):
    """Kubernetes did not answer, or said no."""


@dataclass(frozen=True)
class Secret:
    """A Secret of Kubernetes."""

    namespace: str
    name: str
    version: int
    """In Vault, by its annotation; 0, if that is not there."""
    owned: bool
    """Whether an ExternalSecret owns it."""
    ours: bool
    """Whether it has our labels."""
    data: dict[str, bytes] = field(repr=False)


class Cluster(Protocol):
    """What the rotation and the drift ask."""

    def secrets(self, namespace: str) -> list[Secret]: ...

    def users_of(self, namespace: str, key: str) -> list[str]:
        """The names of the Secrets that are made from this key of the store."""


class KubernetesCluster:
    """A real one."""

    def __init__(self, get: Get) -> None:
        self._get = get

    def secrets(self, namespace: str) -> list[Secret]:
        return [secret_of(each) for each in self._items(f"/api/v1/namespaces/{namespace}/secrets")]

    def users_of(self, namespace: str, key: str) -> list[str]:
        found = self._items(f"/apis/{STORES}/namespaces/{namespace}/externalsecrets")
        return [target(each) for each in found if key in keys_of(each["spec"])]

    def _items(self, path: str) -> list[dict[str, Any]]:
        return list(self._get(path).get("items", []))


def target(external_secret: dict[str, Any]) -> str:
    return str(external_secret["spec"].get("target", {}).get("name") or external_secret["metadata"]["name"])


def keys_of(spec: dict[str, Any]) -> set[str]:
    direct = {each["remoteRef"]["key"] for each in spec.get("data", []) if "remoteRef" in each}
    return direct | {each["extract"]["key"] for each in spec.get("dataFrom", []) if "extract" in each}


def secret_of(found: dict[str, Any]) -> Secret:
    metadata = found["metadata"]
    version = metadata.get("annotations", {}).get(VERSION, "")
    return Secret(
        namespace=metadata["namespace"],
        name=metadata["name"],
        version=int(version) if version.isdecimal() else 0,
        owned=any(owner["kind"] == "ExternalSecret" for owner in metadata.get("ownerReferences", [])),
        ours=f"{MARK}/service" in metadata.get("labels", {}),
        data={key: decoded(text) for key, text in (found.get("data") or {}).items()},
    )


def decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error:
        return b""


# ── The ways there ───────────────────────────────────────────────────────────────────────────────────────────────────


def cluster() -> KubernetesCluster:
    """The one that this runs in, else the one that kubectl means. Raises: ClusterError at the first question."""
    host = os.environ.get("KUBERNETES_SERVICE_HOST")
    if not host or os.environ.get("KUBECONFIG"):
        return KubernetesCluster(by_kubectl)
    url = f"https://[{host}]" if ":" in host else f"https://{host}"
    return KubernetesCluster(in_pod(f"{url}:{os.environ.get('KUBERNETES_SERVICE_PORT', '443')}"))


def by_kubectl(path: str) -> dict[str, Any]:
    try:
        done = subprocess.run(
            ["kubectl", "get", "--raw", path], capture_output=True, text=True, timeout=SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ClusterError(f"kubectl: {error}") from None
    if done.returncode:
        raise ClusterError(" ".join(done.stderr.split()))
    return dict(json.loads(done.stdout))


def in_pod(url: str, account: Path = ACCOUNT) -> Get:
    """With the pod's own token, read anew each time: the kubelet replaces it."""

    def get(path: str) -> dict[str, Any]:
        try:
            headers = {"Authorization": f"Bearer {(account / 'token').read_text(encoding='utf-8').strip()}"}
            with requests.Session() as session:
                session.trust_env = False
                answer = session.get(url + path, headers=headers, timeout=SECONDS, verify=str(account / "ca.crt"))
            if answer.status_code != 200:
                raise ClusterError(f"{path}: {answer.status_code} {answer.reason}")
            return dict(answer.json())
        except (OSError, ValueError) as error:  # those of requests are OSErrors
            raise ClusterError(f"{path}: {type(error).__name__}") from None

    return get
