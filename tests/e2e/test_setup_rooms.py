"""setup/kubernetes, setup/jwt and setup/cert on the real server: other ways to log in, to the same secrets."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hvac
import pytest
import trustme
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256

from config_loader import VaultConfig
from devserver.setup import SCRIPT, without_vault
from tests.backends import Backend
from tests.e2e.conftest import PROJECT
from tests.servers import ScriptedServer, respond
from vault_client import VaultClient
from vaultkit.errors import LoginRefused, LoginUnavailable

ENTITY = "my-vault-app"
ROOMS = ("kubernetes", "jwt", "cert")
SUBJECT, OTHER = "system:serviceaccount:shop:web", "system:serviceaccount:shop:other"
REVIEWER = "the-token-of-the-reviewer"
Done = subprocess.CompletedProcess[str]

# What setup-vault.sh has beside a room, as far as a room needs it to see what is wrong.
BESIDE_A_ROOM = """
entity=my-vault-app TOKEN_TYPE=service TOKEN_PERIOD=1m TOKEN_TTL=0 TOKEN_MAX_TTL=0
die() { echo "$*" >&2; exit 1; }
python() { python3 "$@"; }
. "$here/setup/$0"
"""


def setup(backend: Backend, *rooms: str, **variables: str) -> Done:
    environment = {**without_vault(os.environ), **backend.administration, **variables}
    return subprocess.run(
        ["bash", str(SCRIPT), *rooms], env=environment, capture_output=True, text=True, start_new_session=True,
        check=False,
    )  # fmt: skip


def reads_everything(backend: Backend, **environ: str) -> bool:
    """Logs in in the way that these variables say, and reads a secret of each kind; raises if it cannot."""
    environ = {"VAULT_URL": backend.url, **environ}
    with VaultClient(VaultConfig.load(environ=environ)) as client:
        client.get_kv_secret("database")
        client.get_database_dynamic_secret("db-demo-dynamic")
        client.get_database_static_secret("db-demo-static")
    return True


class Issuer:
    """A key of the test's own, and the JWTs that are signed with it."""

    def __init__(self, folder: Path) -> None:
        self._key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self.public_key_file = folder / "issuer.pem"
        encoding, format = serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        self.public_key_file.write_bytes(self._key.public_key().public_bytes(encoding, format))

    def jwt(self, subject: str = SUBJECT, audience: str = "vault") -> str:
        namespace, _, account = subject.removeprefix("system:serviceaccount:").partition(":")
        about = {"namespace": namespace, "serviceaccount": {"name": account, "uid": "7f1c"}}
        now = round(time.time())
        claims = {
            "iss": "test",
            "sub": subject,
            "aud": [audience],
            "iat": now - 60,
            "exp": now + 600,
            "kubernetes.io": about,
        }
        signed = f"{part({'alg': 'RS256', 'typ': 'JWT'})}.{part(claims)}"
        return f"{signed}.{text(self._key.sign(signed.encode(), padding.PKCS1v15(), SHA256()))}"


def part(content: dict[str, Any]) -> str:
    return text(json.dumps(content).encode())


def text(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def review(subject: str) -> dict[str, Any]:
    """What the API server says of a token that is good."""
    return {
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenReview",
        "status": {"authenticated": True, "user": {"username": subject, "uid": "7f1c"}, "audiences": ["vault"]},
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("rooms")


@pytest.fixture(scope="module")
def issuer(folder: Path) -> Issuer:
    return Issuer(folder)


@pytest.fixture(scope="module")
def variables(folder: Path, issuer: Issuer, api_server: ScriptedServer) -> dict[str, str]:
    """What the three rooms are told. The CA is one; the API server, which speaks plain HTTP, is not asked for it."""
    reviewer, ca = folder / "reviewer", folder / "ca.pem"
    reviewer.write_text(f"{REVIEWER}\n")
    trustme.CA().cert_pem.write_to_path(str(ca))
    return {
        "K8S_HOST": api_server.url,
        "K8S_REVIEWER_FILE": str(reviewer),
        "K8S_CA_FILE": str(ca),
        "K8S_NAMESPACE": "shop",
        "K8S_SERVICE_ACCOUNT": "web",
        "JWT_PUBLIC_KEY_FILE": str(issuer.public_key_file),
        "JWT_SUBJECT": SUBJECT,
        "CERT_CA_FILE": str(ca),
    }


@pytest.fixture(scope="module")
def api_server() -> Iterator[ScriptedServer]:
    """A stand-in for Kubernetes, which takes any token for that of shop/web; a real one is in test_kubernetes.py."""
    with ScriptedServer(respond(200, review(SUBJECT))).running() as server:
        yield server


@pytest.fixture(scope="module")
def failed(backend: Backend, variables: dict[str, str]) -> Done:
    """A first run, for another account, which ends in the second room: somebody has the name that is to be ours."""
    backend.root.sys.enable_auth_method("jwt")
    accessor = backend.root.sys.list_auth_methods()["data"]["jwt/"]["accessor"]
    identity = backend.root.secrets.identity
    somebody = identity.create_or_update_entity("somebody")["data"]["id"]
    ours = identity.read_entity_by_name(ENTITY)["data"]["id"]
    for name, holder in ((OTHER, somebody), ("before", ours)):
        identity.create_or_update_entity_alias(name, canonical_id=holder, mount_accessor=accessor)
    return setup(backend, *ROOMS, **{**variables, "K8S_SERVICE_ACCOUNT": "before", "JWT_SUBJECT": OTHER})


@pytest.fixture(scope="module")
def rooms(backend: Backend, failed: Done, variables: dict[str, str], issuer: Issuer) -> Iterator[Done]:
    """All three, prepared by a second run. In between somebody logs in, of whom the server then makes an entity."""
    early = {"role_type": "jwt", "user_claim": "sub", "bound_audiences": "vault"}
    backend.root.write_data("auth/jwt/role/early", data=early)
    backend.root.auth.jwt.jwt_login(role="early", jwt=issuer.jwt(), use_token=False)
    yield setup(backend, *ROOMS, **variables)
    for mount in ROOMS:
        backend.root.sys.disable_auth_method(mount)
    backend.root.secrets.identity.delete_entity_by_name("somebody")


def by_jwt(issuer: Issuer, subject: str = SUBJECT) -> dict[str, str]:
    return {"VAULT_AUTH_METHOD": "jwt", "JWT_AUTH_ROLE": ENTITY, "JWT_AUTH_JWT": issuer.jwt(subject)}


def by_kubernetes(issuer: Issuer, folder: Path) -> dict[str, str]:
    token = folder / "token"
    token.write_text(issuer.jwt())
    return {
        "VAULT_AUTH_METHOD": "kubernetes",
        "KUBERNETES_AUTH_ROLE": ENTITY,
        "KUBERNETES_AUTH_TOKEN_FILE": str(token),
    }


def names(root: hvac.Client) -> dict[str, str]:
    """The names by which the entity is known, by auth method."""
    entity = root.secrets.identity.read_entity_by_name(ENTITY)["data"]
    return {alias["mount_path"]: alias["name"] for alias in entity["aliases"]}


def test_alias_of_somebody_is_kept(failed: Done) -> None:
    """The run says whose it is, and ends there; it tells no token."""
    assert failed.returncode == 1
    assert f"{OTHER} of auth/jwt is an alias of the entity somebody" in failed.stderr
    assert REVIEWER not in failed.stderr


def test_run_that_failed_is_completed(root: hvac.Client, rooms: Done) -> None:
    """The entity has one name for each method, which follows what is set, whoever has logged in too early."""
    assert rooms.returncode == 0, rooms.stderr
    assert {mount: name for mount, name in names(root).items() if mount != "auth/approle/"} == {
        "auth/kubernetes/": "shop/web",
        "auth/jwt/": SUBJECT,
        "auth/cert/": ENTITY,
    }


def test_service_account_reads_everything(
    backend: Backend, root: hvac.Client, rooms: Done, issuer: Issuer, folder: Path
) -> None:
    """By its name, so that an account that is made anew is the same entity; a token must be meant for Vault."""
    assert reads_everything(backend, **by_kubernetes(issuer, folder))
    role = root.read(f"auth/kubernetes/role/{ENTITY}")["data"]
    assert (role["audience"], role["alias_name_source"]) == ("vault", "serviceaccount_name")
    assert root.read("auth/kubernetes/config")["data"]["token_reviewer_jwt_set"] is True


def test_unknown_account_is_no_end(
    backend: Backend, rooms: Done, issuer: Issuer, folder: Path, api_server: ScriptedServer
) -> None:
    """Where the API server knows nobody, the refusal looks the same as an outage of it (T7)."""
    knows, api_server.script = api_server.script, [respond(200, {"status": {"authenticated": False}})]
    with pytest.raises(LoginUnavailable, match="cannot ask the API server"):
        reads_everything(backend, **by_kubernetes(issuer, folder))
    api_server.script = knows


def test_jwt_reads_everything(backend: Backend, rooms: Done, issuer: Issuer) -> None:
    """Whoever has another subject is nobody."""
    assert reads_everything(backend, **by_jwt(issuer))
    with pytest.raises(LoginRefused, match="subject"):
        reads_everything(backend, **by_jwt(issuer, OTHER))


def test_certificate_is_bound_to_its_name(root: hvac.Client, rooms: Done) -> None:
    """By its configuration alone: this server speaks no TLS."""
    role = root.read(f"auth/cert/certs/{ENTITY}")["data"]
    assert (role["allowed_common_names"], role["token_policies"]) == ([ENTITY], [ENTITY])


@pytest.mark.parametrize(
    ("room", "variables", "said"),
    [
        ("kubernetes", {"K8S_AUDIENCE": ""}, "K8S_AUDIENCE is empty"),
        ("kubernetes", {"K8S_HOST": ""}, "K8S_HOST is empty"),
        ("jwt", {}, "JWT_SUBJECT is not set"),
        ("jwt", {"JWT_SUBJECT": "me"}, "expected one of them, and found none or several"),
        ("jwt", {"JWT_SUBJECT": "me", "JWT_JWKS_URL": "x", "JWT_DISCOVERY_URL": "y"}, "found none or several"),
        ("cert", {}, "CERT_CA_FILE is not set"),
    ],
)
def test_wrong_setting_is_named(room: str, variables: dict[str, str], said: str) -> None:
    """Before the room asks anything of the server, which is not there."""
    environment = {**without_vault(os.environ), "here": str(PROJECT), **variables}
    done = subprocess.run(
        ["bash", "-euc", BESIDE_A_ROOM, room], env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, said in done.stderr) == (1, True)
