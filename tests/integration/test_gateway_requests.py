"""What every request to the API passes, on a gateway that runs: who asks, ids, the trail; and who Vault is asked as."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hvac
import pytest

from devserver.proxy import Proxy
from gateway.api.routes import ENDPOINTS
from tests.gateway_contract import DOCUMENT
from tests.gateway_process import NAME, Prepared, Running, address_of
from tests.integration.conftest import eventually

APP = "/vault/secrets/app"
ROUTES = [endpoint.template.replace("{path}", "app").replace("{prefix}", "") for endpoint in ENDPOINTS]
METHODS = ("GET", "HEAD", "PUT", "POST", "DELETE", "PATCH", "OPTIONS", "TRACE", "PROPFIND")
NO_ROUTES = (
    "/", "/metrics", "/livez", "/readyz", "/docs", "/vault", "/vault/", "/vault/secrets", "/vault/batch/",
    "/v1/sys/health",
    "/vault/token/renew/x", "//vault/secrets/app", "/vault/secrets/../../metrics", "*",
)  # fmt: skip
TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
WIDE_ROLES = """
[role everybody]
claim = groups
has = {tenant}-readers
allow = **: read, list, write, delete, versions, rollback
deny = hidden: list
       shown/hidden/**: list
"""
"""The gateway's own roles let everybody write, so what is refused is refused by Vault."""


@pytest.fixture(scope="module")
def trail(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("trail") / "audit.log"


@pytest.fixture(scope="module")
def gateway(gateway_server: Prepared, trail: Path) -> Iterator[Running]:
    with gateway_server.gateway(GATEWAY_AUDIT_FILE=str(trail)) as running:
        yield running


@pytest.fixture(scope="module")
def wide_roles(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("roles") / "roles.ini"
    path.write_text(WIDE_ROLES)
    return str(path)


@pytest.fixture
def path(request: pytest.FixtureRequest) -> str:
    """Of a secret of this test's own."""
    return f"/vault/secrets/{request.node.originalname}"


def secret(value: Any) -> dict[str, Any]:
    return {"data": {"value": value}}


# ── Who ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("target", [*ROUTES, *NO_ROUTES])
def test_nobody_learns_anything(gateway: Running, target: str) -> None:
    """Without a token all answers are the same, whether there is such a route or not; health is not here."""
    for method in METHODS:
        answer = gateway.request(method, target)
        assert (answer.status, answer.headers["www-authenticate"]) == (401, 'Bearer realm="vault"')
        assert method == "HEAD" or answer.problem == "token-missing"


@pytest.mark.parametrize("target", NO_ROUTES)
def test_what_is_no_route_is_none(gateway: Running, target: str) -> None:
    assert gateway.request("GET", target, "alice").problem in ("route-not-found", "path-refused")


@pytest.mark.parametrize("target", ROUTES)
def test_route_has_one_spelling(gateway: Running, target: str) -> None:
    """Not percent-encoded, and with no line feed, which Python's `$` would let pass."""
    spellings = [target.replace("v", "%76"), target.replace("openapi", "%6fpenapi"), f"{target}%0A"]
    for spelling in set(spellings) - {target}:
        for method in ("GET", "POST"):
            assert gateway.request(method, spelling, "alice").problem in ("path-refused", "method-not-allowed")


def test_line_feed_is_of_the_path(gateway: Running) -> None:
    """Which is refused, as all paths are that hold one; the route is there all the same."""
    for target in ("/vault/secrets/a%0Ab", "/vault/versions/%0Aa", "/vault/list/a%0Ab"):
        assert gateway.request("GET", target, "alice").problem == "path-refused"


@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=lambda endpoint: endpoint.template)
def test_method_that_a_route_has_not(gateway: Running, endpoint: Any) -> None:
    """405, with those that it has."""
    target = ROUTES[ENDPOINTS.index(endpoint)]
    has = {method for method in METHODS if hasattr(endpoint, method.lower())}
    has |= {"HEAD"} & {"HEAD" if method == "GET" else "" for method in has}
    for method in set(METHODS) - has:
        answer = gateway.request(method, target, "alice")
        assert answer.status == 405
        assert set(answer.headers["allow"].split(", ")) == has


def test_description_is_served(gateway: Running) -> None:
    """As it stands in the repository."""
    assert gateway.request("GET", "/openapi.json", "bob").json == DOCUMENT


@pytest.mark.parametrize(
    ("authorization", "said"),
    [("", ""), ("Bearer", "malformed"), ("Basic YWxpY2U6", ""), ("Bearer x", "malformed"),
     ("Bearer  a.b.c", "malformed"), ("Bearer e30.e30.e30", "algorithm"), ("bearer {jwt}x", "signature"),
     ("Bearer {jwt}.x", "malformed")],
)  # fmt: skip
def test_challenge_says_what_is_wrong(gateway: Running, authorization: str, said: str) -> None:
    """RFC 6750: no error for who brought no bearer token."""
    answer = gateway.request("GET", APP, Authorization=authorization.format(jwt=gateway.token("alice")))
    error = f', error="invalid_token", error_description="{said}"' if said else ""
    assert (answer.status, answer.headers["www-authenticate"]) == (401, f'Bearer realm="vault"{error}')


def test_right_that_is_missing_is_a_scope(gateway: Running) -> None:
    """RFC 6750; and it is the same for what is there and for what is not."""
    for target in (APP, "/vault/secrets/nothing"):
        answer = gateway.request("GET", target, "oscar")
        assert (answer.status, answer.problem) == (403, "forbidden")
        assert answer.headers["www-authenticate"].endswith('error="insufficient_scope"')


# ── Ids ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_one_id_leads_through_all_logs(gateway: Running, gateway_server: Prepared, path: str, trail: Path) -> None:
    """From the caller to our log, our trail, and Vault's audit log; with the caller's trace."""
    audit, headers = gateway_server.backend.audit, "sys/config/auditing/request-headers/traceparent"
    gateway_server.backend.root.adapter.post(f"/v1/{headers}", json={"hmac": False})
    position = audit.position()
    sent = {"X_Request_Id": "of-a-test.1", "traceparent": TRACE}
    answer = gateway.request("PUT", path, "alice", body=secret("canary"), **sent)
    assert answer.headers["x-request-id"] == "of-a-test.1"
    [line] = eventually(lambda: gateway.log_lines("of-a-test.1"))
    assert (line["verb"], line["path"], line["status"], line["version"]) == ("write", path.rpartition("/")[2], 201, 1)
    lines = [entry for entry in map(json.loads, audit.text(position).splitlines()) if "headers" in entry["request"]]
    seen = [entry["request"]["headers"] for entry in lines]
    assert {"x-request-id": ["of-a-test.1"], "traceparent": [TRACE]} in seen
    assert trail.read_text().count('"of-a-test.1"') == 2


@pytest.mark.parametrize("sent", ["with space", "x" * 65, "a\tb", "é", "a,b", '"a"', ""])
def test_id_that_is_none_is_replaced(gateway: Running, sent: str) -> None:
    given = gateway.request("GET", APP, "alice", X_Request_Id=sent).headers["x-request-id"]
    assert given != sent
    assert gateway.request("GET", APP, "alice", X_Request_Id=sent).headers["x-request-id"] != given


def test_problem_names_its_request(gateway: Running) -> None:
    answer = gateway.request("GET", "/vault/secrets/nothing", "alice", X_Request_Id="of-a-problem")
    assert answer.json["instance"] == answer.headers["x-request-id"] == "of-a-problem"


# ── The trail ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_trail_tells_who_did_what(gateway: Running, path: str, trail: Path) -> None:
    """A change is written down before Vault is asked, and again with its outcome; what is refused, too."""
    before = len(trail.read_text().splitlines())
    gateway.request("PUT", path, "alice", body=secret("canary"))
    gateway.request("PUT", path, "alice", body=secret("canary"), If_Match='"7-0123456789ab"')
    gateway.request("PUT", path, "bob", body=secret("canary"))
    gateway.request("GET", path, "bob")
    gateway.request("DELETE", path, "alice")
    gateway.request("GET", path, "mallory")
    text = trail.read_text()
    lines = [json.loads(line) for line in text.splitlines()[before:]]
    told = [(line["username"], line["tenant"], line["verb"], line["outcome"], line.get("status")) for line in lines]
    assert told == [
        ("alice", "acme", "write", "asked", None),
        ("alice", "acme", "write", "ok", 201),
        ("alice", "acme", "write", "asked", None),
        ("alice", "acme", "write", "conflict", 412),
        ("bob", "acme", "write", "forbidden", 403),
        ("bob", "acme", "read", "ok", 200),
        ("alice", "acme", "delete", "asked", None),
        ("alice", "acme", "delete", "ok", 204),
        ("mallory", "globex", "read", "missing", 404),
    ]
    assert {line["path"] for line in lines} == {path.removeprefix("/vault/secrets/")}
    assert "canary" not in text


def test_batch_is_told_of_one_by_one(gateway: Running, trail: Path) -> None:
    body = {"paths": ["app", "nothing", "a//b"]}
    gateway.request("POST", "/vault/batch", "bob", body=body, X_Request_Id="of-a-batch")
    lines = [json.loads(line) for line in trail.read_text().splitlines() if '"of-a-batch"' in line]
    told = {(line.get("path"), line["verb"], line["outcome"], line["status"]) for line in lines}
    assert told >= {("app", "read", "ok", 200), ("nothing", "read", "missing", 404), (None, "read", "refused", 400)}


def test_what_cannot_be_written_down_is_not_done(gateway_server: Prepared, gateway: Running, path: str) -> None:
    """Nobody reads, and nothing is written, while the disk is full. (/dev/full always is.)"""
    gateway.request("PUT", path, "alice", body=secret("one"))
    with gateway_server.gateway("full.log", GATEWAY_AUDIT_FILE="/dev/full") as full:
        changes = [("PUT", path, secret("two")), ("DELETE", path, None)]
        changes += [("POST", path.replace("secrets", "rollback"), {"version": 1}), ("GET", path, None)]
        changes += [("POST", "/vault/batch", {"paths": ["app"]}), ("GET", "/vault/list/", None)]
        for method, target, body in changes:
            answer = full.request(method, target, "alice", body=body)
            assert (answer.status, answer.problem, "app" in answer.body.decode()) == (503, "audit-unavailable", False)
        assert "vault_gateway_audit_failures_total 0.0" not in full.metrics()
    assert gateway.request("GET", f"{path}?min_version=1", "alice").json["version"] == 1


# ── The token ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_operator_renews_the_token_of_the_tenant(gateway: Running, gateway_server: Prepared) -> None:
    """Once, however many ask; it is in no answer, and nobody else may."""
    audit = gateway_server.backend.audit
    position = audit.position()
    answers = [gateway.request("POST", "/vault/token/renew", "oscar") for _ in range(3)]
    assert [answer.status for answer in answers] == [200] * 3
    assert 0 < answers[0].json["ttl"] <= 60
    lines = [line for line in audit.text(position).splitlines() if '"path":"auth/token/renew-self"' in line]
    renewals = [line for line in lines if f'"role_name":"{NAME}-acme"' in line and '"type":"request"' in line]
    assert len(renewals) in (1, 2)  # two on a machine that takes seconds for three of them
    for who in ("alice", "bob", "mallory"):
        assert gateway.request("POST", "/vault/token/renew", who).problem == "forbidden"


# ── Settings ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_writes_may_have_to_name_a_version(gateway_server: Prepared, path: str) -> None:
    """unconditional_writes = false: 428 for who does not say what they replace."""
    with gateway_server.gateway("careful.log", GATEWAY_UNCONDITIONAL_WRITES="false") as careful:
        assert careful.request("PUT", path, "alice", body=secret(1)).problem == "precondition-required"
        first = careful.request("PUT", path, "alice", body=secret(1), If_None_Match="*")
        assert careful.request("PUT", path, "alice", body=secret(2), If_Match=first.etag).status == 200
        assert careful.request("DELETE", path, "alice").status == 204


def test_mount_may_want_a_version(gateway_server: Prepared, gateway: Running, path: str, root: hvac.Client) -> None:
    """cas_required of Vault's own comes out as the same problem."""
    gateway.request("PUT", path, "alice", body=secret(1))
    place = f"/v1/tenants/metadata/acme/{path.rpartition('/')[2]}"
    root.adapter.post(place, json={"cas_required": True})
    assert gateway.request("PUT", path, "alice", body=secret(2)).problem == "precondition-required"
    assert gateway.request("PUT", path, "alice", body=secret(2), If_Match="*").status == 200


def test_names_that_may_not_be_seen(gateway_server: Prepared, wide_roles: str) -> None:
    """They are in no page, and no cursor tells of them; what is left fills the page."""
    with gateway_server.gateway("names.log", GATEWAY_ROLES=wide_roles) as running:
        for name in ("a", "b", "hidden/x", "z"):
            assert running.request("PUT", f"/vault/secrets/shown/{name}", "alice", body=secret(1)).status == 201
        first = running.request("GET", "/vault/list/shown?limit=2", "bob").json
        assert first["names"] == ["a", "b"]
        second = running.request("GET", f"/vault/list/shown?limit=2&after={first['next']}", "bob").json
        assert second == {"names": ["z"]}
        assert running.request("GET", "/vault/list/shown/hidden", "bob").problem == "forbidden"


def test_cached_value_is_compared_and_goes_stale(gateway_server: Prepared, gateway: Running, path: str) -> None:
    """Revalidated while Vault answers; then stale, which is said, and nothing is written. (A proxy goes away.)"""
    gateway.request("PUT", path, "alice", body=secret("one"))
    away = Proxy(address_of(gateway_server.backend.url))
    with away.running():
        changes = {"VAULT_URL": away.url, "GATEWAY_CACHE_REFRESH_INTERVAL": "0.1"}
        with gateway_server.gateway("away.log", **changes) as running:
            states = iter(lambda: running.request("GET", path, "alice").headers["cache-status"], None)
            assert eventually(lambda: next(states) == "gateway; fwd=stale; fwd-status=304")
            away.refuse()
            stale = eventually(lambda: (answer := running.request("GET", path, "alice")).json["stale"] and answer)
            assert (stale.json["data"], stale.headers["cache-status"]) == (
                {"value": "one"},
                "gateway; hit; detail=stale",
            )
            assert running.request("GET", path, "alice", If_None_Match=stale.etag).status == 304
            after = [running.request("GET", path, "alice") for _ in range(50)]  # most of them without a try in between
            assert all(answer.json["stale"] for answer in after)
            assert eventually(lambda: int(running.request("GET", path, "alice").headers["age"]) >= 1)
            for method, target in (("PUT", path), ("GET", "/vault/secrets/nothing")):
                answer = running.request(method, target, "alice", body=secret("two") if method == "PUT" else None)
                assert (answer.status, answer.problem, answer.headers["retry-after"]) == (503, "vault-unreachable", "5")


# ── act_as = caller ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module", params=["inline", "batch"])
def as_caller(request: pytest.FixtureRequest, gateway_server: Prepared, wide_roles: str) -> Iterator[Running]:
    """Asks Vault as its callers; its own roles allow what Vault then refuses. It has no secret_id."""
    caller = {"GATEWAY_ACT_AS": "caller", "GATEWAY_CALLER_LOGIN": request.param, "GATEWAY_SECRET_ID_FILE": ""}
    with gateway_server.gateway(f"{request.param}.log", GATEWAY_ROLES=wide_roles, **caller) as running:
        yield running


def test_vault_knows_the_caller(as_caller: Running, gateway_server: Prepared, path: str) -> None:
    """The whole life of a secret, as the person who asks; Vault's audit log has their name beside the request's id."""
    position = gateway_server.backend.audit.position()
    first = as_caller.request("PUT", path, "alice", body=secret("one"), If_None_Match="*", X_Request_Id="of-alice")
    second = as_caller.request("PUT", path, "alice", body=secret("two"), If_Match=first.etag)
    assert as_caller.request("GET", path, "bob").etag == second.etag
    assert as_caller.request("POST", path.replace("secrets", "rollback"), "alice", body={"version": 1}).status == 200
    assert len(as_caller.request("GET", path.replace("secrets", "versions"), "bob").json["versions"]) >= 3
    assert as_caller.request("GET", path, "bob").json["data"] == {"value": "one"}
    assert as_caller.request("DELETE", path, "alice", If_Match="*").status == 204
    assert as_caller.request("GET", path, "bob").problem == "secret-deleted"
    entries = map(json.loads, gateway_server.backend.audit.text(position).splitlines())
    of_alice = [
        entry for entry in entries if (entry["request"].get("headers") or {}).get("x-request-id") == ["of-alice"]
    ]
    assert any(entry.get("auth", {}).get("metadata", {}).get("username") == "alice" for entry in of_alice)
    gateway_server.backend.root.adapter.delete(f"/v1/tenants/metadata/acme/{path.rpartition('/')[2]}")


def test_vault_has_the_last_word(as_caller: Running) -> None:
    """What the gateway's own roles allow, its policies refuse; a cached value is shared, the right to it is not."""
    assert as_caller.request("GET", APP, "alice").json["data"]["owner"] == "acme"
    assert as_caller.request("GET", APP, "mallory").json["data"]["owner"] == "globex"
    for method, target, body in (
        ("PUT", APP, secret("canary")),
        ("DELETE", APP, None),
        ("POST", "/vault/rollback/app", {"version": 1}),
    ):
        answer = as_caller.request(method, target, "bob", body=body)
        assert (answer.status, answer.problem) == (403, "forbidden-by-vault")
        assert "www-authenticate" not in answer.headers
    assert as_caller.request("GET", APP, "bob").json["version"] == 3


def test_no_token_is_held_for_callers(gateway_server: Prepared) -> None:
    """409, for who may renew; and there is nothing that the gateway would have to be ready for but its keys."""
    with gateway_server.gateway("held.log", GATEWAY_ACT_AS="caller", GATEWAY_SECRET_ID_FILE="") as running:
        answer = running.request("POST", "/vault/token/renew", "oscar")
        assert (answer.status, answer.problem) == (409, "token-not-renewable")
        assert running.request("POST", "/vault/token/renew", "alice").problem == "forbidden"
