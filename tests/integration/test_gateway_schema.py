"""schemathesis reads gateway/api/openapi.json, and asks a gateway that runs for what that allows and what it does not.

Statuses, headers and bodies are held to the description; what is wrong must be refused, and what is right must not.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import settings
from requests.adapters import HTTPAdapter
from schemathesis.config import SchemathesisConfig

from tests.gateway_contract import DOCUMENT
from tests.gateway_process import Prepared, Running

EXAMPLES = 25
"""At random for each operation, beside those that schemathesis makes of every bound; the same at every run."""
CONFIG = SchemathesisConfig.from_dict(
    {
        "generation": {"codec": "ascii", "allow-x00": False},
        # What is right by itself may be wrong together (two conditions: 400; 258.0 as a number: 422), or of another
        # version than the one that is there (412).
        "checks": {
            "positive_data_acceptance": {"expected-statuses": ["2xx", "304", "400", "403", "404", "412", "422"]}
        },
    }
)
METHODS = {"get", "put", "post", "delete"}
DONE = {"read", "list", "write", "delete", "versions"}
"""For a rollback it would take the number of a version that is there still."""


class Slashes(HTTPAdapter):
    """Leaves slashes in a path as they are: OpenAPI has no word for a parameter of several segments."""

    def send(self, request: requests.PreparedRequest, *arguments: Any, **options: Any) -> requests.Response:
        path, mark, query = (request.url or "").partition("?")
        request.url = path.replace("%2F", "/") + mark + query
        return super().send(request, *arguments, **options)


@pytest.fixture(scope="module")
def gateway(gateway_server: Prepared) -> Iterator[Running]:
    with gateway_server.gateway() as running:
        yield running


@pytest.fixture(scope="module")
def session() -> Iterator[requests.Session]:
    with requests.Session() as session:
        session.mount("http://", Slashes())
        yield session


description = schemathesis.openapi.from_dict(DOCUMENT, config=CONFIG)


def held_to(method: str, path: str) -> Any:
    """The test of one operation."""

    @description.include(method=method, path=path).parametrize()
    @settings(max_examples=EXAMPLES, derandomize=True)
    def test(gateway: Running, session: requests.Session, case: schemathesis.Case[Any]) -> None:
        headers = {"Authorization": f"Bearer {gateway.token('alice')}"}
        case.call_and_validate(base_url=gateway.url, headers=headers, session=session)

    return test


# A name for each: schemathesis would call them all alike, and of several with one name xdist runs one.
for path, operations in DOCUMENT["paths"].items():
    for method in sorted(METHODS & operations.keys()):
        name = re.sub(r"\W+", "_", f"test_{method}_{path}").strip("_")
        globals()[name] = held_to(method.upper(), path)


def test_it_was_not_all_refused(gateway: Running) -> None:
    """Or nothing but that was tried: something of each verb was done."""
    lines = [json.loads(line) for line in gateway.log.read_text().splitlines() if '"verb"' in line]
    assert {line["verb"] for line in lines if line["status"] < 300} >= DONE
