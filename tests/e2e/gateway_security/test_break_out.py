"""Nobody gets out of their tenant, whatever the path: raw over a socket, on the real server.

Its audit log is counted: what is refused, it never hears of.
"""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from tests.attacked import MALLORY, VALUES, Attacked, reply, request
from tests.backends import Backend
from tests.e2e.gateway_security.conftest import asked_of_vault
from tests.integration.conftest import eventually

NEVER = [
    b"..", b"../globex/app", b"app/../../globex/app", b"./app", b"app/.", b"app/..", b"%2e%2e/globex/app",
    b"%2E./globex/app",
    b".%2e/globex/app", b"%2e%2e%2fglobex%2fapp", b"..%2fglobex/app", b"%252e%252e/globex/app", b"..%255cglobex/app",
    b"..\\globex\\app", b"..%5cglobex%5capp", b"/globex/app", b"//globex/app", b"app//x", b"app/", b"/", b"", b"%2fapp",
    b"app%2f..%2f..%2fglobex%2fapp", b"..;/globex/app", b"app;/../../globex/app", b"app%00", b"app%00/../../globex/app",
    b"app%0d%0aX-Vault-Token:%20root", b"app%0a", b"app%0d", b"%ff", b"app%c0%af..%c0%afglobex",
    b"%c0%ae%c0%ae/globex/app",
    b"%e0%80%ae%e0%80%ae/globex/app", b"%ed%a0%80", b"%e2%80%a4%e2%80%a4/globex/app", b"%ef%bc%8e%ef%bc%8e/globex/app",
    b"..%ef%bc%8fglobex/app", b"..%e2%88%95..%00", b"cafe%cc%81", b"app%e2%80%8b", b"app%e2%80%ae", b"%ef%bb%bfapp",
    b"app%c2%a0",
    b"app%20", b"%20app", b"a%2", b"a%zz", b"a%", b"%25", b"*", b"+", b"app*", b"%7btenant%7d/app", b"app%3fversion=1",
    b"app%23", b"%u002e%u002e/globex/app", b"..%c1%9cglobex", b"a/" * 16 + b"a", b"a" * 129, b"a" * 1600,
]  # fmt: skip
"""What has a second spelling, or would be another path to somebody on the way: refused before anybody is asked."""
BELOW = [b"globex/app", b"globex", b"tenants/data/globex/app", b"data/globex/app", b"ACME/app", b".../app",
         b"..app", b"...", b"root/tenants/data/globex/app", b"sys/health", b"globex%3aapp", b"~globex/app"]  # fmt: skip
"""What leads nowhere else: paths like others, below the caller's own tenant, where there is nothing."""
ROUTES = [
    ("GET", b"/vault/secrets/", None),
    ("HEAD", b"/vault/secrets/", None),
    ("PUT", b"/vault/secrets/", {"data": {"by": "an attacker"}}),
    ("DELETE", b"/vault/secrets/", None),
    ("GET", b"/vault/versions/", None),
    ("POST", b"/vault/rollback/", {"version": 1}),
]
LISTED = ("GET", b"/vault/list/", None)


@pytest.mark.parametrize(("method", "route", "body"), [*ROUTES, LISTED])
def test_no_way_out_reaches_vault(gateway: Attacked, backend: Backend, method: str, route: bytes, body: Any) -> None:
    """A 400, 404 or 405, no value, and no request to the server at all."""
    since, jwt = backend.audit.position(), gateway.jwt()
    answers = {}
    for path in NEVER:
        if (method, route) == LISTED[:2] and path in (b"", b"app/"):
            continue  # which are prefixes
        raw = gateway.send(request(route + path, method, jwt, body))
        assert VALUES["globex"].encode() not in raw
        answers[path] = reply(raw).status
    assert {path: status for path, status in answers.items() if status not in (400, 404)} == {}
    assert asked_of_vault(backend, since) == []


@pytest.mark.parametrize(("method", "route", "body"), [*ROUTES[:2], *ROUTES[4:], LISTED])
def test_path_like_another_tenants_is_below_ones_own(
    gateway: Attacked, backend: Backend, method: str, route: bytes, body: Any
) -> None:
    since, jwt = backend.audit.position(), gateway.jwt()
    for path in BELOW:
        raw = gateway.send(request(route + path, method, jwt, body))
        assert VALUES["globex"].encode() not in raw
    own = ("tenants/data/acme/", "tenants/metadata/acme/")
    assert [path for path in asked_of_vault(backend, since) if not path.startswith(own)] == []


def test_batch_and_cursor_are_no_way_out(gateway: Attacked, backend: Backend) -> None:
    """Paths that come as JSON have the same one form; each is refused by itself, as the caller's mistake."""
    since = backend.audit.position()
    paths = [
        "../globex/app",
        "/globex/app",
        "app/",
        "app\0",
        "app\r\nx",
        "\ud800",
        "..\\globex",
        "\uff0e\uff0e/globex/app",
        "a%2e",
        "cafe\u0301",
    ]
    found = gateway.ask("/vault/batch", "POST", body={"paths": paths})
    assert [(each["status"], each["problem"]["type"][-12:]) for each in found.json["secrets"]] == [
        (400, "path-refused")
    ] * len(paths)
    for name in ("../globex", "/", "app\0", "\ud800"):
        after = base64.urlsafe_b64encode(name.encode("utf-8", "surrogatepass")).decode()
        assert gateway.ask(f"/vault/list/?after={after}").kind == "query-refused"
    assert asked_of_vault(backend, since) == []


@pytest.mark.parametrize(
    "target",
    [
        b"http://gateway/vault/secrets/../globex/app", b"http://gateway/vault/secrets/%2e%2e/globex/app",
        b"/vault/%73ecrets/app", b"/vault/./secrets/app", b"/vault//secrets/app", b"//vault/secrets/app",
        b"/VAULT/secrets/app",
        b"/vault/secrets/..;/..;/globex/app", b"/v1/tenants/data/globex/app", b"/vault/secrets/app/../../list/", b"*",
        b"/vault/secrets/\xc3\xa9", b"/vault/secrets/app\xff", b"http://gateway", b"gateway:443",
    ],
)  # fmt: skip
def test_odd_target_finds_nothing(gateway: Attacked, backend: Backend, target: bytes) -> None:
    """Absolute form, another spelling of the route, bytes that are no ASCII: 400 or 404, and nobody is asked."""
    since = backend.audit.position()
    raw = gateway.send(request(target, "GET", gateway.jwt()))
    assert reply(raw).status in (400, 404)
    assert b"canary" not in raw
    assert asked_of_vault(backend, since) == []


def test_host_and_headers_of_proxies_mean_nothing(gateway: Attacked) -> None:
    """CVE-2026-48710, and what makes other servers think of another path, user or method: it changes nothing."""
    jwt = gateway.jwt()
    odd = [
        {"Host": "x/../../vault/secrets/other?"}, {"Host": "a@b#c"}, {"Host": ""},
        {"X-Original-URL": "/vault/secrets/other"},
        {"X-Rewrite-URL": "/x"}, {"X-HTTP-Method-Override": "DELETE"}, {"X-Forwarded-Prefix": "/globex"},
        {"X-Vault-Token": "root"},
        {"X-Vault-Namespace": "globex"}, {"X-Vault-Inline-Auth-Path": "auth/x"}, {"X-Tenant": "globex"},
        {"Forwarded": "for=root"},
        {"Cookie": "tenant=globex"}, {"Range": "bytes=0-1"},
    ]  # fmt: skip
    for headers in odd:
        found = gateway.ask("/vault/secrets/app", jwt=jwt, **headers)
        assert (found.status, found.json["data"]) == (200, {"value": VALUES["acme"]})


PATHS = [
    (b"plain", "plain"), (b"caf%c3%a9/%e4%b8%ad", "café/中"), (b"a%20b", "a b"), (b"%61%42c", "aBc"),
    (b"x%3Dy&z", "x=y&z"), (b"q'%22%3C%3E|", "q'\"<>|"), (b"~user@host:1,2!$()", "~user@host:1,2!$()"),
    (b"a/b-c_d.e", "a/b-c_d.e"), (b"data/metadata/x", "data/metadata/x"),
]  # fmt: skip


@pytest.mark.parametrize(("raw", "path"), PATHS, ids=str)
def test_one_path_for_all(gateway: Attacked, backend: Backend, raw: bytes, path: str) -> None:
    """What is decided on, kept, logged, written down and asked of Vault is the same text."""
    since, target, number = backend.audit.position(), b"/vault/secrets/" + raw, f"number-{len(raw)}-{raw[0]}"
    assert gateway.ask(target, "PUT", body={"data": {"path": path}}, X_Request_Id=number).status == 201
    assert gateway.ask(target, X_Request_Id=number).json["data"] == {"path": path}
    assert set(asked_of_vault(backend, since)) == {f"tenants/data/acme/{path}"}
    eventually(lambda: len(gateway.lines(number)) == 2)  # the second is written once the answer is out
    assert [line["path"] for line in gateway.lines(number)] == [path, path]
    assert [json.loads(line)["path"] for line in gateway.trail.splitlines()[-3:]] == [path] * 3
    assert [place for place in gateway.gateway._cache._kept if place.path == f"acme/{path}"]


def test_spellings_of_one_path_share_an_entry(gateway: Attacked) -> None:
    """Percent-encoding that need not be, in capitals or not, is the one spelling that has several."""
    assert gateway.ask("/vault/secrets/app").status == 200
    for spelling in (b"%61pp", b"a%70%70", b"%61%70%70"):
        assert gateway.ask(b"/vault/secrets/" + spelling).headers["cache-status"].startswith("gateway; hit")


def test_equal_paths_are_two_secrets(gateway: Attacked) -> None:
    for person, tenant in (({}, "acme"), (MALLORY, "globex")):
        assert gateway.ask("/vault/secrets/app", jwt=gateway.jwt(person)).json["data"] == {"value": VALUES[tenant]}
