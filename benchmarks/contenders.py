"""Who is compared with ours, as processes: `bao agent`, `bao proxy`, and the script of plain_hvac.py.

Agent and proxy are parts of the same `bao` command as the server. Each contender logs in by an AppRole of its own, by
whose name the server's log tells its requests from ours, and reads the same three secrets from the same mounts.
"""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any, TypeVar

import psutil

from benchmarks.bench import DATABASE, DYNAMIC_ROLE, KV, KV_PATH, PATIENCE_SECONDS, STATIC_ROLE, Bench
from devserver.openbao import HOST, bao_folder, free_port
from devserver.process import Process

PROJECT = Path(__file__).parents[1]
OUR_ROLE_NAME = "my-vault-app"
FETCHED = "fetch successful"
"""Stands in our program's output once for each secret that it fetched."""

AS_IN_THE_DEMO = {"DATABASE_DYNAMIC_CHECK_LOGIN": "false", "PYTHONDONTWRITEBYTECODE": ""}
"""But for the login to the database. Python keeps what it compiles, as it does for the script."""

KV_DATA = f"{KV}/data/{KV_PATH}"
DYNAMIC = f"{DATABASE}/creds/{DYNAMIC_ROLE}"
STATIC = f"{DATABASE}/static-creds/{STATIC_ROLE}"

# What ours has from setup-vault.sh, short of KV's metadata, and sys/leases/renew: without it, the agent fetches new
# dynamic credentials ten times a second.
POLICY = f"""
path "{KV}/data/*"               {{ capabilities = ["read"] }}
path "{DATABASE}/creds/*"        {{ capabilities = ["read"] }}
path "{DATABASE}/static-creds/*" {{ capabilities = ["read"] }}
path "sys/leases/renew"       {{ capabilities = ["update"] }}
path "auth/token/lookup-self" {{ capabilities = ["read"] }}
path "auth/token/renew-self"  {{ capabilities = ["update"] }}
path "auth/token/revoke-self" {{ capabilities = ["update"] }}
"""

TEMPLATES = {
    "kv": (KV_DATA, ".Data.metadata.version .Data.data.api_key .Data.data.database_url"),
    "dynamic": (DYNAMIC, ".LeaseID .Data.username .Data.password"),
    "static": (STATIC, ".Data.last_vault_rotation .Data.username .Data.password"),
}
"""The files that the agent keeps: which secret, and what of it. The first word changes whenever the secret does."""


class Contender(Process):
    """A process that is watched from outside."""

    @property
    def memory(self) -> int:
        """Resident, in bytes, the pages of the program itself included."""
        return int(psutil.Process(self._process.pid).memory_info().rss)

    def output(self) -> str:
        return self._log.read_text(encoding="utf-8", errors="replace")

    def wait_for(self, bench: Bench, ready: Callable[[], bool], seconds: float = PATIENCE_SECONDS) -> None:
        """Wait, looking every millisecond. Raises: DevServerError, if it ends before it is ready."""

        def is_ready() -> bool:
            ended = self.has_ended()  # asked first: its last words may be what makes it ready
            if ready():
                return True
            if ended:
                raise self.error("ended too soon")
            return False

        bench.until(is_ready, self.name, seconds)

    def terminate(self) -> None:
        """Send SIGTERM, and do not wait."""
        self._process.send_signal(signal.SIGTERM)

    def has_ended(self) -> bool:
        return self._process.poll() is not None


ContenderT = TypeVar("ContenderT", bound=Contender)


@contextmanager
def running(contender: ContenderT) -> Iterator[ContenderT]:
    """See that it is stopped, whatever happens."""
    try:
        yield contender
    finally:
        contender.stop()


@dataclass(frozen=True)
class Login:
    """An AppRole, and the password to it."""

    role_name: str
    role_id: str
    secret_id: str


def new_login(bench: Bench, role_name: str, token_period: str = "1m", policy: str = POLICY) -> Login:
    """An AppRole that may read what ours reads, or do what its policy says."""
    root = bench.root
    root.sys.create_or_update_policy(role_name, policy)
    approle = root.auth.approle
    approle.create_or_update_approle(
        role_name, token_policies=[role_name], token_no_default_policy=True, token_period=token_period
    )
    role_id = approle.read_role_id(role_name)["data"]["role_id"]
    return Login(role_name, role_id, approle.generate_secret_id(role_name)["data"]["secret_id"])


# ── Ours, and the script ─────────────────────────────────────────────────────────────────────────────────────────────


class Ours(Contender):
    """`python vault_app.py`, as in the demo, but without its login to the database and with the values hidden."""

    def __init__(self, bench: Bench, settings: Mapping[str, str] | None = None) -> None:
        super().__init__(
            "vault_app.py",
            [sys.executable, PROJECT / "vault_app.py"],
            log=bench.new_folder("ours") / "log",
            env={**bench.server.environment, **AS_IN_THE_DEMO, **(settings or {})},
        )

    def has_all_secrets(self) -> bool:
        """Whether the screen shows all three."""
        return self.output().count(FETCHED) >= len(TEMPLATES)


class Script(Contender):
    """The script of somebody who fetches all three, one after the other, and is done."""

    def __init__(self, bench: Bench, login: Login) -> None:
        super().__init__(
            "plain_hvac.py",
            [sys.executable, PROJECT / "workshop" / "plain_hvac.py"],
            log=bench.new_folder("script") / "log",
            env={
                "VAULT_ADDR": bench.server.openbao.url,
                "NO_PROXY": HOST,
                "ROLE_ID": login.role_id,
                "SECRET_ID": login.secret_id,
            },
        )

    def has_all_secrets(self) -> bool:
        """Whether it has printed its last line."""
        return self.output().endswith("done\n")


# ── bao agent and bao proxy ──────────────────────────────────────────────────────────────────────────────────────────


class Agent(Contender):
    """`bao agent`: keeps files up to date."""

    def __init__(
        self, bench: Bench, login: Login, render_interval: float = 5.0, templates: Mapping[str, str] | None = None
    ) -> None:
        """`render_interval`, in seconds, is for secrets without a lease, such as KV; a file for each of `templates`."""
        self.folder = bench.new_folder("agent")
        contents = templates or {name: template(secret, words) for name, (secret, words) in TEMPLATES.items()}
        self._names = list(contents)
        files = [{"destination": str(self.file(name)), "contents": text} for name, text in contents.items()]
        interval = {"static_secret_render_interval": f"{render_interval * 1000:.0f}ms"}
        config = {**auto_auth(bench, login, self.folder), "template_config": interval, "template": files}
        command = bao("agent", config, self.folder)
        super().__init__("bao agent", command, log=self.folder / "log", env={"HOME": str(self.folder)})

    def file(self, name: str) -> Path:
        """The file for a secret: kv, dynamic or static."""
        return self.folder / name

    def words(self, name: str) -> list[str]:
        """What stands in the file, by default the words of TEMPLATES; none before it is there."""
        try:
            return self.file(name).read_text(encoding="utf-8").split()
        except FileNotFoundError:
            return []

    def has_all_secrets(self) -> bool:
        return all(self.words(name) for name in self._names)


class Proxy(Contender):
    """`bao proxy`: an HTTP server that adds its token to what it passes on, and caches what has a lease."""

    def __init__(self, bench: Bench, login: Login, path: str = KV_DATA) -> None:
        """`path` is what it is asked for to see whether it is ready."""
        self.port = free_port(0)
        self._path = path
        folder = bench.new_folder("proxy")
        config = {
            **auto_auth(bench, login, folder),
            "cache": {},
            "api_proxy": {"use_auto_auth_token": True},
            "listener": {"tcp": {"address": f"{HOST}:{self.port}", "tls_disable": True}},
        }
        super().__init__("bao proxy", bao("proxy", config, folder), log=folder / "log", env={"HOME": str(folder)})

    def is_ready(self) -> bool:
        """Whether it listens, and has logged in."""
        connection = HTTPConnection(HOST, self.port, timeout=2)
        try:
            connection.request("GET", f"/v1/{self._path}")
            return connection.getresponse().status == 200
        except (OSError, HTTPException):
            return False
        finally:
            connection.close()


def bao(what: str, config: Mapping[str, Any], folder: Path) -> list[str | Path]:
    """The command line of `bao agent` or `bao proxy`; its configuration is HCL, which may be written as JSON."""
    file = folder / f"{what}.json"
    file.write_text(json.dumps(config, indent=2), encoding="utf-8")
    return [bao_folder() / "bao", what, f"-config={file}"]


def auto_auth(bench: Bench, login: Login, folder: Path) -> dict[str, Any]:
    """What both have in common: the server, and the login, whose two words they read from files."""
    role_id_file, secret_id_file = folder / "role_id", folder / "secret_id"
    role_id_file.write_text(login.role_id, encoding="utf-8")
    secret_id_file.write_text(login.secret_id, encoding="utf-8")
    config = {
        "role_id_file_path": str(role_id_file),
        "secret_id_file_path": str(secret_id_file),
        "remove_secret_id_file_after_reading": False,
    }
    return {
        "vault": {"address": bench.server.openbao.url},
        "log_level": "warn",
        "auto_auth": {"method": [{"type": "approle", "config": config}]},  # a list, or JSON is not taken
    }


def template(secret: str, words: str) -> str:
    """A template that renders these words of a secret, with blanks between them."""
    rendered = " ".join(f"{{{{ {word} }}}}" for word in words.split())
    return f'{{{{ with secret "{secret}" }}}}{rendered}{{{{ end }}}}'
