"""The servers that the tests run on: embedded ones from wheels, or containers. All real."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import socket
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hvac

from devserver import DevServer
from devserver.openbao import bao_folder
from devserver.setup import run_setup

START_SECONDS = 60.0


class AuditLog:
    """What the server itself wrote down of the requests that the application made."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def position(self) -> int:
        return self._path.stat().st_size

    def entries(self, since: int) -> list[dict[str, Any]]:
        """The application's requests: its logins, and what it asked with the token that it got."""
        with self._path.open("rb") as log:
            log.seek(since)
            entries = [json.loads(line) for line in log if line.endswith(b"\n")]
        return [
            entry
            for entry in entries
            if entry["type"] == "request"
            and (entry["request"]["path"].startswith("auth/approle/login") or is_from_application(entry))
        ]

    def text(self, since: int = 0) -> str:
        """All of it from a position on, as it stands."""
        return self._path.read_bytes()[since:].decode()

    def count(self, since: int) -> Counter[str]:
        """How often each path was asked for."""
        return Counter(entry["request"]["path"] for entry in self.entries(since))


def is_from_application(entry: Mapping[str, Any]) -> bool:
    return bool((entry.get("auth") or {}).get("metadata", {}).get("role_name") == "my-vault-app")


@dataclass
class Backend:
    """A prepared server and database."""

    url: str
    root_token: str
    audit: AuditLog
    administration: dict[str, str]
    """What setup-vault.sh needs."""
    database: dict[str, Any]
    """What psycopg needs to reach the database, short of user and password."""
    superuser: tuple[str, str]
    folder: Path

    def __post_init__(self) -> None:
        self.secret_id = self.setup()

    def setup(self, **variables: str) -> str:
        return run_setup(self.folder, {**self.administration, **variables})

    @property
    def root(self) -> hvac.Client:
        return hvac.Client(url=self.url, token=self.root_token)

    @property
    def application(self) -> dict[str, str]:
        """The variables with which the application finds the server and logs in."""
        return {"VAULT_URL": self.url, "VAULT_SECRET_ID": self.secret_id}


@contextmanager
def embedded() -> Iterator[Backend]:
    """OpenBao and PostgreSQL from wheels."""
    with DevServer() as server:
        yield Backend(
            url=server.openbao.url,
            root_token=server.openbao.root_token,
            audit=AuditLog(server.openbao.audit_log),
            administration=server.administration,
            database={"host": server.postgres.host, "port": 5432, "dbname": "postgres"},
            superuser=("postgres", server.postgres.password),
            folder=server.folder,
        )


@contextmanager
def containers(vault_image: str, postgres_image: str) -> Iterator[Backend]:
    """Vault (or OpenBao) and PostgreSQL in containers. Fails where there is no Docker engine."""
    from testcontainers.core.container import DockerContainer  # only here: importing it looks for an engine
    from testcontainers.core.network import Network

    token, password = secrets.token_urlsafe(16), secrets.token_urlsafe(16)
    with ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="vault-docker-"))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        audit = folder / "audit"
        audit.mkdir()
        audit.chmod(0o777)  # the server in the container is another user
        options = 'file_path = "/audit/audit.log"\n    mode = "0644"'
        # OpenBao takes audit devices from its configuration only, Vault from its API only.
        (audit / "audit.hcl").write_text(f'audit "file" "audit" {{\n  options {{\n    {options}\n  }}\n}}\n')
        network = stack.enter_context(Network())
        postgres = DockerContainer(postgres_image).with_network(network).with_network_aliases("postgres")
        postgres.with_env("POSTGRES_PASSWORD", password).with_exposed_ports(5432)
        stack.enter_context(postgres)
        vault = DockerContainer(vault_image).with_network(network).with_exposed_ports(8200)
        vault.with_volume_mapping(str(audit), "/audit", "rw").with_command("server -dev -config=/audit/audit.hcl")
        for name in ("VAULT", "BAO"):
            vault.with_env(f"{name}_DEV_ROOT_TOKEN_ID", token).with_env(f"{name}_DEV_LISTEN_ADDRESS", "0.0.0.0:8200")
        vault.with_env("SKIP_SETCAP", "true")
        stack.enter_context(vault)
        host, port = vault.get_container_host_ip(), int(vault.get_exposed_port(8200))
        database_host, database_port = postgres.get_container_host_ip(), int(postgres.get_exposed_port(5432))
        wait_for_port(host, port)
        wait_for_database(database_host, database_port, password)
        url = f"http://{host}:{port}"
        wait_for_vault(url, token)
        yield Backend(
            url=url,
            root_token=token,
            audit=AuditLog(audit / "audit.log"),
            administration={
                "PATH": f"{bao_folder()}{os.pathsep}{os.environ['PATH']}",
                "VAULT_ADDR": url,
                "VAULT_TOKEN": token,
                "DB_HOST": "postgres",
                "DB_PASSWORD": password,
            },
            database={"host": database_host, "port": database_port, "dbname": "postgres"},
            superuser=("postgres", password),
            folder=folder,
        )


def until(ready: Any, what: str) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not ready():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what} was not ready after {START_SECONDS:g} s")
        time.sleep(0.1)


def wait_for_port(host: str, port: int) -> None:
    def connects() -> bool:
        try:
            socket.create_connection((host, port), timeout=1).close()
        except OSError:
            return False
        return True

    until(connects, f"{host}:{port}")


def wait_for_database(host: str, port: int, password: str) -> None:
    import psycopg

    def answers() -> bool:
        try:
            psycopg.connect(host=host, port=port, user="postgres", password=password, dbname="postgres").close()
        except psycopg.OperationalError:
            return False
        return True

    until(answers, "PostgreSQL")


def wait_for_vault(url: str, token: str) -> None:
    """Wait until the server answers, and see that it writes an audit log."""
    client = hvac.Client(url=url, token=token)

    def healthy() -> bool:
        try:
            return bool(client.sys.is_initialized() and not client.sys.is_sealed())
        except OSError:
            return False

    until(healthy, url)
    if not client.sys.list_enabled_audit_devices()["data"]:
        options = {"file_path": "/audit/audit.log", "mode": "0644"}
        client.sys.enable_audit_device("file", options=options, path="audit")
