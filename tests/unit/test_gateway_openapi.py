"""gateway/api/openapi.json says what the code does: routes, methods, problems; no more and no less."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from gateway.api.asked import ETAG
from gateway.api.routes import ENDPOINTS, MOST_NAMES_ON_A_PAGE, NAMES_ON_A_PAGE, Endpoint
from gateway.bodies import GREATEST_NUMBER
from gateway.fields import LOOKS_LIKE_TOKEN
from gateway.gateway import VERSION
from gateway.paths import PathRefused, canonical_prefix, checked
from gateway.problems import KINDS, TYPE
from gateway.settings import LimitsSettings
from gateway.store import etag_of
from tests.gateway_contract import DOCUMENT, METHODS, check, error_in, resolved, responses_to, template_of

COMPONENTS = DOCUMENT["components"]


def operations() -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    for template, item in DOCUMENT["paths"].items():
        for method in METHODS:
            if method in item:
                yield template, method, item[method]


def kinds_in(response: Mapping[str, Any]) -> set[str]:
    """The kinds of problem that a response may be."""
    schema = response.get("content", {}).get("application/problem+json", {}).get("schema")
    return {each.removeprefix(TYPE) for each in schema["allOf"][1]["properties"]["type"]["enum"]} if schema else set()


def references(part: Any) -> Iterator[str]:
    for value in part.values() if isinstance(part, dict) else part if isinstance(part, list) else ():
        yield from references(value)
    if isinstance(part, dict) and "$ref" in part:
        yield part["$ref"]


@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=lambda endpoint: endpoint.template)
def test_route_has_its_methods(endpoint: type[Endpoint]) -> None:
    """Every GET may be asked as HEAD, as the description says of all of them."""
    has = {method for method in METHODS if hasattr(endpoint, method)}
    assert has == {method for template, method, _ in operations() if template == endpoint.template}
    assert not hasattr(endpoint, "head")


def test_nothing_else_is_described() -> None:
    assert {endpoint.template for endpoint in ENDPOINTS} == set(DOCUMENT["paths"])
    assert DOCUMENT["info"]["version"] == VERSION


def test_every_kind_of_problem_is_described() -> None:
    """Each under one status, which is its own, and with what goes along with that."""
    found = {name: kinds_in(response) for name, response in COMPONENTS["responses"].items()}
    assert sorted(kind for kinds in found.values() for kind in kinds) == sorted(KINDS)
    for name, kinds in found.items():
        assert len({KINDS[kind].status for kind in kinds}) == 1
        headers = COMPONENTS["responses"][name]["headers"]
        assert {bool(KINDS[kind].retry_after) for kind in kinds} == {"Retry-After" in headers}


@pytest.mark.parametrize(("template", "method", "operation"), [*operations()], ids=lambda value: str(value)[:30])
def test_problem_stands_under_its_status(template: str, method: str, operation: Mapping[str, Any]) -> None:
    for status, response in operation["responses"].items():
        assert {str(KINDS[kind].status) for kind in kinds_in(resolved(response))} <= {status}


@pytest.mark.parametrize(("template", "method", "operation"), [*operations()], ids=lambda value: str(value)[:30])
def test_every_operation_passes_the_gate(template: str, method: str, operation: Mapping[str, Any]) -> None:
    """A token is wanted; ids go in, and ids and no-store come back, whatever is answered."""
    assert DOCUMENT["security"] == [{"bearer": []}]
    assert "security" not in operation
    assert {"401", "403", "431", "500", "503"} <= set(operation["responses"])
    own = [*DOCUMENT["paths"][template].get("parameters", []), *operation.get("parameters", [])]
    names = [resolved(each)["name"] for each in own]
    assert {"X-Request-Id", "traceparent"} <= set(names)
    assert len(set(names)) == len(names)
    for response in operation["responses"].values():
        assert {"X-Request-Id", "Cache-Control"} <= set(resolved(response)["headers"])


def test_references_lead_somewhere_and_all_is_used() -> None:
    """But for the two answers to what is no operation, which the description names."""
    used = set(references(DOCUMENT))
    there = {f"#/components/{kind}/{name}" for kind in COMPONENTS for name in COMPONENTS[kind]}
    alone = {"#/components/responses/NoSuchRoute", "#/components/responses/NoSuchMethod"}
    assert there - used == {"#/components/securitySchemes/bearer", *alone, "#/components/headers/Allow"} - used
    assert used <= there
    assert all(name.rpartition("/")[2] in DOCUMENT["info"]["description"] for name in alone)


def test_bounds_are_those_of_the_code() -> None:
    limits, parameters = LimitsSettings(), {each["name"]: each for each in COMPONENTS["parameters"].values()}
    limit = parameters["limit"]["schema"]
    assert (limit["default"], limit["maximum"]) == (NAMES_ON_A_PAGE, MOST_NAMES_ON_A_PAGE)
    schemas = COMPONENTS["schemas"]
    assert schemas["Paths"]["properties"]["paths"]["maxItems"] == limits.batch
    assert {f"{limits.body_size} bytes", f"{limits.depth} levels", f"{limits.keys} keys"} <= set(
        re.findall(r"\d+ \w+", schemas["NewSecret"]["description"])
    )
    assert schemas["Value"]["anyOf"][1]["maximum"] == GREATEST_NUMBER


@pytest.mark.parametrize(
    "path",
    ["app", "team/db", "a b", "a ", " a", "a /b", "a/ b", "café", "..a", "a..", "/".join("abcdefghijklmnop"), "x" * 128,
     "", "/", "a/", "/a", "a//b", ".", "..", "a/../b", "./a", "a/.", "a;b", "a?b", "a#b", "a%2fb", "a\\b", "{a}", "a*",
     "a+", "a\x00", "a\nb", "a\x7fb", "x" * 129, "/".join("abcdefghijklmnopq")],
)  # fmt: skip
def test_pattern_of_a_path_is_that_of_the_code(path: str) -> None:
    """For what a pattern can say; normal forms and invisible characters are told of in words."""
    found = {"Path": checked, "Prefix": lambda text: canonical_prefix(text.replace(" ", "%20").encode())}
    for name, code in found.items():
        if not (name == "Prefix" and not path.isascii()):
            described = error_in(COMPONENTS["parameters"][name]["schema"], path) is None
            assert described == is_taken(code, path), name


def is_taken(code: Any, path: str) -> bool:
    try:
        code(path)
    except PathRefused:
        return False
    return True


def test_etag_is_that_of_the_code() -> None:
    etag = etag_of(7, "2026-11-23T19:12:51.156781979Z")
    assert error_in(COMPONENTS["headers"]["ETag"]["schema"], etag) is None
    for name, anything in (("IfMatch", "*"), ("IfMatch", etag), ("IfNoneMatchCreate", "*")):
        assert error_in(COMPONENTS["parameters"][name]["schema"], anything) is None
    for wrong in ('"7"', 'W/"7-0123456789ab"', f"{etag}, {etag}", ""):
        assert error_in(COMPONENTS["parameters"]["IfMatch"]["schema"], wrong) is not None
        assert not ETAG.fullmatch(wrong)


def test_examples_are_right_and_tell_nothing() -> None:
    """They are what is described, and hold nothing that looks like a credential."""
    for _, _, operation in operations():
        for content in operation.get("requestBody", {}).get("content", {}).values():
            assert error_in(content["schema"], content["example"]) is None
    text = json.dumps(DOCUMENT).replace("Bearer realm", "")
    assert not LOOKS_LIKE_TOKEN.search(text)
    assert not re.search(r"passw|api_key|secret_id|hunter2|eyJ", text, re.IGNORECASE)


# ── What holds answers to it ─────────────────────────────────────────────────────────────────────────────────────────

GOOD = {"x-request-id": "r-1", "cache-control": "no-store", "content-type": "application/problem+json"}
PROBLEM = {"type": f"{TYPE}route-not-found", "title": "t", "status": 404, "instance": "r-1"}


@pytest.mark.parametrize(
    ("status", "headers", "body"),
    [
        (405, {}, {}),
        (404, {"x-request-id": None}, {}),
        (404, {"cache-control": "private"}, {}),
        (404, {"content-type": "application/json"}, {}),
        (404, {}, {"type": f"{TYPE}secret-not-found"}),
        (404, {}, {"type": None}),
        (404, {}, {"value": "canary"}),
    ],
)
def test_contract_is_broken(status: int, headers: dict[str, Any], body: dict[str, Any]) -> None:
    """By any status, header or member that is not described; and the good one is good."""
    check("GET", "/nothing", 404, GOOD, json.dumps(PROBLEM).encode())
    sent = {name: value for name, value in {**GOOD, **headers}.items() if value is not None}
    with pytest.raises(AssertionError) as broken:
        check("GET", "/nothing", status, sent, json.dumps({**PROBLEM, **body}).encode())
    assert "canary" not in str(broken.value)


def test_templates_are_found() -> None:
    assert template_of("/vault/secrets/a/b") == "/vault/secrets/{path}"
    assert template_of("/vault/batch") == "/vault/batch"
    assert template_of("/vault/batch/x") is template_of("/vault") is None
    assert set(responses_to("HEAD", "/openapi.json")) == set(responses_to("GET", "/openapi.json"))
    assert "405" in responses_to("PATCH", "/vault/secrets/a")
