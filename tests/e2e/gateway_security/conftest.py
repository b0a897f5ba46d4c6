"""One prepared server, and one gateway in each mode, for all tests of this folder."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.attacked import Attacked, attacked, prepared
from tests.backends import Backend
from tests.identity_provider import Provider


@pytest.fixture(scope="package")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("gateway-security")


@pytest.fixture(scope="package")
def provider(backend: Backend, files: Path) -> Iterator[Provider]:
    with prepared(backend, files) as provider:
        yield provider


@pytest.fixture(scope="package")
def gateway(backend: Backend, provider: Provider, files: Path) -> Iterator[Attacked]:
    """With act_as = service."""
    with attacked(backend.url, provider, files) as running:
        yield running


@pytest.fixture(scope="package")
def as_callers(backend: Backend, provider: Provider, files: Path) -> Iterator[Attacked]:
    """With act_as = caller, inline. A value is asked about once in an hour, or a right would end by that, too."""
    settings = {"GATEWAY_ACT_AS": "caller", "GATEWAY_CACHE_REFRESH_INTERVAL": "3600"}
    with attacked(backend.url, provider, files, **settings) as running:
        yield running


def asked_of_vault(backend: Backend, since: int) -> list[str]:
    """The paths of all requests that have to do with secrets, whoever made them."""
    with (backend.folder / "audit.log").open("rb") as log:
        log.seek(since)
        entries = [json.loads(line) for line in log if line.endswith(b"\n")]
    found = [entry["request"]["path"] for entry in entries if entry["type"] == "request"]
    return [path for path in found if not path.startswith(("auth/", "sys/", "identity/"))]
