"""Vault's side of the catalogue on a real server: what apply.sh makes, and what each role may then do, and may not."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import hvac
import pytest

from catalogue.entries import READER, Catalogue, Dynamic, Place, Stored
from catalogue.vault_side import issuing_paths, reading_paths
from tests.backends import Backend
from tests.catalogue_server import applied, apply
from tests.e2e.conftest import PROJECT
from tests.token_review import Signer, TokenReviews


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("catalogue")


@pytest.fixture(scope="module")
def catalogue(backend: Backend, folder: Path) -> Iterator[Catalogue]:
    with applied(backend, folder) as found:
        yield found


@pytest.fixture(scope="module")
def signer(backend: Backend, catalogue: Catalogue) -> Iterator[Signer]:
    """Of tokens that a stand-in for Kubernetes takes for good, in both environments."""
    with TokenReviews().running() as reviews:
        server = {"kubernetes_host": reviews.url, "kubernetes_ca_cert": reviews.ca, "token_reviewer_jwt": "x.y.z"}
        for environment in catalogue.environments:
            backend.root.write_data(f"auth/{environment.auth}/config", data={**server, "disable_local_ca_jwt": True})
        yield Signer()


def token(signer: Signer, namespace: str, name: str = READER, audience: str = "vault") -> str:
    account = {"namespace": namespace, "serviceaccount": {"name": name, "uid": f"uid-of-{name}"}}
    subject = f"system:serviceaccount:{namespace}:{name}"
    return signer.sign({"iss": "kubernetes", "sub": subject, "aud": [audience], "kubernetes.io": account})


def log_in(backend: Backend, place: Place, role: str, jwt: str) -> hvac.Client:
    api = hvac.Client(url=backend.url)
    api.auth.kubernetes.login(role=role, jwt=jwt, mount_point=place.environment.auth)
    return api


def paths_of(catalogue: Catalogue, place: Place, role: str) -> set[str]:
    return set(reading_paths(catalogue, place) if role == place.name else issuing_paths(catalogue, place))


def test_apply_converges(backend: Backend, catalogue: Catalogue, folder: Path, root: hvac.Client) -> None:
    """Again: what the rotation noted stays, and so does the secret. What fails is told of, and the rest is done."""
    kv, path = catalogue.vault.kv, "prod/llm/openai"
    root.secrets.kv.v2.create_or_update_secret(path, {"api_key": "first"}, cas=0, mount_point=kv)
    noted = {"rotated_at": "2026-01-01T00:00:00Z"}
    note(root, f"{kv}/metadata/{path}", noted)
    wrong = folder / "vault/prod" / catalogue.vault.database / "static-roles/aaa.json"
    wrong.write_text('{"db_name": "nowhere", "username": "x", "rotation_period": 60}')
    done = apply(backend, folder, "prod")
    wrong.unlink()
    assert done.returncode == 1
    assert f"✗ {catalogue.vault.database}/static-roles/aaa" in done.stderr
    assert f"✓ {catalogue.vault.pki}/roles/user-prod-web-tls" in done.stdout
    assert root.read(f"{kv}/data/{path}")["data"]["data"] == {"api_key": "first"}
    about = root.read(f"{kv}/metadata/{path}")["data"]
    assert about["custom_metadata"] == {**noted, "owner": "team-llm", "rotate_every": "2160h", "provider": "openai"}
    assert about["cas_required"] is True


def note(root: hvac.Client, path: str, about: dict[str, str]) -> None:
    headers = {"Content-Type": "application/merge-patch+json"}
    root.adapter.request("patch", f"/v1/{path}", headers=headers, json={"custom_metadata": about})


def test_each_role_may_its_own_and_nothing_else(backend: Backend, catalogue: Catalogue, root: hvac.Client) -> None:
    """By the server's own word, for every path of the catalogue: of each service, in each environment."""
    roles = [(place, place.name) for place in catalogue.places]
    roles += [(place, place.issuing) for place in catalogue.places if place.issued]
    everything = sorted({path for place, role in roles for path in paths_of(catalogue, place, role)})
    for place, role in roles:
        made = root.auth.token.create(policies=[role], no_default_policy=True, ttl="1m")["auth"]["client_token"]
        may = root.write_data("sys/capabilities", data={"token": made, "paths": everything})["data"]
        assert {path for path in everything if may[path] != ["deny"]} == paths_of(catalogue, place, role), role


class TestLogin:
    def test_reader_gets_in_and_reads(
        self, backend: Backend, catalogue: Catalogue, signer: Signer, root: hvac.Client
    ) -> None:
        """Each in its own namespace; what External Secrets does at each interval."""
        for place in catalogue.places:
            api = log_in(backend, place, place.name, token(signer, place.namespace))
            for entry in place.stored:
                path = f"{catalogue.vault.kv}/data/{place.key_of(entry)}"
                values = dict.fromkeys(entry.keys.values(), place.name)
                root.write_data(path, data={"data": values, "options": {"cas": version(root, catalogue, place, entry)}})
                assert api.read(path)["data"]["data"] == values

    @pytest.mark.parametrize(
        ("namespace", "name", "audience"),
        [
            ("llm-dev", READER, "vault"),
            ("user", READER, "vault"),
            ("llm", "default", "vault"),
            ("llm", READER, "other"),
        ],
    )
    def test_nobody_else_does(
        self, backend: Backend, catalogue: Catalogue, signer: Signer, namespace: str, name: str, audience: str
    ) -> None:
        """Of another environment, another service, another account; a token that was meant for somebody else."""
        place = next(each for each in catalogue.places if each.name == "llm-prod")
        with pytest.raises(hvac.exceptions.Forbidden):
            log_in(backend, place, place.name, token(signer, namespace, name, audience))

    def test_token_outlives_the_lease(self, backend: Backend, catalogue: Catalogue, signer: Signer) -> None:
        """Else the database's user is gone with it, and External Secrets knows nothing of that."""
        place = next(each for each in catalogue.places if each.name == "user-prod")
        api = log_in(backend, place, place.issuing, token(signer, place.namespace))
        entry = next(each for each in place.issued if isinstance(each, Dynamic))
        lease = api.read(catalogue.issuing_path(place, entry))["lease_duration"]
        found = backend.root.auth.token.lookup(api.token)["data"]
        assert found["ttl"] > lease == entry.lease

    def test_certificate_is_for_its_name_alone(self, backend: Backend, catalogue: Catalogue, signer: Signer) -> None:
        """As the generator asks for it."""
        place = next(each for each in catalogue.places if each.name == "user-prod")
        api = log_in(backend, place, place.issuing, token(signer, place.namespace))
        path = f"{catalogue.vault.pki}/issue/user-prod-web-tls"
        made = api.write_data(path, data={"common_name": "user.user.svc", "ttl": "72h"})["data"]
        assert made["private_key"].startswith("-----BEGIN EC PRIVATE KEY")
        with pytest.raises(hvac.exceptions.InvalidRequest):
            api.write_data(path, data={"common_name": "user.user-dev.svc"})


def break_glass(backend: Backend, catalogue: Catalogue, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [PROJECT / "scripts/break-glass.sh", "--from-catalogue", *arguments],
        env={**os.environ, "CATALOGUE": catalogue.file, "VAULT_URL": backend.url, "VAULT_TOKEN": backend.root_token},
        capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip


def test_service_is_locked_out_by_its_name(backend: Backend, catalogue: Catalogue, signer: Signer) -> None:
    """What it has let in ends, and it gets in no more; nobody else notices. Then it is lifted."""
    places = {each.name: each for each in catalogue.places}
    theirs, others = (log_in(backend, each, each.name, token(signer, each.namespace))
                      for each in (places["llm-prod"], places["user-prod"]))  # fmt: skip
    done = break_glass(backend, catalogue, "llm-prod", "--go")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "catalogue-kv/prod/llm/openai is to be replaced where it comes from" in done.stdout
    root = backend.root
    with pytest.raises(hvac.exceptions.Forbidden):
        root.auth.token.lookup(theirs.token)
    assert root.auth.token.lookup(others.token)
    assert break_glass(backend, catalogue, "llm-prod", "--lift").returncode == 0
    assert log_in(backend, places["llm-prod"], "llm-prod", token(signer, "llm"))


def test_unknown_service_locks_out_nobody(backend: Backend, catalogue: Catalogue) -> None:
    """A name that is mistyped must not look like success."""
    assert break_glass(backend, catalogue, "lllm", "--go").returncode == 2


def version(root: hvac.Client, catalogue: Catalogue, place: Place, entry: Stored) -> int:
    """The one to check and set."""
    found: int = root.read(f"{catalogue.vault.kv}/metadata/{place.key_of(entry)}")["data"]["current_version"]
    return found
