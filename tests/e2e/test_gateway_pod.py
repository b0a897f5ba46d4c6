"""What makes pods of the gateway: the kustomize files as kubectl renders them, and the image."""

from __future__ import annotations

import configparser
import json
import re

import pytest

from tests.e2e.conftest import PROJECT
from tests.e2e.test_pod import Object, pod, rendered
from vaultkit.settings import variable

FILES = PROJECT / "kubernetes/gateway"
ROOM = PROJECT / "gateway"
NAME = "secrets-gateway"
API, METRICS = 8280, 8281


@pytest.fixture(scope="module")
def all_objects() -> list[Object]:
    return rendered(str(FILES))


@pytest.fixture(scope="module")
def objects(all_objects: list[Object]) -> dict[str, Object]:
    """By kind; of the Services and ConfigMaps those that are called as the gateway is."""
    return {
        each["kind"]: each for each in all_objects if re.fullmatch(rf"{NAME}(-\w{{10}})?", each["metadata"]["name"])
    }


def container(objects: dict[str, Object]) -> Object:
    [only] = pod(objects)["containers"]
    found: Object = only
    return found


@pytest.mark.tools("kubectl")
class TestManifests:
    def test_everything_is_there(self, objects: dict[str, Object]) -> None:
        """In one namespace, and no Secret: the callers' own JWTs reach Vault."""
        kinds = {
            "ConfigMap",
            "Deployment",
            "HorizontalPodAutoscaler",
            "NetworkPolicy",
            "PodDisruptionBudget",
            "Service",
        }
        assert set(objects) == kinds | {"ServiceAccount", "ServiceMonitor"}
        assert {each["metadata"]["namespace"] for each in objects.values()} == {NAME}
        data = objects["ConfigMap"]["data"]
        assert data["GATEWAY_ACT_AS"] == "caller"
        assert not re.search("secret_id|password|token|private", json.dumps(data), re.IGNORECASE)

    @pytest.mark.skipif(not (ROOM / "gateway.ini").exists(), reason="gateway.ini is not there yet")
    def test_settings_are_settings(self, objects: dict[str, Object]) -> None:
        """Each variable is one of config.ini or gateway.ini."""
        parser = configparser.RawConfigParser()
        parser.read([PROJECT / "config.ini", ROOM / "gateway.ini"], encoding="utf-8")
        known = {variable(section, key) for section in parser.sections() for key in parser[section]}
        assert set(objects["ConfigMap"]["data"]) <= known

    @pytest.mark.skipif(not (ROOM / "roles.ini").exists(), reason="roles.ini is not there yet")
    def test_roles_are_those_of_the_room(self) -> None:
        """kustomize takes no file from outside its folder: on failure, copy it, or say here what differs on purpose."""
        assert (FILES / "roles.ini").read_text(encoding="utf-8") == (ROOM / "roles.ini").read_text(encoding="utf-8")

    def test_names_line_up(self, objects: dict[str, Object], all_objects: list[Object]) -> None:
        """What one object says of another is there."""
        labels = objects["Deployment"]["spec"]["template"]["metadata"]["labels"]
        for kind in ("Deployment", "PodDisruptionBudget"):
            assert objects[kind]["spec"]["selector"] == {"matchLabels": labels}
        assert objects["NetworkPolicy"]["spec"]["podSelector"] == {"matchLabels": labels}
        assert objects["HorizontalPodAutoscaler"]["spec"]["scaleTargetRef"]["name"] == NAME
        assert pod(objects)["serviceAccountName"] == objects["ServiceAccount"]["metadata"]["name"]
        maps = {each["metadata"]["name"]: each for each in all_objects if each["kind"] == "ConfigMap"}
        [source] = container(objects)["envFrom"]
        assert source["configMapRef"]["name"] in maps
        [volume] = pod(objects)["volumes"]
        files = maps[volume["configMap"]["name"]]["data"]
        [mount] = container(objects)["volumeMounts"]
        named = {objects["ConfigMap"]["data"][key] for key in ("GATEWAY_ROLES", "VAULT_CA_FILE")}
        assert named == {f"{mount['mountPath']}/{name}" for name in files}

    def test_ports_line_up(self, objects: dict[str, Object], all_objects: list[Object]) -> None:
        """Callers reach the API alone; the probes and Prometheus the other listener, each by the name of its port."""
        ports = {port["name"]: port["containerPort"] for port in container(objects)["ports"]}
        assert ports == {"api": API, "metrics": METRICS}
        probes = [container(objects)[f"{name}Probe"]["httpGet"] for name in ("startup", "liveness", "readiness")]
        assert [(probe["path"], probe["port"]) for probe in probes] == [
            ("/livez", "metrics"),
            ("/livez", "metrics"),
            ("/readyz", "metrics"),
        ]
        services = {each["metadata"]["name"]: each for each in all_objects if each["kind"] == "Service"}
        targets = {name: [port["targetPort"] for port in each["spec"]["ports"]] for name, each in services.items()}
        assert targets == {NAME: ["api"], f"{NAME}-metrics": ["metrics"]}
        monitor = objects["ServiceMonitor"]["spec"]
        labels = services[f"{NAME}-metrics"]["metadata"]["labels"]
        assert monitor["selector"]["matchLabels"].items() <= labels.items()
        assert not monitor["selector"]["matchLabels"].items() <= services[NAME]["metadata"]["labels"].items()
        assert [endpoint["port"] for endpoint in monitor["endpoints"]] == ["metrics"]

    def test_policy_opens_the_two_ports_apart(self, objects: dict[str, Object]) -> None:
        """And none of them to everybody."""
        ingress = objects["NetworkPolicy"]["spec"]["ingress"]
        assert [[port["port"] for port in rule["ports"]] for rule in ingress] == [["api"], ["metrics"]]
        assert all(rule["from"] for rule in ingress)

    def test_no_service_becomes_a_setting(self, objects: dict[str, Object]) -> None:
        """A Service called gateway would set GATEWAY_PORT in each pod."""
        assert pod(objects)["enableServiceLinks"] is False

    def test_pod_may_do_nothing(self, objects: dict[str, Object]) -> None:
        """No root, no file that can be written, no capability, no token of Kubernetes."""
        spec = pod(objects)["securityContext"]
        assert (spec["runAsNonRoot"], spec["seccompProfile"]) == (True, {"type": "RuntimeDefault"})
        assert container(objects)["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert pod(objects)["automountServiceAccountToken"] is False
        assert {"cpu", "memory"} == set(container(objects)["resources"]["requests"])

    def test_pods_go_one_by_one(self, objects: dict[str, Object]) -> None:
        """The autoscaler says how many there are; what drains has the time that it needs."""
        deployment = objects["Deployment"]["spec"]
        assert "replicas" not in deployment
        assert deployment["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
        assert objects["PodDisruptionBudget"]["spec"]["maxUnavailable"] == 1
        assert objects["HorizontalPodAutoscaler"]["spec"]["minReplicas"] >= 2
        assert pod(objects)["terminationGracePeriodSeconds"] >= 5 + 5


class TestImage:
    def test_image_has_the_gateway_alone(self) -> None:
        """What the Dockerfile copies is what the build is given; no secret_id is."""
        text = (ROOM / "Dockerfile").read_text(encoding="utf-8")
        copied = {name for line in re.findall(r"^COPY ([^-].*) \S+$", text, re.MULTILINE) for name in line.split()}
        given = (ROOM / "Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
        taken = {line[1:] for line in given if line.startswith("!")}
        assert {name for name in copied if name.partition("/")[0] not in taken} == set()
        assert taken <= {part for name in copied for part in (name, name.partition("/")[0])}
        assert given.index("!gateway") < given.index("gateway/secrets")
