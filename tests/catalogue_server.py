"""The catalogue on a real server: rendered with mounts of its own, applied by its script, and taken away again."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

from catalogue.entries import Catalogue
from catalogue.reading import load
from catalogue.render import render
from catalogue.rendered import write
from tests.backends import Backend
from tests.e2e.conftest import PROJECT

MOUNTS = {
    "auth: kubernetes-dev": "auth: catalogue-dev",
    "auth: kubernetes}": "auth: catalogue-prod}",
    "kv: kv": "kv: catalogue-kv",
    "database: database": "database: catalogue-database",
    "pki: pki": "pki: catalogue-pki",
}
"""Beside those of other tests."""
USERS = ("user_app", "user_batch_dev", "user_batch_prod")


def catalogue_in(folder: Path, namespaces: str = "") -> Catalogue:
    """The project's catalogue with these mounts, rendered beside a copy of its script.

    With `namespaces`, that is what the names of all namespaces begin with.
    """
    text = (PROJECT / "kubernetes/catalogue.yaml").read_text(encoding="utf-8")
    for old, new in MOUNTS.items():
        assert old in text
        text = text.replace(old, new)
    if namespaces:
        text = re.sub(r"(namespace: |(?:dev|prod): )([a-z-]+)(?=[,}])", rf"\1{namespaces}-\2", text)
    (folder / "catalogue.yaml").write_text(text, encoding="utf-8")
    (folder / "vault-ca.crt").write_text("")
    found = load(folder / "catalogue.yaml")
    write(render(found), folder)
    shutil.copy(PROJECT / "kubernetes/vault/apply.sh", folder / "vault")
    return found


def apply(backend: Backend, folder: Path, environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [folder / "vault/apply.sh", environment],
        env={**backend.administration, "VAULT_ADDR": backend.url},
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


def write_by_path(backend: Backend, catalogue: Catalogue, environment: str, *, but: tuple[str, ...] = ()) -> None:
    """What apply.sh does, in a moment: of all mounts but these, which are there already."""
    prefix = f"vault/{environment}/"
    for name, text in render(catalogue).items():
        path = name.removeprefix(prefix)
        if path != name and path != "mounts" and not path.startswith(but):
            data = {"policy": text} if path.endswith(".hcl") else json.loads(text)
            backend.root.write_data(path.rpartition(".")[0], data=data)


@contextmanager
def applied(backend: Backend, folder: Path) -> Iterator[Catalogue]:
    """Both environments, prod by the script, with what is theirs to bring: the database's users, and a CA."""
    found = catalogue_in(folder)
    with prepared_database(backend, found):
        root = backend.root
        root.sys.enable_secrets_engine("pki", path=found.vault.pki)
        root.write_data(f"{found.vault.pki}/root/generate/internal", data={"common_name": "test", "ttl": "300h"})
        try:
            done = apply(backend, folder, "prod")
            assert done.returncode == 0, done.stderr
            root.sys.enable_auth_method("kubernetes", path="catalogue-dev")
            write_by_path(backend, found, "dev")
            yield found
        finally:
            for mount in (found.vault.pki, found.vault.kv):
                root.sys.disable_secrets_engine(mount)
            for environment in found.environments:
                root.sys.disable_auth_method(environment.auth)


@contextmanager
def prepared_database(backend: Backend, catalogue: Catalogue) -> Iterator[None]:
    user, password = backend.superuser
    root, mount = backend.root, catalogue.vault.database
    root.sys.enable_secrets_engine("database", path=mount)
    host = backend.administration.get("DB_HOST", backend.database["host"])
    with psycopg.connect(**backend.database, user=user, password=password, autocommit=True) as connection:
        for name in USERS:
            connection.execute(f'CREATE ROLE "{name}" LOGIN')
        for environment in catalogue.environments:
            about = {
                "plugin_name": "postgresql-database-plugin",
                "connection_url": f"host={host} dbname=postgres user={{{{username}}}} password={{{{password}}}}",
                "username": user,
                "password": password,
                "allowed_roles": f"user-{environment.name}-*",
            }
            root.write_data(f"{mount}/config/postgres-{environment.name}", data=about)
        try:
            yield
        finally:
            root.sys.disable_secrets_engine(mount)
            for name in USERS:
                connection.execute(f'DROP ROLE "{name}"')
