"""What makes a pod of the application: the kustomize files as kubectl renders them, and the image."""

from __future__ import annotations

import configparser
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from config_loader import VaultConfig
from tests.e2e.conftest import PROJECT, Run
from vaultkit.settings import variable

FILES = PROJECT / "kubernetes/application"
SETUP = (PROJECT / "setup/kubernetes").read_text(encoding="utf-8")
NAME = "my-vault-app"
Object = dict[str, Any]


def rendered(folder: str) -> list[Object]:
    """The objects of a folder, without asking any cluster: kubectl reads YAML, and writes JSON."""
    yaml = kubectl("kustomize", str(FILES / folder))
    text = kubectl("patch", "--local", "--filename=-", "--type=merge", "--patch={}", "--output=json", given=yaml)
    objects, decoder = [], json.JSONDecoder()
    while text := text.lstrip():
        found, end = decoder.raw_decode(text)
        objects.append(found)
        text = text[end:]
    return objects


def kubectl(*arguments: str, given: str = "") -> str:
    done = subprocess.run(["kubectl", *arguments], input=given, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module", params=["dev", "prod"])
def objects(request: pytest.FixtureRequest) -> dict[str, Object]:
    """Those of an overlay, by kind; of the ConfigMaps the one with the settings."""
    found = rendered(request.param)
    return {each["kind"]: each for each in found if each["metadata"]["name"] != "vault-ca"}


def pod(objects: dict[str, Object]) -> Object:
    spec: Object = objects["Deployment"]["spec"]["template"]["spec"]
    return spec


def containers(objects: dict[str, Object]) -> list[Object]:
    spec = pod(objects)
    return [*spec["initContainers"], *spec["containers"]]


def default_in_setup(name: str) -> str:
    """The value that setup/kubernetes takes where a variable is not set."""
    found: str = re.findall(rf"\$\{{{name}=(.*?)\}}", SETUP)[0]
    return found.replace("$entity", NAME)


@pytest.mark.tools("kubectl")
class TestManifests:
    def test_settings_are_settings(self, objects: dict[str, Object]) -> None:
        """Each variable is one of config.ini, and together they are a configuration that loads."""
        parser = configparser.RawConfigParser()
        parser.read(PROJECT / "config.ini", encoding="utf-8")
        known = {variable(section, key) for section in parser.sections() for key in parser[section]}
        data = objects["ConfigMap"]["data"]
        assert set(data) <= known
        there = {key: value for key, value in data.items() if not key.endswith("_FILE")}
        config = VaultConfig.load(environ={**there, "KUBERNETES_AUTH_TOKEN_FILE": str(PROJECT / "LICENSE")})
        assert config.vault.auth_method == "kubernetes"

    def test_no_secret_in_a_config_map(self, objects: dict[str, Object]) -> None:
        """Nor anywhere else: the only credentials are the token that the kubelet makes."""
        assert not re.search("secret_id|password|private|jwt", json.dumps(objects["ConfigMap"]["data"]), re.IGNORECASE)
        assert "Secret" not in objects

    def test_token_is_for_vault_alone(self, objects: dict[str, Object]) -> None:
        """The audience, the account and the role are those that setup/kubernetes prepares; the file is the one read."""
        data = objects["ConfigMap"]["data"]
        token = token_of(pod(objects))
        assert token["audience"] == default_in_setup("K8S_AUDIENCE")
        assert pod(objects)["serviceAccountName"] == default_in_setup("K8S_SERVICE_ACCOUNT")
        assert data["KUBERNETES_AUTH_ROLE"] == NAME
        for container in containers(objects):
            mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
            assert f"{mounts['vault-token']}/{token['path']}" == data["KUBERNETES_AUTH_TOKEN_FILE"]
        assert pod(objects)["automountServiceAccountToken"] is False

    def test_names_line_up(self, objects: dict[str, Object]) -> None:
        """What one object says of another is there."""
        labels = objects["Deployment"]["spec"]["template"]["metadata"]["labels"]
        assert {"matchLabels": labels} == objects["Deployment"]["spec"]["selector"]
        assert objects["PodDisruptionBudget"]["spec"]["selector"] == {"matchLabels": labels}
        assert objects["NetworkPolicy"]["spec"]["podSelector"] == {"matchLabels": labels}
        assert pod(objects)["serviceAccountName"] == objects["ServiceAccount"]["metadata"]["name"]
        used = {source["configMapRef"]["name"] for each in containers(objects) for source in each["envFrom"]}
        assert used == {objects["ConfigMap"]["metadata"]["name"]}
        assert len({each["metadata"]["namespace"] for each in objects.values()}) == 1

    def test_no_service_becomes_a_setting(self, objects: dict[str, Object]) -> None:
        """A Service called gateway would set GATEWAY_PORT in each pod."""
        assert pod(objects)["enableServiceLinks"] is False

    def test_pod_may_do_nothing(self, objects: dict[str, Object]) -> None:
        """No root, no file that can be written, no capability; also while it starts."""
        spec = pod(objects)["securityContext"]
        assert (spec["runAsNonRoot"], spec["seccompProfile"]) == (True, {"type": "RuntimeDefault"})
        for container in containers(objects):
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }

    def test_pod_is_ready_with_its_secrets(self, objects: dict[str, Object]) -> None:
        """It has read each before it counts; and no probe restarts it because Vault is away."""
        assert pod(objects)["initContainers"][0]["args"] == ["--once"]
        assert [each for each in containers(objects) if "livenessProbe" in each] == []
        assert objects["Deployment"]["spec"]["strategy"]["rollingUpdate"]["maxUnavailable"] == 0


@pytest.mark.tools("kubectl")
def test_reviewer_may_review_and_no_more() -> None:
    """One binding of one account, and the Secret that Kubernetes fills."""
    objects = {each["kind"]: each for each in rendered("reviewer")}
    binding, account, secret = (objects[kind] for kind in ("ClusterRoleBinding", "ServiceAccount", "Secret"))
    assert binding["roleRef"]["name"] == "system:auth-delegator"
    subject = {"kind": "ServiceAccount", **{key: account["metadata"][key] for key in ("name", "namespace")}}
    assert binding["subjects"] == [subject]
    assert secret["metadata"]["annotations"] == {"kubernetes.io/service-account.name": subject["name"]}
    assert "data" not in secret


def token_of(spec: Object) -> Object:
    volume = next(each for each in spec["volumes"] if each["name"] == "vault-token")
    token: Object = volume["projected"]["sources"][0]["serviceAccountToken"]
    return token


class TestImage:
    def test_image_has_the_application_alone(self) -> None:
        """What the Dockerfile copies is what the build is given, and is there."""
        text = (PROJECT / "Dockerfile").read_text(encoding="utf-8")
        copied = {name for line in re.findall(r"^COPY ([^-].*) \S+$", text, re.MULTILINE) for name in line.split()}
        given = (PROJECT / ".dockerignore").read_text(encoding="utf-8")
        assert copied == set(re.findall(r"^!(.*)$", given, re.MULTILINE))
        assert [name for name in copied if not (PROJECT / name).exists()] == []

    def test_application_imports_what_is_copied(self, tmp_path: Path, start: Run) -> None:
        """It starts beside nothing else."""
        for name in ("config.ini", "config_loader.py", "vault_client.py", "vault_app.py"):
            shutil.copy(PROJECT / name, tmp_path)
        for name in ("vaultkit", "listeners", "doctor"):
            shutil.copytree(PROJECT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
        program = start(sys.executable, "-B", tmp_path / "vault_app.py", "--version")
        assert (program.wait(), program.err) == (0, "")
