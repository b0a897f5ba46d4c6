"""A client on a fake Vault and a fake clock."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from config_loader import VaultConfig
from tests.fakes import ROLE_ID, SECRET_ID, FakeClock, FakeVault
from vault_client import VaultClient
from vaultkit.events import Event

ClientFactory = Callable[..., VaultClient]


@pytest.fixture(autouse=True)
def same_chance() -> None:
    """What the client does by chance, as when it spreads full reads and tries again, is the same at each run."""
    random.seed(1)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def vault(clock: FakeClock) -> FakeVault:
    return FakeVault(clock)


@pytest.fixture
def events() -> list[Event]:
    return []


@pytest.fixture
def make_client(vault: FakeVault, clock: FakeClock, events: list[Event]) -> Iterator[ClientFactory]:
    """Makes clients; settings are given as environment variables."""
    with ExitStack() as stack:

        def make(**environ: str) -> VaultClient:
            environ = {"VAULT_ROLE_ID": ROLE_ID, "VAULT_SECRET_ID": SECRET_ID, **environ}
            client = VaultClient(
                VaultConfig.load(environ=environ),
                clock=clock,
                session=lambda: vault.session(),
                listeners=[events.append],
            )
            return stack.enter_context(client)

        yield make


@pytest.fixture
def client(make_client: ClientFactory) -> VaultClient:
    return make_client()
