"""The doctor: each fault, made on the real server where that can be, is named where it is, with what to type."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import hvac
import pytest

from config_loader import DEFAULT_PATH
from doctor import Finding, Findings, examine
from doctor.findings import FAULT, OK, WARNING
from tests.backends import Backend
from tests.faults.network import Authority, forgetful_resolver
from tests.faults.nodes import single_node
from tests.integration.conftest import Prepare, put
from tests.integration.test_connection import SOMEWHERE, Pki
from tests.integration.test_http import HEALTH
from tests.login_methods import PreparedAppRole, PreparedJwt, PreparedKubernetes, PreparedWrapped
from tests.servers import Answer, ScriptedServer, respond, truncated
from vaultkit.transport.tls_files import TRUST_VARIABLES

ROLE_ID, SECRET_ID = "doctor-role-id", "doctor-secret-id"
KV, DATABASE = "my-vault-app-kv", "my-vault-app-database"
BASICS = """
path "auth/token/*"          { capabilities = ["read", "update"] }
path "sys/capabilities-self" { capabilities = ["update"] }
"""
READS_KV = f'path "{KV}/*" {{ capabilities = ["read"] }}'
KV_ALONE = {"DATABASE_DYNAMIC_ENABLED": "false", "DATABASE_STATIC_ENABLED": "false", "KV_SECRET_MOUNT": KV}


@dataclass
class World:
    """What a fault may lay hands on."""

    backend: Backend
    folder: Path
    name: str
    given: list[str]
    """What must be in no finding."""

    @property
    def root(self) -> hvac.Client:
        return self.backend.root

    def approle(self, policy: str = BASICS + READS_KV, **settings: object) -> PreparedAppRole:
        """An AppRole of this case's own: what is refused to it locks no other."""
        self.root.sys.create_or_update_policy(self.name, policy)
        role = PreparedAppRole(self.name, self.root, self.folder, [self.name])
        if settings:
            self.root.adapter.post(f"/v1/auth/approle/role/{self.name}", json=settings)
        return role

    def environ_of(self, role: PreparedAppRole, *, administrator: bool = False, **environ: str) -> dict[str, str]:
        found = {"VAULT_URL": self.backend.url, "VAULT_ENTITY": self.name, **KV_ALONE, **role.environ, **environ}
        self.given += role.given
        return {**found, "VAULT_TOKEN": self.backend.root_token} if administrator else found

    def with_policy(self, policy: str, **environ: str) -> dict[str, str]:
        return {**self.environ_of(self.approle(policy)), **environ}


@pytest.fixture
def world(backend: Backend, tmp_path: Path, request: pytest.FixtureRequest) -> World:
    name = f"doctor-{zlib.crc32(request.node.name.encode())}"
    return World(backend, tmp_path, name, [backend.secret_id, backend.root_token, SECRET_ID, "myapp-api-key"])


def seen_with(environ: dict[str, str]) -> Findings:
    return examine(DEFAULT_PATH, environ)


def faults(findings: Findings) -> list[Finding]:
    return [finding for finding in findings if finding.state == FAULT]


def there_is(findings: Findings, state: str, step: str, seen: str, command: str = "") -> bool:
    return any(
        (each.state, each.step) == (state, step) and seen in each.seen and command in each.command for each in findings
    )


# ── Well ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_healthy_system_has_no_fault(backend: Backend, root: hvac.Client) -> None:
    """Nothing but ✓, in the order of a request; nothing is issued but a token, which is revoked."""
    since = backend.audit.position()
    findings = seen_with(backend.application)
    assert [finding for finding in findings if finding.state != OK] == []
    steps = ["settings", "name", "connection", "proxy", "TLS", "health", "clock", "secret_id", "login", "token", "KV"]
    assert list(dict.fromkeys(finding.step for finding in findings)) == [*steps, "dynamic", "static"]
    asked = backend.audit.count(since)
    assert (asked["auth/approle/login"], asked["auth/token/revoke-self"]) == (1, 1)
    assert not [path for path in asked if "/creds/" in path]


def test_database_login_costs_no_lasting_lease(
    backend: Backend, root: hvac.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only where it is asked for; the user is gone afterwards."""
    for key, value in backend.database.items():
        monkeypatch.setenv(f"PG{key.upper()}".replace("DBNAME", "DATABASE"), str(value))
    since = backend.audit.position()
    findings = seen_with({**backend.application, "DATABASE_DYNAMIC_CHECK_LOGIN": "true"})
    assert there_is(findings, OK, "database", "lets us in with what db-demo-dynamic gives")
    assert backend.audit.count(since)["sys/leases/revoke"] == 1


# ── The way to the server ────────────────────────────────────────────────────────────────────────────────────────────

HTML = respond(200, b"<html>Please sign in to the network")
SEALED_TEXT = {**HEALTH, "sealed": True}


@pytest.mark.parametrize(
    ("environ", "step", "seen", "command"),
    [
        ({"VAULT_URL": "vault:8200"}, "settings", "[vault] url: found 'vault:8200'", "config.ini"),
        ({"VAULT_SECRET_ID": ""}, "settings", "[vault] secret_id: a value is required", "config.ini"),
        ({"KV_SECRET_PATHS": "x"}, "settings", "KV_SECRET_PATHS: unknown variable", "config.ini"),
        ({"VAULT_CACERT": "/no/such/ca.pem"}, "settings", "expected a file that exists", "config.ini"),
        ({"VAULT_URL": "http://127.0.0.1:1"}, "connection", "127.0.0.1:1: Connection refused", "curl -sS"),
        ({"VAULT_URL": "http://nowhere.test:8200"}, "name", "nowhere.test has no address", "getent hosts nowhere.test"),
        ({"HTTP_PROXY": "http://u:hunter2@127.0.0.1:1", "VAULT_URL": SOMEWHERE}, "connection",
         "the proxy http://127.0.0.1:1 (from HTTP_PROXY): Connection refused", "unset HTTP_PROXY"),
    ],
)  # fmt: skip
def test_fault_before_the_server_is_named(environ: dict[str, str], step: str, seen: str, command: str) -> None:
    """As the only one: what depends on it is not looked at, and is said not to be."""
    with forgetful_resolver() as unknown:
        unknown.add("nowhere.test")
        basics = {"VAULT_URL": "http://127.0.0.1:1", "VAULT_ROLE_ID": ROLE_ID, "VAULT_SECRET_ID": SECRET_ID}
        findings = seen_with({**basics, **environ})
    assert there_is(findings, FAULT, step, seen, command)
    assert {finding.step for finding in faults(findings)} <= {step, "connection"}
    assert "not looked at" in findings[-1].seen
    assert "hunter2" not in str(list(findings))


@pytest.mark.parametrize(
    ("answer", "seen"),
    [
        (HTML, "what answers is no Vault"),
        (truncated, "cannot reach Vault"),
        (respond(200, b""), "what answers is no Vault"),
        (respond(400, b"Client sent an HTTP request to an HTTPS server.\n"), "url begins with https://"),
        (respond(301, Location="https://vault.example/v1/sys/health"), "redirects to https://vault.example"),
        (respond(200, SEALED_TEXT), "sealed"),
        (respond(200, {**HEALTH, "initialized": False}), "not initialised"),
    ],
)
def test_what_is_no_server_is_named(answer: Answer, seen: str) -> None:
    """Scripted, for a real server answers so at no time; no secret_id is sent to it."""
    server = ScriptedServer(answer)
    with server.running():
        findings = seen_with({"VAULT_URL": server.url, "VAULT_ROLE_ID": ROLE_ID, "VAULT_SECRET_ID": SECRET_ID})
    assert [there_is(findings, FAULT, "health", seen), len(faults(findings))] == [True, 1]
    assert {request.split("?")[0] for request in server.requests} == {"GET sys/health"}


def test_deaf_server_is_named() -> None:
    """Scripted: it takes the request and never answers."""
    server = ScriptedServer()
    server.script = [server.deaf()]
    with server.running():
        environ = {"VAULT_URL": server.url, "VAULT_SECRET_ID": SECRET_ID, "HTTP_TIMEOUT": "0.3"}
        assert there_is(seen_with(environ), FAULT, "health", "did not answer in time", "curl")


def test_sealed_server_is_named(tmp_path: Path) -> None:
    """A real one."""
    with single_node(tmp_path) as node:
        node.seal()
        findings = seen_with({"VAULT_URL": node.url, "VAULT_SECRET_ID": SECRET_ID})
    assert there_is(findings, FAULT, "health", "sealed", "vault operator unseal")


@pytest.mark.parametrize("status", [407, 403])
def test_refusing_proxy_is_named(status: int) -> None:
    """Scripted; asked for a tunnel, as it is for https."""
    proxy = ScriptedServer(respond(status, b"no"))
    with proxy.running():
        environ = {"VAULT_URL": "https://vault.example.com", "VAULT_SECRET_ID": SECRET_ID}
        findings = seen_with({**environ, "VAULT_PROXY_ADDR": proxy.url})
    assert there_is(findings, FAULT, "proxy", f"{proxy.url} (from [vault] proxy_addr) does not let us through: Tunnel")


# ── TLS ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


def tls_findings(pki: Pki, **environ: str) -> Findings:
    with pki.server.running():
        return seen_with({"VAULT_URL": pki.server.url, "VAULT_SECRET_ID": SECRET_ID, **environ})


@pytest.fixture
def no_other_cas(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in TRUST_VARIABLES:
        monkeypatch.delenv(name, raising=False)


@pytest.mark.usefixtures("no_other_cas")
class TestTls:
    def test_days_left_are_told(self, tmp_path: Path) -> None:
        """Of a certificate that is right, which the session, too, finds right."""
        pki = Pki(tmp_path)
        findings = tls_findings(pki, VAULT_CACERT=pki.ca_file)
        assert there_is(findings, OK, "TLS", "the name 127.0.0.1 is right, the certificate is good for")
        assert there_is(findings, OK, "health", "active")

    def test_unknown_ca_is_named(self, tmp_path: Path) -> None:
        assert there_is(tls_findings(Pki(tmp_path)), FAULT, "TLS", "no trusted TLS connection", "export VAULT_CACERT")

    def test_wrong_name_is_named(self, tmp_path: Path) -> None:
        """With the name that the certificate is for."""
        pki = Pki(tmp_path, name="vault.example")
        findings = tls_findings(pki, VAULT_CACERT=pki.ca_file)
        assert there_is(findings, FAULT, "TLS", "mismatch", "VAULT_TLS_SERVER_NAME=vault.example ")

    def test_expired_certificate_is_named(self, tmp_path: Path) -> None:
        authority, server = Authority(tmp_path), ScriptedServer(respond(200, HEALTH))
        server.speak_tls(authority.expired())
        with server.running():
            environ = {"VAULT_URL": server.url, "VAULT_SECRET_ID": SECRET_ID, "VAULT_CACERT": str(authority.file)}
            assert there_is(seen_with(environ), FAULT, "TLS", "certificate has expired", "date; openssl s_client")

    @pytest.mark.parametrize(("old_tls", "step"), [(False, "health"), (True, "TLS")])
    def test_wanted_client_certificate_is_named(self, tmp_path: Path, old_tls: bool, step: str) -> None:
        """TLS 1.3 says so at the first request only."""
        pki = Pki(tmp_path, client_cert=True, old_tls=old_tls)
        assert there_is(tls_findings(pki, VAULT_CACERT=pki.ca_file), FAULT, step, "client certificate")

    def test_missing_ca_of_the_process_is_named(self, tmp_path: Path) -> None:
        findings = tls_findings(Pki(tmp_path), SSL_CERT_FILE=str(tmp_path / "gone.pem"))
        assert there_is(findings, FAULT, "TLS", "SSL_CERT_FILE: found", "ls -l")

    def test_unchecked_certificate_is_told_of(self, tmp_path: Path) -> None:
        assert there_is(tls_findings(Pki(tmp_path), VAULT_SKIP_VERIFY="1"), WARNING, "TLS", "is not checked")


# ── The login ────────────────────────────────────────────────────────────────────────────────────────────────────────


def wrong_secret_id(world: World) -> dict[str, str]:
    return world.environ_of(world.approle(), VAULT_SECRET_ID_FILE="", VAULT_SECRET_ID=SECRET_ID)


def spent_secret_id(world: World) -> dict[str, str]:
    environ = world.environ_of(world.approle(secret_id_num_uses=1), administrator=True)
    secret_id = Path(environ["VAULT_SECRET_ID_FILE"]).read_text().strip()
    world.root.auth.approle.login(environ["VAULT_ROLE_ID"], secret_id, use_token=False)
    return environ


def deleted_approle(world: World) -> dict[str, str]:
    role = world.approle()
    environ = world.environ_of(role, administrator=True)
    role.refuse()
    return environ


def other_role_id(world: World) -> dict[str, str]:
    return {**world.environ_of(world.approle(), administrator=True), "VAULT_ROLE_ID": ROLE_ID}


def other_network(world: World) -> dict[str, str]:
    return world.environ_of(world.approle(secret_id_bound_cidrs=["10.1.2.0/24"]))


def disabled_entity(world: World) -> dict[str, str]:
    environ = world.environ_of(world.approle())
    accessor = world.root.adapter.get("/v1/sys/auth")["data"]["approle/"]["accessor"]
    entity = world.root.adapter.post("/v1/identity/entity", json={"name": world.name, "disabled": True})
    alias = {"canonical_id": entity["data"]["id"], "name": environ["VAULT_ROLE_ID"], "mount_accessor": accessor}
    world.root.adapter.post("/v1/identity/entity-alias", json=alias)
    return environ


def empty_file(world: World) -> dict[str, str]:
    environ = world.environ_of(world.approle())
    Path(environ["VAULT_SECRET_ID_FILE"]).write_text("\n")
    return environ


def wrong_namespace(world: World) -> dict[str, str]:
    return world.environ_of(world.approle(), VAULT_NAMESPACE="no-such-team")


@pytest.mark.parametrize(
    ("make", "seen", "command"),
    [
        (wrong_secret_id, "invalid role or secret ID", "vault write -force auth/approle/role/doctor-"),
        (spent_secret_id, "the role_id is right; the secret_id is not one of it: expired, used up", "VAULT_SECRET_ID="),
        (deleted_approle, "there is no AppRole doctor-", "./setup-vault.sh"),
        (other_role_id, "[vault] role_id is not that of the AppRole doctor-", "export VAULT_ROLE_ID="),
        (other_network, "unauthorized by CIDR restrictions", "auth/approle/role/doctor-"),
        (disabled_entity, "permission denied", ""),
        (empty_file, "is empty", "ls -l "),
        (wrong_namespace, 'in the namespace "no-such-team"', "vault auth list -namespace=no-such-team"),
    ],
)
def test_refused_login_is_explained(
    world: World, make: Callable[[World], dict[str, str]], seen: str, command: str
) -> None:
    """In the server's words, and, where an administrator's VAULT_TOKEN lets one look, by its cause."""
    findings = seen_with(make(world))
    assert there_is(findings, FAULT, "login", seen, command)
    assert [finding.step for finding in faults(findings)] == ["login"]
    assert not [secret for secret in world.given if secret in str(list(findings))]


def test_second_factor_is_named() -> None:
    """Scripted: what Vault answers where login MFA is enforced."""
    mfa = {"auth": {"client_token": "", "mfa_requirement": {"mfa_request_id": "x"}}}
    server = ScriptedServer(respond(200, HEALTH), respond(200, mfa))
    with server.running():
        findings = seen_with({"VAULT_URL": server.url, "VAULT_ROLE_ID": ROLE_ID, "VAULT_SECRET_ID": SECRET_ID})
    assert there_is(findings, FAULT, "login", "second factor", "vault list identity/mfa/login-enforcement")


def test_last_login_is_left_to_the_application(world: World) -> None:
    """A secret_id that is good for one login is looked at, and afterwards still good for it."""
    environ = world.environ_of(world.approle(secret_id_num_uses=1), administrator=True)
    findings = seen_with(environ)
    assert there_is(findings, OK, "secret_id", "good for 1 login, ")
    assert there_is(findings, WARNING, "login", "not tried")
    secret_id = Path(environ["VAULT_SECRET_ID_FILE"]).read_text().strip()
    assert world.root.auth.approle.login(environ["VAULT_ROLE_ID"], secret_id, use_token=False)["auth"]


class TestOtherLogins:
    @pytest.fixture
    def where(self, backend: Backend) -> dict[str, str]:
        return {"VAULT_URL": backend.url, **KV_ALONE}

    @pytest.mark.parametrize(
        ("made_at", "used_up", "state", "seen"),
        [
            ("", False, OK, "wrapped, good for at most 60 s"),
            ("", True, FAULT, "was unwrapped before, or its time ran out"),
            ("/v1/sys/wrapping/wrap", False, FAULT, "is forged: it was made at sys/wrapping/wrap"),
        ],
    )
    def test_wrapped_secret_id_is_left_wrapped(
        self, where: dict[str, str], world: World, made_at: str, used_up: bool, state: str, seen: str
    ) -> None:
        """It can be unwrapped once, which is the application's to do."""
        prepared = PreparedWrapped(world.name, world.root, world.folder, ["default"])
        environ, token = {**where, **prepared.environ}, prepared.wrap(made_at)
        prepared.write("wrapped", token)
        if used_up:
            world.root.sys.unwrap(token)
        findings = seen_with(environ)
        assert there_is(findings, state, "secret_id", seen)
        assert token not in str(list(findings))
        if not used_up:
            assert world.root.sys.unwrap(token)

    def test_expired_jwt_is_named(self, where: dict[str, str], prepare: Prepare) -> None:
        """By its own claim, beside what Vault says to it."""
        prepared = prepare("jwt", "doctor-jwt")
        assert isinstance(prepared, PreparedJwt)
        assert there_is(seen_with({**where, **prepared.environ}), OK, "JWT", "good for 3")
        prepared.hand_over(lasts=-60)
        findings = seen_with({**where, **prepared.environ})
        assert there_is(findings, FAULT, "JWT", "expired 6", "date")
        assert there_is(findings, FAULT, "login", "expired", "vault read auth/jwt/role/doctor-jwt")

    def test_api_server_that_is_away_is_thought_of(self, where: dict[str, str], prepare: Prepare) -> None:
        """Vault says the same as to a token that is no good: both are told, beside how long the token is good."""
        prepared = prepare("kubernetes", "doctor-kubernetes")
        assert isinstance(prepared, PreparedKubernetes)
        prepared.reviews.state = "down"
        findings = seen_with({**where, **prepared.environ})
        prepared.reviews.state = "well"
        assert there_is(findings, OK, "JWT", "good for 3")
        seen, command = "when it cannot ask the API server", "vault read auth/kubernetes/role/doctor-kubernetes"
        assert there_is(findings, FAULT, "login", seen, command)

    def test_ended_token_is_named(self, where: dict[str, str], prepare: Prepare) -> None:
        """One that was handed over, and is not ours to revoke."""
        prepared = prepare("token", "doctor-token")
        findings = seen_with({**where, **prepared.environ})
        assert there_is(findings, OK, "login", "and it was handed to us")
        assert there_is(seen_with({**where, **prepared.environ}), OK, "token", "service")
        prepared.refuse()
        findings = seen_with({**where, **prepared.environ})
        assert there_is(findings, FAULT, "login", "is the token that was handed to us right", "vault token lookup")


# ── The token ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_counted_token_is_named(world: World) -> None:
    """A role with token_num_uses does not fit (field case 28)."""
    findings = seen_with(world.environ_of(world.approle(token_num_uses=20)))
    assert there_is(findings, FAULT, "token", "requests more", "token_num_uses=0")


def test_batch_token_is_none_to_renew(world: World) -> None:
    """It cannot do anything with itself, and that is no fault."""
    findings = seen_with(world.environ_of(world.approle(token_type="batch")))
    assert there_is(findings, OK, "token", "batch, ")
    assert findings.healthy


def test_helpless_token_is_told_of(world: World) -> None:
    """One that may neither look itself up, nor renew, nor revoke itself: it works, with what follows from that."""
    policy = f'path "sys/capabilities-self" {{ capabilities = ["update"] }}\n{READS_KV}'
    role = world.approle(policy, token_no_default_policy=True)
    findings = seen_with(world.environ_of(role))
    for name in ("lookup-self", "renew-self", "revoke-self"):
        assert there_is(findings, WARNING, "token", f'on "auth/token/{name}"')
    assert findings.healthy


# ── The secrets ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def mounts(backend: Backend) -> Iterator[None]:
    """Engines of the wrong kind, and secrets that are none any more."""
    root = backend.root
    root.sys.enable_secrets_engine("kv", "doctor-v1", options={"version": "1"})
    for name, value in (("gone", "x"), ("destroyed", "x"), ("long", "x" * 5000)):
        put(root, f"doctor/{name}", value=value)
    root.secrets.kv.v2.delete_latest_version_of_secret("doctor/gone", mount_point=KV)
    root.secrets.kv.v2.destroy_secret_versions("doctor/destroyed", [1], mount_point=KV)
    root.sys.enable_secrets_engine("database", "doctor-database")
    down = {"plugin_name": "postgresql-database-plugin", "verify_connection": False, "allowed_roles": "*"}
    url = "postgresql://{{username}}:{{password}}@127.0.0.1:1/postgres?sslmode=disable"
    down |= {"connection_url": url, "username": "u", "password": "hunter2"}
    root.adapter.post("/v1/doctor-database/config/down", json=down)
    role = {"db_name": "down", "creation_statements": ['CREATE ROLE "{{name}}"']}
    root.adapter.post("/v1/doctor-database/roles/role", json=role)
    yield
    for mount in ("doctor-v1", "doctor-database"):
        root.sys.disable_secrets_engine(mount)
    for name in ("gone", "destroyed", "long"):
        root.secrets.kv.v2.delete_metadata_and_all_versions(f"doctor/{name}", mount_point=KV)


def everything(mount: str) -> str:
    return f'{BASICS}path "{mount}/*" {{ capabilities = ["read", "list", "update"] }}'


DYNAMIC = {"KV_SECRET_ENABLED": "false", "DATABASE_DYNAMIC_ENABLED": "true", "DATABASE_DYNAMIC_MOUNT": DATABASE}
STATIC = {"KV_SECRET_ENABLED": "false", "DATABASE_STATIC_ENABLED": "true", "DATABASE_STATIC_MOUNT": DATABASE}
CREDS_ALONE = f'{BASICS}path "{DATABASE}/creds/*" {{ capabilities = ["read"] }}'
DATA_ALONE = f'path "{KV}/data/*" {{ capabilities = ["read"] }}'
DOWN = {"DATABASE_DYNAMIC_MOUNT": "doctor-database", "DATABASE_DYNAMIC_ROLE_ID": "role"}


@pytest.mark.usefixtures("mounts")
@pytest.mark.parametrize(
    ("policy", "environ", "state", "step", "seen", "command"),
    [
        (everything("nix"), {"KV_SECRET_MOUNT": "nix"}, FAULT, "KV", "nothing is mounted at nix, though a policy",
         "vault secrets enable -path=nix -version=2 kv"),
        (BASICS, {}, FAULT, "KV", f"{KV}: nothing is mounted there, or no policy (default, doctor-",
         "export KV_SECRET_MOUNT="),
        (everything("doctor-v1"), {"KV_SECRET_MOUNT": "doctor-v1"}, FAULT, "KV", "doctor-v1 is KV version 1",
         "vault kv enable-versioning doctor-v1"),
        (everything(DATABASE), {"KV_SECRET_MOUNT": DATABASE}, FAULT, "KV", "is of type database, not kv", "KV_SECRET_"),
        (everything(KV), {"KV_SECRET_MOUNT": f"{KV}/deep"}, FAULT, "KV", f"nothing is mounted at {KV}/deep; at {KV} ",
         "KV_SECRET_MOUNT"),
        (everything(f"{KV}/metadata"), {}, FAULT, "KV", f'grants "read" on "{KV}/data/database"',
         f'path "{KV}/data/database" {{ capabilities = ["read"] }}'),
        (everything(KV), {"KV_SECRET_PATH": "doctor/nix"}, FAULT, "KV", f"there is nothing at {KV}/data/doctor/nix",
         f"vault kv put -mount={KV} doctor/nix"),
        (everything(KV), {"KV_SECRET_PATH": "doctor/lnog"}, FAULT, "KV", "did you mean long?", "vault kv put"),
        (everything(KV), {"KV_SECRET_PATH": "doctor/gone"}, FAULT, "KV", "was deleted",
         f"vault kv undelete -mount={KV} -versions=1 doctor/gone"),
        (everything(KV), {"KV_SECRET_PATH": "doctor/destroyed"}, FAULT, "KV", "was destroyed", "vault kv put"),
        (everything(KV), {"KV_SECRET_PATH": "doctor/long"}, FAULT, "KV", "longer than 4096 bytes", "HTTP_MAX_RESPONSE"),
        (everything(KV), {"KV_SECRET_PATH": "doctor/*"}, OK, "KV", "doctor/*: names and folders in it: 3", ""),
        (everything(KV), {"KV_SECRET_PATH": "none/*"}, WARNING, "KV", "there is nothing below it yet", ""),
        (BASICS + DATA_ALONE, {}, WARNING, "KV", "the values are read at each turn instead", ""),
        (DATA_ALONE, {"KV_SECRET_PATH": "doctor/nix"}, FAULT, "KV", "there is nothing at", "vault kv put"),
        (everything(DATABASE), {**DYNAMIC, "DATABASE_DYNAMIC_ROLE_ID": "db-demo-dynamik"}, FAULT, "dynamic",
         'there is no role "db-demo-dynamik" at my-vault-app-database; did you mean db-demo-dynamic?', "vault list"),
        (CREDS_ALONE, DYNAMIC, WARNING, "dynamic", "would cost a lease", ""),
        (everything(DATABASE), {**STATIC, "DATABASE_STATIC_ROLE_ID": "nix"}, FAULT, "static", 'there is no role "nix"',
         f"vault list {DATABASE}/static-roles"),
        (everything("doctor-database"), {**DYNAMIC, **DOWN, "DATABASE_DYNAMIC_CHECK_LOGIN": "true"}, FAULT, "database",
         "doctor-database/creds/role", "pg_isready"),
    ],
)  # fmt: skip
def test_secret_that_is_not_to_be_had_is_explained(
    world: World, policy: str, environ: dict[str, str], state: str, step: str, seen: str, command: str
) -> None:
    """By what was looked at: the mount, the engine, the policy, the secret, the role; and nothing else is a fault."""
    findings = seen_with(world.with_policy(policy, **environ))
    assert there_is(findings, state, step, seen, command), "\n".join(map(str, findings))
    assert [finding.step for finding in faults(findings)] == ([step] if state == FAULT else [])
    assert not [secret for secret in [*world.given, "hunter2"] if secret in str(list(findings))]


def test_database_that_is_elsewhere_is_named(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where PGHOST points to nothing; the user's name is not told."""
    monkeypatch.setenv("PGHOST", "/no/such/folder")
    findings = seen_with({**backend.application, "DATABASE_DYNAMIC_CHECK_LOGIN": "true"})
    assert there_is(findings, FAULT, "database", "/no/such/folder", "pg_isready")
    assert "v-approle" not in str(list(findings))
