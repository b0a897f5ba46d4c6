"""The watch on the real server, with a clock that is set forward instead of waited for (that alone is a fake)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import hvac
import pytest

from issuer import Service, VaultTokenIssuer
from issuer.errors import NotReceived
from issuer.handover import Delivery, into_folder, receive
from issuer.watch import Watch
from tests.backends import Backend
from tests.issuing import ROLE, ShiftedClock, alive_on_server, client_of, in_ledger, is_alive, issuer_of, prepare, take
from vault_client import VaultClient
from vaultkit.transport.connection import ConnectionSettings


@pytest.fixture(scope="module")
def issuing(backend: Backend) -> Iterator[VaultClient]:
    with client_of(prepare(backend)) as client:
        yield client


@pytest.fixture
def clock() -> ShiftedClock:
    return ShiftedClock()


@pytest.fixture
def issuer(issuing: VaultClient, clock: ShiftedClock) -> VaultTokenIssuer:
    issuer = issuer_of(issuing, settle_after=60, clock=clock)
    issuer.revoke_all()
    return issuer


@pytest.fixture
def service(request: pytest.FixtureRequest) -> Service:
    return Service.of("shop", request.node.originalname)


def test_t3_token_is_rotated_at_four_fifths(
    backend: Backend, root: hvac.Client, issuer: VaultTokenIssuer, clock: ShiftedClock, service: Service
) -> None:
    """Not before; then the new one is delivered, and the old one is revoked when that is in use."""
    delivered: list[Delivery] = []
    watch = Watch(issuer, delivered.append, clock=clock)
    old = take(issuer.issue(service, ttl=600), backend.url)
    watch.turn()
    clock.set_forward(470)
    watch.turn()
    assert delivered == []
    clock.set_forward(15)
    watch.turn()
    assert [delivery.service for delivery in delivered] == [service]
    new = take(delivered[0], backend.url)
    clock.set_forward(6)
    watch.turn()
    assert (is_alive(old), is_alive(new), len(delivered)) == (False, True, 1)
    assert in_ledger(issuer) == alive_on_server(root)


def test_untaken_rotation_is_tried_again(
    backend: Backend, issuer: VaultTokenIssuer, clock: ShiftedClock, service: Service
) -> None:
    """What nobody unwraps in time is revoked, and another one is delivered."""
    delivered: list[Delivery] = []
    watch = Watch(issuer, delivered.append, clock=clock)
    old = take(issuer.issue(service, ttl=6000), backend.url)
    clock.set_forward(4801)
    watch.turn()
    clock.set_forward(121)
    watch.turn()
    clock.set_forward(6)
    watch.turn()
    assert len(delivered) == 2
    assert is_alive(old)
    assert len(list(issuer.issued(*service))) == 2


def test_three_watches_rotate_once(
    backend: Backend, issuer: VaultTokenIssuer, clock: ShiftedClock, service: Service
) -> None:
    """Whoever comes later sees that it is under way."""
    delivered: list[Delivery] = []
    watches = [Watch(issuer, delivered.append, clock=clock) for _ in range(3)]
    issuer.issue(service, ttl=600)
    clock.set_forward(481)
    for watch in watches:
        watch.turn()
    assert len(delivered) == 1


def test_failing_delivery_harms_no_other(
    issuer: VaultTokenIssuer, clock: ShiftedClock, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A folder that takes no file for one service takes it for the next; the log says what was seen."""
    watch = Watch(issuer, into_folder(tmp_path), clock=clock)
    for name in ("a", "b"):
        issuer.issue(Service.of("shop", name), ttl=600)
    (tmp_path / "shop-a.main").mkdir()
    (tmp_path / "shop-a.main" / "in_the_way").touch()
    clock.set_forward(481)
    watch.turn()
    assert (tmp_path / "shop-b.main").is_file()
    assert "shop-a, key main: " in caplog.text
    assert sorted(path.name for path in tmp_path.iterdir()) == ["shop-a.main", "shop-b.main"]


def test_watch_keeps_one_number_a_service(issuer: VaultTokenIssuer, clock: ShiftedClock, service: Service) -> None:
    """And asks of one that is not due for the list alone."""
    issuer.issue(service)
    watch = Watch(issuer, lambda delivery: None, clock=clock)
    watch.turn()
    with patch.object(issuer.ledger, "read", side_effect=AssertionError("an account was read")):
        watch.turn()


@pytest.mark.parametrize("what", ["forged", "used", "none"])
def test_p1_receiver_is_alarmed(
    backend: Backend, root: hvac.Client, issuer: VaultTokenIssuer, service: Service, what: str
) -> None:
    """By what somebody wrapped by hand, and by what was unwrapped before; the token is not quoted."""
    token = issuer.issue(service, replace=True).wrapping_token
    if what == "forged":
        header = {"X-Vault-Wrap-TTL": "60"}
        token = root.adapter.post("/v1/sys/wrapping/wrap", json={"a": "b"}, headers=header)["wrap_info"]["token"]
    elif what == "used":
        hvac.Client(url=backend.url, token=token).sys.unwrap()
    else:
        token = "s.nothing"
    with pytest.raises(NotReceived, match="an intruder may have the token") as caught:
        receive(token, ROLE, ConnectionSettings(url=backend.url))
    assert token not in str(caught.value)
