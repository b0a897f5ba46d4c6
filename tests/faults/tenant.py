"""An application of its own on a server that it shares with others: nothing that is done to one is felt by another."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

import hvac
import psycopg
from psycopg import sql

from tests.login_methods import Prepared

CREATE_USER = """CREATE ROLE "{{name}}" LOGIN PASSWORD '{{password}}' VALID UNTIL '{{expiration}}';"""
KV_READY_SECONDS = 10.0
POLICY = """
path "{entity}-kv/data/{name}"             {{ capabilities = ["read"] }}
path "{entity}-kv/metadata/{name}"         {{ capabilities = ["read"] }}
path "{entity}-database/creds/{name}"        {{ capabilities = ["read"] }}
path "{entity}-database/static-creds/{name}-static" {{ capabilities = ["read"] }}
path "auth/token/lookup-self" {{ capabilities = ["read"] }}
path "auth/token/renew-self"  {{ capabilities = ["update"] }}
path "auth/token/revoke-self" {{ capabilities = ["update"] }}
"""
LEASES = """
path "sys/leases/renew"  {{ capabilities = ["update"] }}
path "sys/leases/revoke" {{ capabilities = ["update"] }}
"""
"""What setup-vault.sh grants besides."""


@dataclass
class Database:
    """A PostgreSQL, as its superuser reaches it and as the server reaches it."""

    connection: dict[str, Any]
    superuser: tuple[str, str]
    seen_by_server: str
    """host=… and port=… of a connection URL."""

    def connect(self, user: str = "", password: str = "") -> psycopg.Connection[tuple[Any, ...]]:
        """As this user, or as the superuser."""
        user, password = (user, password) if user else self.superuser
        return psycopg.connect(**self.connection, user=user, password=password, autocommit=True, connect_timeout=10)


@dataclass
class Tenant:
    """Its AppRole, policy, KV secret and database roles; with `own_mounts`, secret engines that no other uses."""

    name: str
    root: hvac.Client
    database: Database
    own_mounts: bool = False
    token: dict[str, str] = field(default_factory=lambda: {"token_period": "5m"})
    lease: str = "1m"
    secret_id: str = ""
    role_id: str = ""
    versions: int = 0
    login: Prepared | None = None
    """How it logs in, if not with its secret_id."""

    @property
    def entity(self) -> str:
        return self.name if self.own_mounts else "my-vault-app"

    @property
    def kv(self) -> str:
        return f"{self.entity}-kv"

    @property
    def databases(self) -> str:
        return f"{self.entity}-database"

    @property
    def application(self) -> dict[str, str]:
        """The variables with which its application logs in and finds what is its own."""
        return {
            "VAULT_ENTITY": self.entity,
            **(self.login.environ if self.login else self._secret_id),
            "KV_SECRET_PATH": self.name,
            "DATABASE_DYNAMIC_ROLE_ID": self.name,
            "DATABASE_STATIC_ROLE_ID": self.static_role,
        }

    @property
    def _secret_id(self) -> dict[str, str]:
        return {"VAULT_ROLE_ID": self.role_id, "VAULT_SECRET_ID": self.secret_id}

    @property
    def static_role(self) -> str:
        """A name of its own: the two kinds of roles share a namespace."""
        return f"{self.name}-static"

    @property
    def role(self) -> str:
        return f"/v1/auth/approle/role/{self.name}"

    def move_in(self) -> Tenant:
        if self.own_mounts:
            self.mount_kv()
            self._mount_database()
        self.write_secret()
        self.give_policy()
        self.root.adapter.post(
            self.role, json={"token_policies": self.name, "token_no_default_policy": True, **self.token}
        )
        self.role_id = self.root.adapter.get(f"{self.role}/role-id")["data"]["role_id"]
        self.issue_secret_id()
        roles = self.root.secrets.database
        roles.create_role(
            self.name, "postgres", [CREATE_USER], default_ttl=self.lease, max_ttl="1h", mount_point=self.databases
        )
        with self.database.connect() as connection:
            connection.execute(sql.SQL("DROP ROLE IF EXISTS {0}").format(sql.Identifier(self.static_role)))
            connection.execute(sql.SQL("CREATE ROLE {0} LOGIN").format(sql.Identifier(self.static_role)))
        roles.create_static_role(
            self.static_role, "postgres", self.static_role, [], rotation_period="1h", mount_point=self.databases
        )
        return self

    def issue_secret_id(self) -> None:
        self.secret_id = self.root.adapter.post(f"{self.role}/secret-id")["data"]["secret_id"]

    def has_secret_id(self) -> bool:
        """Whether Vault would still let its secret_id in."""
        answer = self.root.adapter.post(f"{self.role}/secret-id/lookup", json={"secret_id": self.secret_id})
        return isinstance(answer, dict)  # 204 and nothing when it is unknown

    def give_policy(self, text: str = POLICY + LEASES) -> None:
        self.root.sys.create_or_update_policy(self.name, text.format(entity=self.entity, name=self.name))

    def mount_kv(self) -> None:
        self.root.sys.enable_secrets_engine("kv", path=self.kv, options={"version": "2"})

    def unmount_kv(self) -> None:
        self.root.sys.disable_secrets_engine(self.kv)

    def _mount_database(self) -> None:
        self.root.sys.enable_secrets_engine("database", path=self.databases)
        user, password = self.database.superuser
        self.root.secrets.database.configure(
            "postgres",
            "postgresql-database-plugin",
            allowed_roles="*",
            connection_url=f"postgresql://{{{{username}}}}:{{{{password}}}}@/postgres?{self.database.seen_by_server}&sslmode=disable",
            username=user,
            password=password,
            mount_point=self.databases,
        )

    # ── What an operator does to it ──────────────────────────────────────────────────────────────────────────────────

    @property
    def _versions(self) -> Any:
        return self.root.secrets.kv.v2

    def value(self, version: int) -> str:
        return f"value-of-{self.name}-at-{version}"

    def write_secret(self) -> str:
        """Write the next version; return its value. A new mount needs a moment until it takes one."""
        self.versions += 1
        value = self.value(self.versions)
        deadline = time.monotonic() + KV_READY_SECONDS
        while True:
            try:
                self._versions.create_or_update_secret(self.name, {"value": value}, mount_point=self.kv)
            except hvac.exceptions.InvalidRequest:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)
            else:
                return value

    def delete_secret(self) -> None:
        self._versions.delete_latest_version_of_secret(self.name, mount_point=self.kv)

    def destroy_secret(self) -> None:
        self._versions.destroy_secret_versions(self.name, [self.versions], mount_point=self.kv)

    def recreate_secret(self) -> None:
        """Delete it with all versions and write it anew: it starts at version 1 again."""
        self._versions.delete_metadata_and_all_versions(self.name, mount_point=self.kv)
        self.write_secret()

    def roll_back_secret(self) -> None:
        """Bring back the values of the first version, as `kv rollback` does."""
        self._versions.create_or_update_secret(self.name, {"value": self.value(1)}, mount_point=self.kv)

    def drop_user(self, username: str) -> None:
        with self.database.connect() as connection:
            connection.execute(sql.SQL("DROP ROLE {0}").format(sql.Identifier(username)))
