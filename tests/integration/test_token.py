"""The token's life on a real server: renewal, max TTL, revocation, new generations."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime

import hvac
import pytest

from tests.backends import Backend
from tests.integration.conftest import Events, eventually, is_refused
from vault_client import VaultClient
from vaultkit.errors import LoginRefused, PermissionDenied
from vaultkit.events import LoggedIn, TokenLost, TokenRenewed, TokenRevoked
from vaultkit.worker import Worker


@contextmanager
def token_watcher(client: VaultClient) -> Iterator[None]:
    """What the application does, on the client alone."""
    stop = threading.Event()
    errors: list[Exception] = []
    watcher = Worker(
        "watcher",
        client.keep_token_alive,
        interval=client.seconds_to_next_look,
        stop=stop,
        on_error=errors.append,
    )
    watcher.start()
    yield
    stop.set()
    assert watcher.join(5)
    assert errors == []


def times_of(backend: Backend, since: int, path: str) -> list[float]:
    """When the server saw these requests, in seconds."""
    entries = [entry for entry in backend.audit.entries(since) if entry["request"]["path"] == path]
    return [datetime.fromisoformat(entry["time"][:26].rstrip("Z") + "+00:00").timestamp() for entry in entries]


def test_t3_renews_at_four_fifths(
    backend: Backend, client: VaultClient, approle: Callable[..., None], events: Events
) -> None:
    """A token of 10 s is renewed 8 s after each grant, and no login is needed."""
    approle(token_period="10s")
    since = backend.audit.position()
    with token_watcher(client):
        eventually(lambda: len(events.of(TokenRenewed)) >= 2)
    grants = times_of(backend, since, "auth/approle/login") + times_of(backend, since, "auth/token/renew-self")
    gaps = [later - earlier for earlier, later in itertools.pairwise(grants)]
    assert all(7.9 < gap < 10 for gap in gaps[:2])
    assert len(events.of(LoggedIn)) == 1


def test_t4_max_ttl_is_met_with_a_login(client: VaultClient, approle: Callable[..., None], events: Events) -> None:
    """The grant that shrinks near max TTL leads to a login before the token ends: it is never lost."""
    approle(token_period="0", token_ttl="14s", token_max_ttl="22s")
    with token_watcher(client):
        eventually(lambda: len(events.of(LoggedIn)) >= 2)
    assert events.of(TokenRenewed)[0].last
    assert not events.of(TokenLost)


def test_t5_batch_token_is_replaced(client: VaultClient, approle: Callable[..., None], events: Events) -> None:
    """A batch token can be neither renewed nor revoked; at 4/5 comes a login, and closing is no crash."""
    approle(token_type="batch", token_period="0", token_ttl="5s")
    with token_watcher(client):
        eventually(lambda: len(events.of(LoggedIn)) >= 2)
    client.close()
    assert not events.of(TokenRenewed)
    assert events.of(TokenRevoked)[0].error is not None


def test_t7_refused_login_says_why(make_client: Callable[..., VaultClient]) -> None:
    """A secret_id that Vault does not know."""
    with pytest.raises(LoginRefused, match="status 400"):
        make_client(VAULT_SECRET_ID="3ee5080b-c9b3-2714-799c-f8d45a715625").login()


def test_t7_wrong_secret_id_locks_nobody_out(make_client: Callable[..., VaultClient], backend: Backend) -> None:
    """However long a keeper, a pool and readers go on with it: the right one logs in beside them."""
    since = backend.audit.position()
    for _ in range(10):
        client = make_client(VAULT_SECRET_ID="3ee5080b-c9b3-2714-799c-f8d45a715625")
        client.keep_alive()
        for _ in range(3):
            with pytest.raises(LoginRefused):
                client.get_database_dynamic_secret("db-demo-dynamic")
    assert backend.audit.count(since)["auth/approle/login"] == 1
    make_client().login()


def test_e1_locked_role_is_told_of(root: hvac.Client, make_client: Callable[..., VaultClient], role_id: str) -> None:
    """After too many refused logins a right one is refused with 403: the message names the lock and the way out."""
    first, second = (root.auth.approle.generate_secret_id("locked")["data"]["secret_id"] for _ in range(2))
    for _ in range(6):
        with pytest.raises(hvac.exceptions.VaultError):
            hvac.Client(url=root.url).auth.approle.login(role_id, "wrong")
    client = make_client(VAULT_ROLE_ID=role_id, VAULT_SECRET_ID=first)
    with pytest.raises(LoginRefused, match=r"permission denied.*sys/locked-users/ACCESSOR/unlock/ROLE_ID") as caught:
        client.login()
    assert "no policy" not in str(caught.value)
    accessor = root.sys.list_auth_methods()["data"]["approle/"]["accessor"]
    root.adapter.post(f"/v1/sys/locked-users/{accessor}/unlock/{role_id}")
    make_client(VAULT_ROLE_ID=role_id, VAULT_SECRET_ID=second).login()


@pytest.fixture
def role_id(root: hvac.Client) -> Iterator[str]:
    """A role of this test's own, to be locked."""
    root.auth.approle.create_or_update_approle("locked")
    yield root.auth.approle.read_role_id("locked")["data"]["role_id"]
    root.auth.approle.delete_role("locked")


def test_e1_disabled_entity_is_no_missing_policy(root: hvac.Client, make_client: Callable[..., VaultClient]) -> None:
    """What the server says, and no cause that was not looked at."""
    entity = "/v1/identity/entity/name/my-vault-app"
    root.adapter.post(entity, json={"disabled": True})
    try:
        with pytest.raises(LoginRefused, match="permission denied") as caught:
            make_client().login()
    finally:
        root.adapter.post(entity, json={"disabled": False})
    assert "no policy" not in str(caught.value)


def test_e1_spent_token_is_no_missing_policy(
    make_client: Callable[..., VaultClient], root: hvac.Client, events: Events
) -> None:
    """Revoked by somebody else: the end says that Vault refused, not why."""
    client = make_client()
    client.login()
    token = client._token._token
    assert token is not None
    root.auth.token.revoke(token.api.token)
    client.close()
    assert "permission denied" in str(events.of(TokenRevoked)[0].error)
    assert "no policy" not in str(events.of(TokenRevoked)[0].error)


def test_t8_lease_of_the_old_token(
    root: hvac.Client, client: VaultClient, log_in_to_database: Callable[..., str]
) -> None:
    """After a new login the old user still works, so that it can drain; it dies with the old token."""
    old = client.get_database_dynamic_secret("db-demo-dynamic")
    old_token = client._token._token
    client.login()
    new = client.get_database_dynamic_secret("db-demo-dynamic")
    assert log_in_to_database(**old.data) == old.data["username"] != new.data["username"]
    assert old_token is not None
    root.auth.token.revoke(old_token.api.token)
    eventually(lambda: is_refused(log_in_to_database, old))
    assert log_in_to_database(**new.data) == new.data["username"]


def test_t9_token_revoked_from_outside(
    root: hvac.Client, client: VaultClient, backend: Backend, secret: str, events: Events
) -> None:
    """The next read logs in anew, once, and the leases that died with the token are replaced."""
    client.get_kv_secret(secret)
    lease = client.get_database_dynamic_secret("db-demo-dynamic")
    token = client._token._token
    assert token is not None
    root.auth.token.revoke(token.api.token)
    since = backend.audit.position()
    eventually(lambda: client.get_kv_secret(secret) and events.of(TokenLost))
    assert client.get_database_dynamic_secret("db-demo-dynamic").data != lease.data
    assert backend.audit.count(since)["auth/approle/login"] == 1


def test_t9_missing_permission_is_no_login(client: VaultClient, backend: Backend) -> None:
    """A path that no policy grants: the token is looked up once and kept."""
    client.login()
    client.engines["kv_secret"].mount = "somebody-elses-kv"
    since = backend.audit.position()
    with pytest.raises(PermissionDenied, match='"read" on "somebody-elses-kv/data/database"'):
        client.get_kv_secret("database")
    count = backend.audit.count(since)
    assert (count["auth/token/lookup-self"], count["auth/approle/login"]) == (1, 0)


def test_x1_close_revokes_token_and_leases(
    root: hvac.Client, client: VaultClient, log_in_to_database: Callable[..., str]
) -> None:
    """Nothing that was issued to us outlives us."""
    lease = client.get_database_dynamic_secret("db-demo-dynamic")
    token = client._token._token
    assert token is not None
    value = token.api.token
    client.close()
    with pytest.raises(hvac.exceptions.Forbidden):
        root.auth.token.lookup(value)
    eventually(lambda: is_refused(log_in_to_database, lease))


def test_token_info_without_asking(client: VaultClient, backend: Backend) -> None:
    """What the client knows of its token costs no request and shows no token."""
    client.login()
    since = backend.audit.position()
    info = client.get_token_info()
    assert (info.generation, info.renewable) == (1, True)
    assert "my-vault-app" in info.policies  # beside those of rooms that were prepared on this server
    assert 55 < info.ttl <= 60
    assert backend.audit.entries(since) == []


def test_renew_token_grants_the_full_ttl(client: VaultClient, approle: Callable[..., None]) -> None:
    """A periodic token gets its whole period again."""
    approle(token_period="30s")
    client.login()
    assert 20 < client.renew_token().ttl <= 30
