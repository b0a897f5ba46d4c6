"""The secrets on a real server and a real database."""

from __future__ import annotations

import re
import time
import timeit
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import hvac
import psycopg
import pytest
from psycopg import sql

from tests.backends import Backend
from tests.integration.conftest import Events, eventually, is_refused, put
from vault_client import VaultClient
from vaultkit.errors import LoginRefused, ResponseTooLarge, SecretDeleted, SecretNotFound, VaultError
from vaultkit.events import LeaseRenewed, LeaseUnusable, NoLeaseRenewal, NoScan, NoVersionQuery, SecretChanged
from vaultkit.secret import Secret

KV, DATABASE = "my-vault-app-kv", "my-vault-app-database"
TURN_SECONDS = 1.0


def read_until(client: VaultClient, path: str, condition: Callable[[Any], Any]) -> Any:
    return eventually(lambda: condition(client.get_kv_secret(path)))


class TestKv:
    def test_k1_changed_secret_is_seen(self, root: hvac.Client, client: VaultClient, secret: str) -> None:
        """A new version is read at the next refresh."""
        assert client.get_kv_secret(secret).data == {"value": "one"}
        put(root, secret, value="two")
        assert read_until(client, secret, lambda got: got.version == 2 and got.data == {"value": "two"})

    def test_k1_recreated_secret_is_seen(self, root: hvac.Client, client: VaultClient, secret: str) -> None:
        """Deleted with its metadata and written anew, it is version 1 with another creation time."""
        client.get_kv_secret(secret)
        root.secrets.kv.v2.delete_metadata_and_all_versions(secret, mount_point=KV)
        put(root, secret, value="again")
        assert read_until(client, secret, lambda got: got.version == 1 and got.data == {"value": "again"})

    def test_k1_rolled_back_secret_is_seen(self, root: hvac.Client, client: VaultClient, secret: str) -> None:
        """A rollback writes the old value as a new version."""
        put(root, secret, value="two")
        client.get_kv_secret(secret)
        put(root, secret, value="one")
        assert read_until(client, secret, lambda got: got.version == 3 and got.data == {"value": "one"})

    @pytest.mark.parametrize("fate", ["deleted", "destroyed", "metadata gone"])
    def test_k3_gone_secret_is_an_error(self, root: hvac.Client, client: VaultClient, secret: str, fate: str) -> None:
        """Within a refresh the cached value is no longer served; written again, it is there again."""
        client.get_kv_secret(secret)
        if fate == "deleted":
            root.secrets.kv.v2.delete_latest_version_of_secret(secret, mount_point=KV)
        elif fate == "destroyed":
            root.secrets.kv.v2.destroy_secret_versions(secret, [1], mount_point=KV)
        else:
            root.secrets.kv.v2.delete_metadata_and_all_versions(secret, mount_point=KV)

        def error() -> VaultError | None:
            try:
                client.get_kv_secret(secret)
            except VaultError as error:
                return error
            return None

        gone = eventually(error)
        assert type(gone) is (SecretNotFound if fate == "metadata gone" else SecretDeleted)
        assert fate == "metadata gone" or fate in str(gone)
        put(root, secret, value="back")
        eventually(lambda: error() is None)
        assert client.get_kv_secret(secret).data == {"value": "back"}

    def test_k2_policy_without_metadata(
        self, root: hvac.Client, backend: Backend, client: VaultClient, secret: str, events: Events
    ) -> None:
        """The values are read each time, after one warning."""
        policy = root.sys.read_policy("my-vault-app")["data"]["rules"]
        root.sys.create_or_update_policy("my-vault-app", policy.replace("-kv/metadata/*", "-kv/nothing/*"))
        try:
            client.get_kv_secret(secret)
            put(root, secret, value="two")
            assert read_until(client, secret, lambda got: got.version == 2)
            since = backend.audit.position()
            time.sleep(0.15)
            client.get_kv_secret(secret)
            assert backend.audit.count(since) == {f"{KV}/data/{secret}": 1}
        finally:
            root.sys.create_or_update_policy("my-vault-app", policy)
        assert len(events.of(NoVersionQuery)) == 1

    def test_c1_fifty_threads_ask_once(
        self, make_client: Callable[..., VaultClient], backend: Backend, secret: str
    ) -> None:
        """By the server's own log: one login, one read."""
        client, since = make_client(), backend.audit.position()
        with ThreadPoolExecutor(50) as pool:
            versions = set(pool.map(lambda _: client.get_kv_secret(secret).version, range(50)))
        assert versions == {1}
        assert backend.audit.count(since) == {"auth/approle/login": 1, f"{KV}/data/{secret}": 1}

    def test_h1_response_over_the_limit(
        self, root: hvac.Client, make_client: Callable[..., VaultClient], secret: str
    ) -> None:
        """The error names the setting, and the setting helps."""
        put(root, secret, value="x" * 5000)
        with pytest.raises(ResponseTooLarge, match=r"4096 bytes.*\[http\] max_response_size"):
            make_client().get_kv_secret(secret)
        large = make_client(HTTP_MAX_RESPONSE_SIZE="8192").get_kv_secret(secret)
        assert len(large.data["value"]) == 5000


class TestPrefix:
    @pytest.fixture
    def client(self, make_client: Callable[..., VaultClient]) -> VaultClient:
        """A client that asks again after a turn, in which all the requests of one have room."""
        return make_client(KV_SECRET_REFRESH_INTERVAL=str(TURN_SECONDS))

    @pytest.fixture
    def below(self, root: hvac.Client) -> Iterator[list[str]]:
        """Secrets below a prefix, one of them deeper, beside one that is deleted."""
        paths = [f"prefix/{name}" for name in ("a", "b", "deep/c")]
        for path in [*paths, "prefix/gone"]:
            put(root, path, value="one")
        root.secrets.kv.v2.delete_latest_version_of_secret("prefix/gone", mount_point=KV)
        yield paths
        for path in [*paths, "prefix/gone"]:
            root.secrets.kv.v2.delete_metadata_and_all_versions(path, mount_point=KV)

    def test_k5_one_request_tells_all_versions(
        self, root: hvac.Client, client: VaultClient, backend: Backend, below: list[str]
    ) -> None:
        """By the server's own log: one scan, and a read of the one that changed."""
        assert set(client.get_kv_secrets("prefix/*")) == set(below)
        put(root, "prefix/deep/c", value="two")
        time.sleep(TURN_SECONDS)
        since = backend.audit.position()
        assert client.get_kv_secrets("prefix/*")["prefix/deep/c"].data == {"value": "two"}
        assert backend.audit.count(since) == {f"{KV}/detailed-metadata/prefix/": 1, f"{KV}/data/prefix/deep/c": 1}

    def test_k5_policy_without_scan(
        self, root: hvac.Client, client: VaultClient, backend: Backend, below: list[str], events: Events
    ) -> None:
        """As on a Vault: names are listed, each secret is asked for its version, after one warning."""
        policy = root.sys.read_policy("my-vault-app")["data"]["rules"]
        root.sys.create_or_update_policy("my-vault-app", policy.replace("detailed-metadata", "nothing"))
        try:
            assert set(client.get_kv_secrets("prefix/*")) == set(below)
            put(root, "prefix/a", value="two")
            time.sleep(TURN_SECONDS)
            since = backend.audit.position()
            assert client.get_kv_secrets("prefix/*")["prefix/a"].version == 2
            count = backend.audit.count(since)
        finally:
            root.sys.create_or_update_policy("my-vault-app", policy)
        assert (count[f"{KV}/metadata/prefix/"], count[f"{KV}/metadata/prefix/deep/"]) == (1, 1)
        assert [count[f"{KV}/metadata/{path}"] for path in below] == [1, 1, 1]
        assert len(events.of(NoScan)) == 1

    def test_h1_listing_over_the_limit(
        self, make_client: Callable[..., VaultClient], below: list[str], secret: str, events: Events
    ) -> None:
        """It has a limit of its own, which the warning names; the names alone fit, and the values keep their limit."""
        client = make_client(HTTP_MAX_LISTING_SIZE="256")
        assert set(client.get_kv_secrets("prefix/*")) == set(below)
        (event,) = events.of(NoScan)
        assert re.search(r"256 bytes.*\[http\] max_listing_size", str(event.error))
        assert client.get_kv_secret(secret).version == 1


class TestDatabase:
    def test_d1_credentials_open_the_database(
        self, client: VaultClient, log_in_to_database: Callable[..., str]
    ) -> None:
        """Dynamic and static ones; and a wrong password is really refused."""
        for secret in (
            client.get_database_dynamic_secret("db-demo-dynamic"),
            client.get_database_static_secret("db-demo-static"),
        ):
            assert log_in_to_database(**secret.data) == secret.data["username"]
            with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
                log_in_to_database(secret.data["username"], "wrong")

    def test_d1_lease_is_replaced_in_time(
        self, root: hvac.Client, client: VaultClient, log_in_to_database: Callable[..., str], events: Events
    ) -> None:
        """With leases of 2 s, every credential that is handed out works at once, over three leases.

        A fifth of the lease is left at least; who takes longer than that to use it comes too late.
        """
        role = "/v1/my-vault-app-database/roles/db-demo-dynamic"
        root.adapter.post(role, json={"db_name": "postgres", "default_ttl": "2s", **creation_of(root)})
        try:
            while len(events.of(SecretChanged)) < 4:
                asked = time.monotonic()
                lease = client.get_database_dynamic_secret("db-demo-dynamic")
                assert (lease.ttl or 0) > 0 or time.monotonic() - asked > 0.4
                assert not is_refused(log_in_to_database, lease) or time.monotonic() - asked > 0.4
        finally:
            root.adapter.post(role, json={"db_name": "postgres", "default_ttl": "1m", **creation_of(root)})

    def test_d1_renewed_user_may_log_in_longer(
        self, short_role: str, renewing: VaultClient, log_in_to_database: Callable[..., str],
        valid_until: Callable[[Secret], Any],
    ) -> None:  # fmt: skip
        """The server renews what the database knows of it, too, to the second."""
        at_first: dict[str, Any] = {}

        def renewed() -> Secret | None:
            got = renewing.get_database_dynamic_secret(short_role)
            until = valid_until(got)
            return got if until and until > at_first.setdefault(got.data["username"], until) else None

        lease = eventually(renewed)
        assert log_in_to_database(**lease.data) == lease.data["username"]

    def test_d1_revoked_lease_is_replaced(
        self, root: hvac.Client, short_role: str, renewing: VaultClient, events: Events
    ) -> None:
        """The server refuses to renew it: there are new credentials at once, and no error."""
        first = renewing.get_database_dynamic_secret(short_role)
        root.sys.revoke_lease(first.lease_id)
        new = eventually(lambda: (got := renewing.get_database_dynamic_secret(short_role)) is not first and got)
        assert new.data != first.data
        assert events.of(LeaseRenewed) == []

    def test_d3_policy_without_renewal(
        self, root: hvac.Client, short_role: str, renewing: VaultClient, backend: Backend, events: Events
    ) -> None:
        """Credentials are replaced each time, after one warning with the server's words and the path."""
        policy = root.sys.read_policy("my-vault-app")["data"]["rules"]
        root.sys.create_or_update_policy("my-vault-app", policy.replace("sys/leases/renew", "sys/leases/nothing"))
        since = backend.audit.position()
        try:
            eventually(lambda: renewing.get_database_dynamic_secret(short_role).revision == 3)
        finally:
            root.sys.create_or_update_policy("my-vault-app", policy)
        assert backend.audit.count(since)["sys/leases/renew"] == 1
        (warning,) = events.of(NoLeaseRenewal)
        assert re.search(r'permission denied.*"update" on "sys/leases/renew"', str(warning.error))

    def test_missing_roles_are_told(self, client: VaultClient) -> None:
        """Vault calls an unknown role a bad request."""
        for get in (client.get_database_dynamic_secret, client.get_database_static_secret):
            with pytest.raises(SecretNotFound, match='no role "nobody" at my-vault-app-database'):
                get("nobody")

    def test_s1_rotation_between_two_reads(
        self,
        client: VaultClient,
        backend: Backend,
        rotating_role: str,
        log_in_to_database: Callable[..., str],
        events: Events,
    ) -> None:
        """A role that rotates every 5 s: the new password is there as soon as the old one is no good.

        And at a low price: however many thousand reads, the server is asked no more than once a second.
        """
        since, started = backend.audit.position(), time.monotonic()
        first = client.get_database_static_secret(rotating_role)
        changed = eventually(
            lambda: (got := client.get_database_static_secret(rotating_role)).data != first.data and got
        )
        assert log_in_to_database(**changed.data) == changed.data["username"]
        assert is_refused(log_in_to_database, first)
        assert events.of(SecretChanged)[-1].previous is not None
        asked = backend.audit.count(since)[f"my-vault-app-database/static-creds/{rotating_role}"]
        assert 2 <= asked <= 2 + time.monotonic() - started


@pytest.fixture
def short_role(root: hvac.Client) -> Iterator[str]:
    """A dynamic role with leases of 2 s, whose users the database admits for about as long."""
    role = "/v1/my-vault-app-database/roles/short"
    root.adapter.post(role, json={"db_name": "postgres", "default_ttl": "2s", "max_ttl": "1h", **creation_of(root)})
    yield "short"
    root.adapter.delete(role)


@pytest.fixture
def renewing(make_client: Callable[..., VaultClient]) -> VaultClient:
    """A client that renews leases."""
    return make_client(DATABASE_DYNAMIC_ON_EXPIRY="renew")


@pytest.fixture
def valid_until(backend: Backend) -> Callable[[Secret], Any]:
    """When the database stops to admit a user; None, if it knows them no more."""

    def ask(secret: Secret) -> Any:
        user, password = backend.superuser
        with psycopg.connect(**backend.database, user=user, password=password) as database:
            query = "SELECT rolvaliduntil FROM pg_roles WHERE rolname = %s"
            row = database.execute(query, [secret.data["username"]]).fetchone()
        return row and row[0]

    return ask


@pytest.fixture
def rotating_role(root: hvac.Client, backend: Backend) -> Iterator[str]:
    """A static role with the shortest rotation that the server allows."""
    user, password = backend.superuser
    with psycopg.connect(**backend.database, user=user, password=password, autocommit=True) as database:
        name = sql.Identifier("rotating-user")
        database.execute(sql.SQL("DROP ROLE IF EXISTS {}").format(name))
        database.execute(sql.SQL("CREATE ROLE {} LOGIN").format(name))
    role = "/v1/my-vault-app-database/static-roles/rotating"
    root.adapter.post(role, json={"db_name": "postgres", "username": "rotating-user", "rotation_period": "5s"})
    yield "rotating"
    root.adapter.delete(role)


def creation_of(root: hvac.Client) -> dict[str, Any]:
    role = root.secrets.database.read_role("db-demo-dynamic", mount_point="my-vault-app-database")
    return {"creation_statements": role["data"]["creation_statements"]}


def test_h1_namespace(backend: Backend, root: hvac.Client, make_client: Callable[..., VaultClient]) -> None:
    """All of it inside a namespace: what is prepared there is not found from outside."""
    try:
        root.adapter.post("/v1/sys/namespaces/team-a", json={})
    except hvac.exceptions.VaultError:
        pytest.skip("this server has no namespaces (Vault has them in its Enterprise edition only)")
    # Of another name: else its static role would set the password of the database user whom the role outside has.
    within = {"VAULT_NAMESPACE": "team-a", "VAULT_ENTITY": "app-of-team-a"}
    secret_id = backend.setup(BAO_NAMESPACE="team-a", **within)
    inside = make_client(VAULT_SECRET_ID=secret_id, **within)
    assert inside.get_kv_secret("database").version == 1
    assert inside.get_database_dynamic_secret("db-demo-dynamic").data["username"]
    with pytest.raises(LoginRefused):
        make_client(VAULT_SECRET_ID=secret_id).login()


def test_health_of_the_server(client: VaultClient, backend: Backend) -> None:
    """It costs one request without a token, and tells the version."""
    since = backend.audit.position()
    health = client.health_check()
    assert (health.initialized, health.sealed, health.standby) == (True, False, False)
    assert health.version[0].isdigit()
    assert backend.audit.entries(since) == []


def test_cached_read_costs_little(client: VaultClient, secret: str) -> None:
    """At most 2.5 times a plain dict with a clock comparison, side by side in one run: two clocks instead of one."""
    found = client.get_kv_secret(secret)
    plain_cache = {secret: (found, time.monotonic() + 3600)}
    get = client.get_kv_secret

    def plain(path: str) -> Any:
        value, fresh_until = plain_cache[path]
        return value if time.monotonic() < fresh_until else None

    client.engines["kv_secret"]._cache[secret].fresh_monotonic += 3600
    client.engines["kv_secret"]._cache[secret].fresh_wall += 3600

    def ratio() -> float:
        floor = min(timeit.repeat(lambda: plain(secret), number=20_000, repeat=7))
        ours = min(timeit.repeat(lambda: get(secret), number=20_000, repeat=7))
        return ours / floor

    assert min(ratio() for _ in range(5)) <= 2.5


@pytest.fixture
def long_names(root: hvac.Client, backend: Backend) -> Iterator[str]:
    """A role whose user names are longer than the limit of a response."""
    database, name = root.secrets.database, "long"
    user, password = backend.superuser
    host = backend.administration["DB_HOST"]
    database.configure(
        name, "postgresql-database-plugin", allowed_roles=[name], username=user, password=password,
        connection_url=f"postgresql://{{{{username}}}}:{{{{password}}}}@/postgres?host={host}&sslmode=disable",
        username_template="v-" + "x" * 2000, mount_point=DATABASE,
    )  # fmt: skip
    create = """CREATE ROLE "{{name}}" LOGIN PASSWORD '{{password}}';"""
    database.create_role(name, name, [create], default_ttl="1h", max_ttl="2h", mount_point=DATABASE)
    yield name
    database.delete_role(name, mount_point=DATABASE)
    database.delete_connection(name, mount_point=DATABASE)


def test_d3_answer_over_the_limit_leaves_no_lease(
    make_client: Callable[..., VaultClient], root: hvac.Client, backend: Backend, events: Events, long_names: str
) -> None:
    """Issued and not read to its end: the lease is given back, and however often one asks, it is asked for once."""
    client = make_client(HTTP_MAX_RESPONSE_SIZE="1800")
    since = backend.audit.position()
    for _ in range(5):
        with pytest.raises(ResponseTooLarge, match="longer than 1800 bytes"):
            client.get_database_dynamic_secret(long_names)
    assert backend.audit.count(since)[f"{DATABASE}/creds/{long_names}"] == 1
    assert events.of(LeaseUnusable)[0].given_back
    with pytest.raises(hvac.exceptions.InvalidPath):  # there are none
        root.sys.list_leases(f"{DATABASE}/creds/{long_names}")
