"""setup/gateway on the real server: who may what of which tenant, by inline login, by batch token, by AppRole."""

from __future__ import annotations

import base64
import json
import os
import stat
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hvac
import pytest
from hvac.exceptions import Forbidden, InvalidPath, InvalidRequest

from devserver.setup import SCRIPT, without_vault
from tests.backends import Backend
from tests.e2e.conftest import PROJECT
from tests.e2e.test_setup_rooms import BESIDE_A_ROOM
from tests.integration.conftest import eventually

PEOPLE = {"alice": "acme", "bob": "acme", "oscar": "acme", "mallory": "globex"}
MAY = {
    "alice": {"read acme", "write acme"},
    "bob": {"read acme"},
    "oscar": set(),
    "mallory": {"read globex", "write globex"},
}
"""What each of them may, whichever way the JWT reaches the server."""
THINGS = ("read acme", "write acme", "read globex", "write globex")
NAME = "my-vault-app-gateway"
OTHER = f"{NAME}-other"
"""A role and a policy of another application, whose name begins as one of ours would."""
Ask = Callable[[str, str, dict[str, Any] | None], Any]
Done = subprocess.CompletedProcess[str]


class Gateway:
    """What `./setup-vault.sh gateway` makes, and where it puts the secret_ids and passwords."""

    def __init__(self, backend: Backend, secrets: Path) -> None:
        self.backend, self.secrets = backend, secrets

    def prepare(self, **variables: str) -> Done:
        own = {"GATEWAY_SECRETS_DIR": str(self.secrets), "GATEWAY_DEMO": "true"}
        environment = {**without_vault(os.environ), **self.backend.administration, **own, **variables}
        return subprocess.run(
            ["bash", str(SCRIPT), "gateway"], env=environment, capture_output=True, text=True, start_new_session=True,
            check=False,
        )  # fmt: skip

    def remove(self) -> None:
        """The server is as it was."""
        root = self.backend.root
        for tenant in ("acme", "globex", "initech", "other"):
            root.adapter.delete(f"/v1/auth/approle/role/{NAME}-{tenant}")
            for policy in (f"{NAME}-{tenant}", f"gateway-{tenant}-read", f"gateway-{tenant}-write"):
                root.sys.delete_policy(policy)
        for mount in ("tenants", "kv-acme", "kv-globex"):
            root.sys.disable_secrets_engine(mount)
        for method in ("gateway-jwt", "userpass"):
            root.sys.disable_auth_method(method)
        for name in PEOPLE:
            root.secrets.identity.delete_entity_by_name(name)

    def files(self) -> dict[str, str]:
        return {path.name: path.read_text().strip() for path in sorted(self.secrets.iterdir())}

    def anonymous(self) -> hvac.Client:
        return hvac.Client(url=self.backend.url, token="")

    def jwt(self, name: str) -> str:
        client = self.anonymous()
        client.auth.userpass.login(name, self.files()[f"{name}.password"])
        return str(client.read("identity/oidc/token/gateway")["data"]["token"])

    def service(self, tenant: str) -> hvac.Client:
        client = self.anonymous()
        client.auth.approle.login(f"{NAME}-{tenant}", self.files()[tenant])
        return client

    def inline(self, jwt: str, **more: str) -> Ask:
        """Requests that bring the JWT along; the server keeps nothing of the login."""
        parameters = {"role": "gateway", "jwt": jwt}
        headers = {f"X-Vault-Inline-Auth-Parameter-{key}": encoded(key, value) for key, value in parameters.items()}
        headers["X-Vault-Inline-Auth-Path"] = "auth/gateway-jwt/cel/login"
        headers.update(more)
        adapter = self.anonymous().adapter
        return lambda method, path, body: adapter.request(method, f"/v1/{path}", headers=headers, json=body)

    def batch(self, jwt: str, role: str) -> hvac.Client:
        client = self.anonymous()
        client.auth.jwt.jwt_login(role=role, jwt=jwt, path="gateway-jwt")
        return client


def encoded(key: str, value: str) -> str:
    text = f'{{"key":"{key}","value":"{value}"}}'
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def claims_of(jwt: str) -> dict[str, Any]:
    claims: dict[str, Any] = json.loads(base64.urlsafe_b64decode(jwt.split(".")[1] + "=="))
    return claims


def asking(client: hvac.Client) -> Ask:
    return lambda method, path, body: client.adapter.request(method, f"/v1/{path}", json=body)


def may(ask: Ask) -> set[str]:
    """What of all things is not refused; anything but a refusal raises."""
    return {thing for thing in THINGS if succeeds(ask, *thing.split())}


def succeeds(ask: Ask, verb: str, tenant: str) -> bool:
    try:
        if verb == "read":
            ask("get", f"tenants/data/{tenant}/app", None)
        else:
            ask("post", f"tenants/data/{tenant}/written", {"data": {"by": "a test"}})
    except Forbidden:
        return False
    return True


@pytest.fixture(scope="module")
def gateway(backend: Backend, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """Prepared, with another tenant at first; afterwards the server is as it was."""
    made = Gateway(backend, tmp_path_factory.mktemp("gateway") / "secrets")
    yield made
    made.remove()


@dataclass
class Runs:
    """One for two tenants of which one then goes, one for those that the tests are about, and the same again."""

    done: list[Done]
    before_the_last: dict[str, str]
    """The files, as the last but one has left them."""


@pytest.fixture(scope="module")
def runs(gateway: Gateway) -> Runs:
    root = gateway.backend.root
    first = gateway.prepare(GATEWAY_TENANTS="acme,initech")
    gateway.secrets.chmod(0o755)
    (gateway.secrets / "acme").chmod(0o644)
    root.sys.create_or_update_policy(OTHER, 'path "x" { capabilities = ["read"] }')
    root.auth.approle.create_or_update_approle(OTHER, token_policies=[OTHER])
    second = gateway.prepare()
    before = gateway.files()
    return Runs([first, second, gateway.prepare()], before)


@pytest.fixture(scope="module")
def prepared(gateway: Gateway, runs: Runs) -> Gateway:
    for run in runs.done:
        assert run.returncode == 0, run.stderr
    return gateway


def test_setup_tells_no_secret(prepared: Gateway, runs: Runs) -> None:
    """The one line on stdout is the application's; the rest says what was done, without warnings."""
    said = "".join(run.stdout + run.stderr for run in runs.done)
    assert [value for value in prepared.files().values() if value in said] == []
    assert all(run.stdout.startswith("export VAULT_SECRET_ID=") and run.stdout.count("\n") == 1 for run in runs.done)
    assert "WARNING" not in said


def test_secrets_are_for_the_owner_alone(prepared: Gateway) -> None:
    """Also where a file of before could be read by others; and nothing half written is left."""
    found = {path.name: stat.S_IMODE(path.stat().st_mode) for path in prepared.secrets.iterdir()}
    assert found == {name: 0o600 for name in ("acme", "globex", *(f"{name}.password" for name in PEOPLE))}


def test_former_tenant_is_gone(prepared: Gateway, root: hvac.Client) -> None:
    """Its role, its policies, its file; what it stored stays."""
    assert [name for name in root.sys.list_policies()["data"]["policies"] if "initech" in name] == []
    assert root.list("auth/gateway-jwt/role")["data"]["keys"] == [
        "acme-read",
        "acme-write",
        "globex-read",
        "globex-write",
    ]
    with pytest.raises(InvalidPath):
        root.adapter.get(f"/v1/auth/approle/role/{NAME}-initech/role-id")
    assert root.read("tenants/data/initech/app")["data"]["data"]["owner"] == "initech"


def test_role_that_only_is_called_so_stays(prepared: Gateway, root: hvac.Client) -> None:
    """It has not the mark."""
    assert root.auth.approle.read_role(OTHER)["data"]["token_policies"] == [OTHER]


def test_last_run_changed_secret_ids_alone(prepared: Gateway, runs: Runs, root: hvac.Client) -> None:
    """Passwords stay, and so do values and people."""
    after = prepared.files()
    assert {name for name in after if runs.before_the_last.get(name) != after[name]} == {"acme", "globex"}
    assert root.read("tenants/metadata/acme/app")["data"]["current_version"] == 3
    assert root.secrets.identity.read_group_by_name("acme-readers")["data"]["type"] == "internal"


@pytest.mark.parametrize("name", PEOPLE)
def test_inline_authentication_grants_what_the_jwt_says(prepared: Gateway, name: str) -> None:
    """By the CEL role, without a token."""
    jwt = prepared.jwt(name)
    if not MAY[name]:
        with pytest.raises(InvalidRequest):
            prepared.inline(jwt)("get", "tenants/data/acme/app", None)
        return
    assert may(prepared.inline(jwt)) == MAY[name]


@pytest.mark.parametrize("name", PEOPLE)
@pytest.mark.parametrize("role", ["acme-read", "acme-write", "globex-read", "globex-write"])
def test_batch_token_grants_what_the_jwt_says(prepared: Gateway, name: str, role: str) -> None:
    """By the role of a tenant and a right: each is for who has both, and for nobody else."""
    tenant, _, right = role.partition("-")
    jwt = prepared.jwt(name)
    if f"{right} {tenant}" not in MAY[name]:
        with pytest.raises(InvalidRequest):
            prepared.batch(jwt, role)
        return
    client = prepared.batch(jwt, role)
    granted = {f"read {tenant}", f"write {tenant}"} if right == "write" else {f"read {tenant}"}
    assert may(asking(client)) == granted
    assert client.token.startswith("b.")


@pytest.fixture
def short_lived(prepared: Gateway, root: hvac.Client) -> Iterator[None]:
    """JWTs of a second."""
    path = "identity/oidc/role/gateway"
    role = root.read(path)["data"]
    root.write_data(path, data={**role, "ttl": "1s"})
    yield
    root.write_data(path, data=role)


def test_jwt_ends_when_it_says(prepared: Gateway, short_lived: None) -> None:
    """Without a leeway: by default the server would take it for minutes more."""
    jwt = prepared.jwt("alice")
    eventually(lambda: time.time() > claims_of(jwt)["exp"])
    with pytest.raises(InvalidRequest, match="expired"):
        prepared.inline(jwt)("get", "tenants/data/acme/app", None)
    with pytest.raises(InvalidRequest, match="expired"):
        prepared.batch(jwt, "acme-write")


def test_right_does_not_follow_another_jwt(prepared: Gateway, root: hvac.Client) -> None:
    """Of one person, with other groups: each keeps what it says, in whichever order they come."""
    was = prepared.jwt("alice")
    group = root.secrets.identity.read_group_by_name("acme-writers")["data"]
    root.secrets.identity.update_group(group["id"], name="acme-writers", member_entity_ids=[])
    now = prepared.jwt("alice")
    root.secrets.identity.update_group(group["id"], name="acme-writers", member_entity_ids=group["member_entity_ids"])
    token = asking(prepared.batch(now, "acme-read"))
    for _ in range(3):
        assert may(prepared.inline(was)) == {"read acme", "write acme"}
        assert may(asking(prepared.batch(was, "acme-write"))) == {"read acme", "write acme"}
        assert may(prepared.inline(now)) == {"read acme"}
        assert may(token) == {"read acme"}


def test_tenant_that_is_none_gets_nothing(prepared: Gateway, root: hvac.Client) -> None:
    """Whatever groups the JWT names: one of another tenant, and one of its own."""
    identity = root.secrets.identity
    bob = identity.read_entity_by_name("bob")["data"]
    for tenant in ("globex", "umbrella"):
        identity.create_or_update_entity_by_name("bob", metadata={"tenant": tenant})
        jwt = prepared.jwt("bob")
        with pytest.raises(InvalidRequest):
            prepared.inline(jwt)("get", "tenants/data/acme/app", None)
        with pytest.raises(InvalidRequest):
            prepared.batch(jwt, "acme-read")
    identity.create_or_update_entity_by_name("bob", metadata=bob["metadata"])


def test_nobody_keeps_a_token_for_long(prepared: Gateway) -> None:
    """Not even who logs in past the gateway, by the CEL role itself."""
    client = prepared.anonymous()
    for path, role in (("login", "acme-write"), ("cel/login", "gateway")):
        answer = client.adapter.post(f"/v1/auth/gateway-jwt/{path}", json={"role": role, "jwt": prepared.jwt("alice")})
        assert answer["auth"]["lease_duration"] <= 300


@pytest.mark.parametrize(("tenant", "other"), [("acme", "globex"), ("globex", "acme")])
def test_service_knows_its_own_tenant_alone(prepared: Gateway, tenant: str, other: str) -> None:
    """The AppRole reads, writes, deletes and lists there, and looks at its own token."""
    client = prepared.service(tenant)
    assert may(asking(client)) == {f"read {tenant}", f"write {tenant}"}
    client.adapter.delete(f"/v1/tenants/data/{tenant}/written")
    assert "app" in client.list(f"tenants/metadata/{tenant}")["data"]["keys"]
    with pytest.raises(Forbidden):
        client.list(f"tenants/metadata/{other}")
    with pytest.raises(Forbidden):
        client.list("tenants/metadata")
    assert client.auth.token.lookup_self()["data"]["policies"] == [f"{NAME}-{tenant}"]
    client.auth.token.renew_self()
    client.auth.token.revoke_self()


def test_request_id_is_in_the_audit_line(prepared: Gateway) -> None:
    """As it is, beside the caller's name: the server's line and the gateway's are of one request."""
    ask = prepared.inline(prepared.jwt("alice"), **{"X-Request-Id": "one-of-a-test"})
    ask("get", "tenants/data/acme/app", None)
    lines = [line for line in prepared.backend.audit.text().splitlines() if '"x-request-id":["one-of-a-test"]' in line]
    assert any('"username":"alice"' in line and '"path":"tenants/data/acme/app"' in line for line in lines)


def test_tenant_may_be_a_mount_and_jwts_may_stay_out(gateway: Gateway, prepared: Gateway, root: hvac.Client) -> None:
    """By the same two templates that the gateway has; and where there is no issuer, no way in is made for a JWT."""
    root.sys.disable_auth_method("gateway-jwt")
    done = gateway.prepare(GATEWAY_MOUNT="kv-{tenant}", GATEWAY_PREFIX="", GATEWAY_DEMO="false")
    assert done.returncode == 0, done.stderr
    assert "gateway-jwt/" not in root.sys.list_auth_methods()["data"]
    client = gateway.service("acme")
    client.write_data("kv-acme/data/app", data={"data": {"owner": "acme"}})
    assert client.read("kv-acme/data/app")["data"]["data"]["owner"] == "acme"
    with pytest.raises(Forbidden):
        client.read("kv-globex/data/app")


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"GATEWAY_TENANTS": ""}, "GATEWAY_TENANTS is empty"),
        ({"GATEWAY_TENANTS": "acme,Globex"}, "found Globex"),
        ({"GATEWAY_TENANTS": "acme,+"}, "found +"),
        ({"GATEWAY_MOUNT": "kv", "GATEWAY_PREFIX": ""}, "expected {tenant} in one"),
        ({"GATEWAY_PREFIX": "{tenant}/*"}, "found tenants/acme/*"),
        ({"GATEWAY_PREFIX": "../{tenant}"}, "found tenants/../acme"),
        ({"GATEWAY_DEMO": "yes"}, "expected true or false"),
        ({"GATEWAY_DEMO": "true", "GATEWAY_SECRETS_DIR": ""}, "GATEWAY_SECRETS_DIR is empty"),
        ({"GATEWAY_TENANTS": ","}, "names nobody"),
    ],
)
def test_wrong_setting_is_named(variables: dict[str, str], said: str) -> None:
    """Before the room asks anything of the server, which is not there."""
    environment = {**without_vault(os.environ), "here": str(PROJECT), "VAULT_ADDR": "http://127.0.0.1:1", **variables}
    command = ["bash", "-euc", BESIDE_A_ROOM, "gateway"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, said in done.stderr) == (1, True), done.stderr
