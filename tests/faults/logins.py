"""Tenants that log in otherwise than with a secret_id, and what goes wrong with that."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import hvac

from tests.faults.tenant import Tenant
from tests.login_methods import (
    Prepared,
    PreparedJwt,
    PreparedKubernetes,
    PreparedToken,
    PreparedWrapped,
    prepared_server,
)

LogIn = Callable[[Tenant, Path], AbstractContextManager[Prepared]]


@contextmanager
def by_kubernetes(tenant: Tenant, folder: Path) -> Iterator[Prepared]:
    """With an API server of its own, a stand-in."""
    with prepared_server(tenant.root, of=f"-{tenant.name}") as (reviews, signer):
        mount = f"kubernetes-{tenant.name}"
        yield PreparedKubernetes(*place_of(tenant, folder), reviews=reviews, signer=signer, mount=mount)


@contextmanager
def by_jwt(tenant: Tenant, folder: Path) -> Iterator[Prepared]:
    with prepared_server(tenant.root, of=f"-{tenant.name}") as (_, signer):
        yield PreparedJwt(*place_of(tenant, folder), signer=signer, mount=f"jwt-{tenant.name}")


@contextmanager
def by_wrapped_secret_id(tenant: Tenant, folder: Path) -> Iterator[Prepared]:
    _, *place = place_of(tenant, folder)
    yield PreparedWrapped(f"{tenant.name}-wrapped", *place)


@contextmanager
def by_token(tenant: Tenant, folder: Path) -> Iterator[Prepared]:
    yield PreparedToken(*place_of(tenant, folder))


def place_of(tenant: Tenant, folder: Path) -> tuple[str, hvac.Client, Path, list[str]]:
    return tenant.name, tenant.root, folder, ["default", tenant.name]


# ── What goes wrong ──────────────────────────────────────────────────────────────────────────────────────────────────


def api_server(tenant: Tenant, state: str) -> None:
    assert isinstance(tenant.login, PreparedKubernetes)
    tenant.login.reviews.state = state


def hand_over_jwt(tenant: Tenant, lasts: float) -> None:
    assert isinstance(tenant.login, PreparedJwt)
    tenant.login.hand_over(lasts=lasts)


def use_up_wrapping_token(tenant: Tenant) -> None:
    """Another secret_id is handed over, and somebody else is faster."""
    assert isinstance(tenant.login, PreparedWrapped)
    token = tenant.login.wrap()
    tenant.root.sys.unwrap(token)
    tenant.login.write("wrapped", token)


def let_token_expire(tenant: Tenant) -> None:
    """As if its time were over: Vault forgets it in a second."""
    assert isinstance(tenant.login, PreparedToken)
    tenant.root.auth.token.renew(tenant.login.token, increment="1s")
