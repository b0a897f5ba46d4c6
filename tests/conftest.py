"""Where the tests run: on embedded servers, or with --backend=docker on containers."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from typing import Any

import hvac
import pytest
from hypothesis import HealthCheck, settings

from tests.backends import Backend, containers, embedded
from tests.gateway_process import Prepared, prepared_server
from tests.tools import skip_without_tool, tell_of_missing
from vaultkit.auth.login import LOGINS

# --hypothesis-profile=thorough looks for what the same few examples at each run do not show.
settings.register_profile("quick", max_examples=30, derandomize=True, deadline=None, suppress_health_check=HealthCheck)
settings.register_profile("thorough", max_examples=1000, deadline=None, suppress_health_check=HealthCheck)
settings.load_profile("quick")

ROLE = "/v1/auth/approle/role/my-vault-app"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--backend", choices=("embedded", "docker"), default="embedded", help="servers from wheels, or containers"
    )
    parser.addoption("--full", action="store_true", help="faults of a minute; writes docs/RELIABILITY.md")
    parser.addoption("--vault-image", default="hashicorp/vault:1.21", help="for --backend=docker [%(default)s]")
    parser.addoption("--postgres-image", default="postgres:17", help="for --backend=docker [%(default)s]")


def pytest_configure() -> None:
    # A test run that is ended with SIGTERM stops its servers, as one that is ended with Ctrl+C does.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    # One in the background of a script ignores Ctrl+C, and all that it starts would, too.
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_runtest_setup(item: pytest.Item) -> None:
    skip_without_tool(item)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    tell_of_missing(terminalreporter)


@pytest.fixture(autouse=True)
def no_refused_logins() -> None:
    """What one test had refused is not refused to the next."""
    LOGINS.clear()


@pytest.fixture(scope="session")
def backend(request: pytest.FixtureRequest) -> Iterator[Backend]:
    """One server and one database for all tests; each test makes what it changes."""
    option = request.config.getoption
    if option("--backend") == "docker":
        running = containers(option("--vault-image"), option("--postgres-image"))
    else:
        running = embedded()
    with running as backend:
        yield backend


@pytest.fixture(scope="module")
def gateway_server(backend: Backend, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prepared]:
    """The server with all that the gateway needs; each module has gateways of its own on it."""
    with prepared_server(backend, tmp_path_factory.mktemp("gateway")) as prepared:
        yield prepared


@pytest.fixture
def root(backend: Backend) -> hvac.Client:
    """The operator of the server."""
    return backend.root


@pytest.fixture
def approle(root: hvac.Client) -> Iterator[Callable[..., None]]:
    """Changes the AppRole's token settings for one test."""

    def change(**settings: str) -> None:
        root.adapter.post(ROLE, json=settings)

    yield change
    change(token_type="service", token_period="1m", token_ttl="0", token_max_ttl="0")
