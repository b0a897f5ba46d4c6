"""Drift and overdue secrets, with the roles that the catalogue gives to who looks for them, on the real server.

The cluster is a stand-in: what it has is what a test puts into it. A real one: `make kubernetes-test`.
"""

from __future__ import annotations

import base64
import json
import ssl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, timezone
from pathlib import Path

import hvac
import pytest
import trustme

from catalogue.cluster import ClusterError, KubernetesCluster, Secret, in_pod, secret_of
from catalogue.drift import Drift, Report, report
from catalogue.entries import Catalogue, Place, Stored
from catalogue.kv import Ask, Kv
from catalogue.overdue import dues, moment, samples
from catalogue.rendered import exposed
from catalogue.rotation import Patience, Rotator
from config_loader import VaultConfig
from tests.backends import Backend
from tests.catalogue_server import catalogue_in, write_by_path
from tests.servers import ScriptedServer, respond
from vault_client import VaultClient
from vaultkit.errors import PermissionDenied

ENVIRONMENT = "prod"
VALUE = "value-of-a-secret"


@dataclass
class FakeCluster:
    """Namespace → name → Secret."""

    there: dict[str, dict[str, Secret]] = field(default_factory=dict)

    def secrets(self, namespace: str) -> list[Secret]:
        return list(self.there.get(namespace, {}).values())

    def users_of(self, namespace: str, key: str) -> list[str]:
        return []

    def change(self, namespace: str, name: str, **values: object) -> None:
        self.there[namespace][name] = replace(self.there[namespace][name], **values)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def catalogue(backend: Backend, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Catalogue]:
    found = catalogue_in(tmp_path_factory.mktemp("drift"))
    backend.root.sys.enable_secrets_engine("kv-v2", path=found.vault.kv)
    for environment in found.environments:
        backend.root.sys.enable_auth_method("kubernetes", path=environment.auth)
        write_by_path(backend, found, environment.name, but=(found.vault.database, found.vault.pki))
    yield found
    backend.root.sys.disable_secrets_engine(found.vault.kv)
    for environment in found.environments:
        backend.root.sys.disable_auth_method(environment.auth)


def ask_as(backend: Backend, policy: str) -> Ask:
    """With nothing but this policy."""
    token = backend.root.auth.token.create(policies=[policy], no_default_policy=True, ttl="5m")["auth"]["client_token"]
    environ = {"VAULT_URL": backend.url, "VAULT_AUTH_METHOD": "token", "TOKEN_AUTH_TOKEN": token}
    return VaultClient(VaultConfig.load(environ=environ)).ask


@pytest.fixture
def ask(backend: Backend, catalogue: Catalogue) -> Ask:
    return ask_as(backend, f"secrets-drift-{ENVIRONMENT}")


@pytest.fixture
def cluster(backend: Backend, catalogue: Catalogue) -> FakeCluster:
    """With every Secret as it is to be."""
    made = FakeCluster()
    for place in catalogue.places_in(ENVIRONMENT):
        secrets = made.there.setdefault(place.namespace, {})
        for entry in place.entries:
            data, version = {}, 0
            if isinstance(entry, Stored):
                version = put(backend.root, catalogue, place, entry)
                data = dict.fromkeys(entry.keys, f"{VALUE} {version}".encode())
            secrets[entry.name] = Secret(place.namespace, entry.name, version, owned=True, ours=True, data=data)
    return made


def put(root: hvac.Client, catalogue: Catalogue, place: Place, entry: Stored) -> int:
    """A new version. Returns its number, which is in the values."""
    path = place.key_of(entry)
    about = root.read(f"{catalogue.vault.kv}/metadata/{path}")["data"]
    version = int(about["current_version"])
    values = dict.fromkeys(entry.keys.values(), f"{VALUE} {version + 1}")
    body = {"data": values, "options": {"cas": version}}
    root.write_data(f"{catalogue.vault.kv}/data/{path}", data=body)
    return version + 1


def llm(catalogue: Catalogue) -> tuple[Place, Stored]:
    place = next(each for each in catalogue.places_in(ENVIRONMENT) if each.service.name == "llm")
    return place, place.stored[0]


def found(catalogue: Catalogue, ask: Ask, cluster: FakeCluster) -> list[Drift]:
    drifts = report(catalogue, ENVIRONMENT, ask, cluster).drifts
    assert VALUE not in "".join(map(str, drifts))
    return drifts


class TestDrift:
    def test_all_is_well(self, catalogue: Catalogue, ask: Ask, cluster: FakeCluster) -> None:
        """With no more than the policy of who compares."""
        assert found(catalogue, ask, cluster) == []

    def test_hand_edited_secret(self, catalogue: Catalogue, ask: Ask, cluster: FakeCluster) -> None:
        """The keys that differ are named, also one that is there in addition."""
        [secret] = cluster.there["llm"].values()
        cluster.change("llm", secret.name, data={"api_key": b"other", "more": b"1"})
        text = f"version {secret.version}, Vault has {secret.version}; api_key, more differ"
        assert found(catalogue, ask, cluster) == [Drift("llm", "openai-api-key", "edited", text)]

    def test_stale_version(self, backend: Backend, catalogue: Catalogue, ask: Ask, cluster: FakeCluster) -> None:
        number = put(backend.root, catalogue, *llm(catalogue))
        text = f"version {number - 1}, Vault has {number}; api_key differ"
        assert found(catalogue, ask, cluster) == [Drift("llm", "openai-api-key", "stale", text)]

    def test_missing_secret(self, catalogue: Catalogue, ask: Ask, cluster: FakeCluster) -> None:
        del cluster.there["user"]["web-tls"]
        assert found(catalogue, ask, cluster) == [Drift("user", "web-tls", "missing", "there is no such Secret")]

    def test_secret_without_an_owner(self, catalogue: Catalogue, ask: Ask, cluster: FakeCluster) -> None:
        """Either nobody keeps it up to date, or nobody knows what it is for."""
        cluster.change("user", "batch-login", owned=False)
        cluster.there["llm"]["old"] = Secret("llm", "old", 1, owned=True, ours=True, data={})
        cluster.there["llm"]["theirs"] = Secret("llm", "theirs", 0, owned=False, ours=False, data={})
        assert [(each.name, each.kind) for each in found(catalogue, ask, cluster)] == [
            ("old", "unowned"),
            ("batch-login", "unowned"),
        ]

    def test_orphans_in_vault(self, backend: Backend, catalogue: Catalogue, ask: Ask, cluster: FakeCluster) -> None:
        """A secret, a policy and a role that the catalogue no longer knows; not those of the other environment."""
        root, kv, auth = backend.root, catalogue.vault.kv, "auth/catalogue-prod/role"
        orphans = [f"{kv}/metadata/prod/gone/key", "sys/policies/acl/gone-prod", f"{auth}/gone-prod-issued"]
        root.write_data(orphans[0], data={"custom_metadata": {"owner": "team-gone"}})
        root.write_data(orphans[1], data={"policy": 'path "x" { capabilities = ["read"] }'})
        about = {"bound_service_account_names": ["x"], "bound_service_account_namespaces": ["x"], "audience": "vault"}
        root.write_data(orphans[2], data=about)
        told = {each.name for each in found(catalogue, ask, cluster)}
        for path in orphans:
            root.delete(path)
        assert told == {path.replace("/metadata/", "/") for path in orphans}

    def test_property_that_vault_does_not_have(
        self, backend: Backend, catalogue: Catalogue, ask: Ask, cluster: FakeCluster
    ) -> None:
        """Whoever wrote last has left it out: External Secrets cannot make the Secret."""
        place, entry = llm(catalogue)
        number = cluster.there["llm"][entry.name].version
        body = {"data": {"other": "x"}, "options": {"cas": number}}
        backend.root.write_data(f"{catalogue.vault.kv}/data/{place.key_of(entry)}", data=body)
        [drift] = found(catalogue, ask, cluster)
        assert (drift.kind, drift.text) == ("incomplete", f"version {number + 1} in Vault has no api_key")

    def test_what_cannot_be_read_is_no_match(
        self, backend: Backend, catalogue: Catalogue, cluster: FakeCluster
    ) -> None:
        with pytest.raises(PermissionDenied):
            report(catalogue, ENVIRONMENT, ask_as(backend, "llm-dev"), cluster)


def test_series_for_prometheus(catalogue: Catalogue, ask: Ask, cluster: FakeCluster) -> None:
    """Those that the alerts are about; a certificate's end is read from the Secret."""
    authority = trustme.CA()
    pem = authority.issue_cert("user.user.svc").cert_chain_pems[0].bytes()
    cluster.change("user", "web-tls", data={"tls.crt": pem})
    seen = report(catalogue, ENVIRONMENT, ask, cluster)
    [end] = seen.ends.values()
    text = exposed(Report([Drift("a", "b", "edited", "x")], seen.ends).samples(12.0))
    assert 'secrets_catalogue_drift{namespace="a",name="b",kind="edited"} 1\n' in text
    assert f'end_timestamp_seconds{{namespace="user",name="web-tls"}} {end:.0f}\n' in text
    assert "secrets_catalogue_checked_timestamp_seconds 12\n" in text


class PaperProvider:
    """Makes keys that open nothing."""

    def label(self, values: Mapping[str, str]) -> str:
        return values["username"]

    def next(self, label: str) -> str:
        return f"{label}+"

    def make(self, label: str) -> dict[str, str]:
        return {"username": label, "password": "x"}

    def test(self, values: Mapping[str, str]) -> None:
        pass

    def retire(self, label: str) -> None:
        pass


def test_rotation_needs_no_more_than_its_policy(backend: Backend, catalogue: Catalogue, cluster: FakeCluster) -> None:
    """Twice, for the second finds the journal of the first. What has no provider it may not even read."""
    ask = ask_as(backend, f"secrets-rotation-{ENVIRONMENT}")
    kv, place = Kv(ask, catalogue.vault.kv), next(each for each in catalogue.places if each.name == "user-prod")
    entry = next(each for each in place.stored if each.provider == "postgres")
    for _ in range(2):
        cluster.change(place.namespace, entry.name, version=99)
        Rotator(kv, cluster, PaperProvider(), place, entry, Patience(grace=0.0, wait=0.0)).rotate()
    with pytest.raises(PermissionDenied):
        kv.read(place.key_of(next(each for each in place.stored if not each.provider)))


class TestOverdue:
    def test_late_ones_are_found_in_one_request(
        self, backend: Backend, catalogue: Catalogue, cluster: FakeCluster
    ) -> None:
        """By the policy of who rotates; what was noted counts, and else when it was written."""
        since = backend.audit.position()
        known = Kv(ask_as(backend, f"secrets-rotation-{ENVIRONMENT}"), catalogue.vault.kv).known_below(ENVIRONMENT)
        scans = [json.loads(line) for line in backend.audit.text()[since:].splitlines() if "detailed-metadata" in line]
        assert [each["request"]["operation"] for each in scans if each["type"] == "request"] == ["scan"]
        now = datetime.now(timezone.utc)
        in_fifty_days = dues(known, (now + timedelta(days=50)).timestamp())
        assert {each.path: each.is_late for each in in_fifty_days} == {
            "prod/llm/openai": False, "prod/user/reporting": True, "prod/user/session-signing": True
        }  # fmt: skip
        noted = {**known["prod/llm/openai"], "custom_metadata": {
            **known["prod/llm/openai"]["custom_metadata"], "rotated_at": (now - timedelta(days=91)).isoformat()
        }}  # fmt: skip
        [late] = dues({"prod/llm/openai": noted}, now.timestamp())
        assert late.text == "was to be replaced 1.0 days ago"
        assert 'path="prod/llm/openai",owner="team-llm"} 8640' in exposed(samples([late]))

    @pytest.mark.parametrize(
        ("about", "text"),
        [
            ({"current_version": 1, "custom_metadata": None}, "has no schedule"),
            ({"current_version": 0, "custom_metadata": {"rotate_every": "1h"}}, "was never written"),
        ],
    )
    def test_what_has_no_schedule_is_late(self, about: dict[str, object], text: str) -> None:
        """Nobody would ever replace it."""
        [found] = dues({"prod/x": about}, 1e9)
        assert (found.is_late, found.text) == (True, text)

    @pytest.mark.parametrize("fraction", ["", ".5", ".020027673", ".02767362"])
    def test_times_of_vault_are_read(self, fraction: str) -> None:
        """Nanoseconds, without the zeros at their end."""
        read = moment(f"2026-11-28T12:56:20{fraction}Z")
        assert read is not None
        assert int(read) == 1795870580


OF_KUBERNETES = {
    "metadata": {
        "namespace": "llm",
        "name": "openai-api-key",
        "annotations": {"secrets-catalogue/version": "7"},
        "labels": {"secrets-catalogue/service": "llm"},
        "ownerReferences": [{"kind": "ExternalSecret"}],
    },
    "data": {"api_key": base64.b64encode(VALUE.encode()).decode()},
}


class TestCluster:
    def test_secret_shows_no_value(self) -> None:
        secret = secret_of(OF_KUBERNETES)
        assert secret.data == {"api_key": VALUE.encode()}
        assert (secret.version, secret.owned, secret.ours) == (7, True, True)
        assert VALUE not in repr(secret)

    def test_from_within_a_pod(self, tmp_path: Path) -> None:
        """A stand-in for the API server: its answer is read, and an error tells neither the token nor a body."""
        (tmp_path / "token").write_text("token-of-the-pod\n")
        authority = trustme.CA()
        authority.cert_pem.write_to_path(str(tmp_path / "ca.crt"))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("127.0.0.1").configure_cert(context)
        server = ScriptedServer(respond(200, {"items": [OF_KUBERNETES]}), respond(403, {"message": "token-of-the-pod"}))
        server.speak_tls(context)
        with server.running():
            cluster = KubernetesCluster(in_pod(server.url, tmp_path))
            assert [each.name for each in cluster.secrets("llm")] == ["openai-api-key"]
            with pytest.raises(ClusterError, match="403") as raised:
                cluster.secrets("llm")
        assert "token-of-the-pod" not in str(raised.value)
