"""The CronJobs that compare and replace: their accounts, what they may see in the cluster, and how they run."""

from __future__ import annotations

from typing import Any

from catalogue.entries import Catalogue, Environment
from catalogue.keepers import DRIFT, ROTATION
from catalogue.rendered import Object

SCHEDULES = {DRIFT: "*/30 * * * *", ROTATION: "*/15 * * * *"}
"""Twice within the two hours after which there is an alert; a rotation that waits is gone on with soon."""
COMMANDS = {DRIFT: "drift", ROTATION: "rotate"}
MOST_SECONDS = 1500
CATALOGUE = "secrets-catalogue"
ADMINISTRATORS = "secrets-rotation-providers"
"""A Secret of yours: what the providers need, such as PGHOST, PGUSER and PGPASSWORD."""
SEES = "secrets-are-compared"
RBAC = "rbac.authorization.k8s.io"


def may_see(catalogue: Catalogue) -> list[Object]:
    """For each namespace: Kubernetes cannot let see a version without the Secret that has it."""
    rules: list[Any] = [
        {"apiGroups": [""], "resources": ["secrets"], "verbs": ["list"]},
        {"apiGroups": ["external-secrets.io"], "resources": ["externalsecrets"], "verbs": ["list"]},
    ]
    return [
        {"apiVersion": f"{RBAC}/v1", "kind": "Role", "metadata": {"name": SEES}, "rules": rules},
        {
            "apiVersion": f"{RBAC}/v1",
            "kind": "RoleBinding",
            "metadata": {"name": SEES},
            "roleRef": {"apiGroup": RBAC, "kind": "Role", "name": SEES},
            "subjects": [
                {"kind": "ServiceAccount", "name": name, "namespace": catalogue.operator.namespace}
                for name in (DRIFT, ROTATION)
            ],
        },
    ]


def jobs(catalogue: Catalogue, environment: Environment, text: str) -> list[Object]:
    """In the namespace of External Secrets. `text` is the catalogue's own: they read it as it was rendered."""
    files = {"catalogue.yaml": text, catalogue.vault.ca_file: catalogue.vault.ca}
    found: list[Object] = [{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": CATALOGUE}, "data": files}]
    for name in (DRIFT, ROTATION):
        found.append({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name}})
        found.append(job(catalogue, environment, name))
    return found


def job(catalogue: Catalogue, environment: Environment, name: str) -> Object:
    template = {"template": {"spec": pod(catalogue, environment, name)}}
    spec = {
        "schedule": SCHEDULES[name],
        "concurrencyPolicy": "Forbid",
        "startingDeadlineSeconds": 600,
        "jobTemplate": {"spec": {"backoffLimit": 0, "activeDeadlineSeconds": MOST_SECONDS, **template}},
    }
    return {"apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": name}, "spec": spec}


def pod(catalogue: Catalogue, environment: Environment, name: str) -> Object:
    audience = {"path": "token", "audience": catalogue.vault.audience, "expirationSeconds": 600}
    settings = {
        "VAULT_URL": catalogue.vault.server,
        "VAULT_CA_FILE": f"/etc/catalogue/{catalogue.vault.ca_file}",
        "VAULT_AUTH_METHOD": "kubernetes",
        "KUBERNETES_AUTH_MOUNT": environment.auth,
        "KUBERNETES_AUTH_ROLE": f"{name}-{environment.name}",
        "KUBERNETES_AUTH_TOKEN_FILE": "/var/run/secrets/vault/token",
    }
    container: Object = {
        "name": name,
        "image": CATALOGUE,
        "args": ["--catalogue", "/etc/catalogue/catalogue.yaml", COMMANDS[name], "--environment", environment.name],
        "env": [{"name": key, "value": value} for key, value in settings.items()],
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "resources": {"requests": {"cpu": "20m", "memory": "64Mi"}, "limits": {"memory": "256Mi"}},
        "volumeMounts": [
            {"name": "catalogue", "mountPath": "/etc/catalogue", "readOnly": True},
            {"name": "vault-token", "mountPath": "/var/run/secrets/vault", "readOnly": True},
        ],
    }
    if name == ROTATION:
        container["envFrom"] = [{"secretRef": {"name": ADMINISTRATORS, "optional": True}}]
    return {
        "serviceAccountName": name,
        "restartPolicy": "Never",
        "enableServiceLinks": False,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": 65532,
            "runAsGroup": 65532,
            "fsGroup": 65532,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [container],
        "volumes": [
            {"name": "catalogue", "configMap": {"name": CATALOGUE}},
            {"name": "vault-token", "projected": {"sources": [{"serviceAccountToken": audience}]}},
        ],
    }
