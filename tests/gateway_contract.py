"""What gateway/api/openapi.json promises, and whether an answer keeps it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import jsonschema_rs

PATH = Path(__file__).parent.parent / "gateway" / "api" / "openapi.json"
DOCUMENT: dict[str, Any] = json.loads(PATH.read_text(encoding="utf-8"))
METHODS = ("get", "put", "post", "delete")
OF_THE_GATE = ("401", "403", "431", "500", "503")
"""What is answered before it is known which route it is."""


def resolved(part: Mapping[str, Any]) -> Mapping[str, Any]:
    """What is meant, if it is a reference to another place of the document."""
    found: Any = part
    if "$ref" in part:
        found = DOCUMENT
        for name in part["$ref"].removeprefix("#/").split("/"):
            found = found[name]
    return dict(found)


def template_of(path: str) -> str | None:
    """The route that a path is of."""
    for template in DOCUMENT["paths"]:
        begins, _, open_end = template.partition("{")
        if path.startswith(begins) if open_end else path == template:
            return str(template)
    return None


def responses_to(method: str, path: str) -> Mapping[str, Any]:
    """What may be answered, by status. A HEAD is a GET without a body."""
    template = template_of(path)
    operations = DOCUMENT["paths"][template] if template else {}
    operation = operations.get("get" if method == "HEAD" else method.lower())
    if operation:
        return dict(operation["responses"])
    common = DOCUMENT["paths"]["/openapi.json"]["get"]["responses"]
    gate = {status: common[status] for status in OF_THE_GATE}
    names = {"405": "NoSuchMethod"} if template else {"404": "NoSuchRoute", "400": "BadRequest"}
    return {**gate, **{status: DOCUMENT["components"]["responses"][name] for status, name in names.items()}}


def check(method: str, target: str, status: int, headers: Mapping[str, str], body: bytes) -> None:
    """Fail if this is an answer that is not documented: its status, its headers, its body."""
    responses = responses_to(method, target.partition("?")[0])
    where = f"{method} {target} → {status}"
    assert str(status) in responses, f"{where}: documented are {', '.join(responses)}"
    response = resolved(responses[str(status)])
    for name, about in response["headers"].items():
        check_header(f"{where}: {name}", resolved(about), headers.get(name.lower()))
    content = response.get("content", {})
    assert (headers.get("content-type") in content) if content else (not body and "content-type" not in headers), where
    if content and method != "HEAD":
        problem = error_in(content[headers["content-type"]]["schema"], json.loads(body))
        assert problem is None, f"{where}: {problem}"


def check_header(where: str, about: Mapping[str, Any], value: str | None) -> None:
    if value is None:
        assert not about.get("required"), f"{where} is missing"
        return
    schema = about["schema"]
    problem = error_in(schema, int(value) if schema["type"] == "integer" else value)
    assert problem is None, f"{where}: {problem}"


def error_in(schema: Mapping[str, Any], value: Any) -> str | None:
    """What is wrong with a value; not the value itself, which may be a secret."""
    error = next(validator(json.dumps(schema)).iter_errors(value), None)
    return None if error is None else f"{list(error.instance_path)} breaks {list(error.schema_path)}"


@lru_cache(1000)
def validator(schema: str) -> jsonschema_rs.Draft202012Validator:
    whole = {**json.loads(schema), "components": DOCUMENT["components"]}
    return jsonschema_rs.Draft202012Validator(whole, validate_formats=True)
