"""Labs 6 to 10: the solutions of their exercises, and the programs that they start. `make workshop` runs the steps."""

from __future__ import annotations

import json
import re
import runpy
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import hvac
import jwt
import pytest
import requests

from config_loader import VaultConfig
from devserver.openbao import HOST
from devserver.proxy import Proxy
from tests.backends import Backend
from tests.e2e.conftest import PROJECT, Run
from tests.e2e.test_copies import typed
from tests.e2e.test_extending import COPY
from tests.gateways import GatewayProcess, Vault, gateway
from tests.identity_provider import Provider
from tests.integration.conftest import eventually
from vault_client import VaultClient
from vaultkit.events import Event, LoggedIn, StaleServed
from workshop.insert import main as insert

SOLUTIONS = PROJECT / "workshop/solutions"
CATALOGUE = PROJECT / "kubernetes/catalogue.yaml"
CALLERS = 20


def solution(name: str) -> dict[str, Any]:
    """What a solution defines; its `main` is not run."""
    return runpy.run_path(str(SOLUTIONS / name))


def lab(number: str) -> str:
    (page,) = PROJECT.glob(f"workshop/{number}-*.md")
    return page.read_text(encoding="utf-8")


# ── 6: the outage ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def proxy(backend: Backend) -> Iterator[Proxy]:
    """Stands before the server, and can be told to let nobody through."""
    where = urlsplit(backend.url)
    with Proxy((str(where.hostname), int(where.port or 0))).running() as proxy:
        yield proxy


def test_outage_is_told_once_and_so_is_its_end(backend: Backend, proxy: Proxy) -> None:
    """However often a refresh fails meanwhile; the seconds are those that have passed."""
    told: list[str] = []
    heard: list[Event] = []
    watch = solution("06_outage.py")["OutageWatch"](told.append)
    quick = {"KV_SECRET_REFRESH_INTERVAL": "0.1", "TOKEN_BACKOFF_MAX": "1", "VAULT_URL": proxy.url}
    config = VaultConfig.load(environ={**backend.application, **quick})

    def served_stale() -> int:
        vault.get_kv_secret("database")
        return sum(isinstance(event, StaleServed) for event in heard)

    with VaultClient(config, listeners=[watch, heard.append]) as vault:
        vault.get_kv_secret("database")
        proxy.refuse()
        eventually(lambda: served_stale() > 1)
        assert told == ["Vault gives no answer"]
        proxy.behave()
        eventually(lambda: not vault.get_kv_secret("database").stale)
        vault.login()
    assert len(told) == 2
    assert re.fullmatch(r"Vault is back, after \d+ s", told[1])


def test_answer_without_an_outage_is_no_news() -> None:
    told: list[str] = []
    solution("06_outage.py")["OutageWatch"](told.append)(LoggedIn(generation=1, ttl=60))
    assert told == []


def test_caller_tells_what_it_sees_and_what_changed(start: Run, backend: Backend, proxy: Proxy) -> None:
    """workshop/caller.py, which the lab watches: kinds of things, and no value."""
    quick = {"KV_SECRET_REFRESH_INTERVAL": "0.2", "NO_PROXY": HOST}
    caller = start(sys.executable, "-m", "workshop.caller", **{**backend.application, **quick, "VAULT_URL": proxy.url})
    for name in ("KV", "dynamic", "static"):
        caller.wait_for(f" {name}: a value, fresh\n")
    proxy.refuse()
    caller.wait_for(" KV now: a value, stale\n")
    proxy.behave()
    caller.wait_for(" KV now: a value, fresh\n")
    caller.send(signal.SIGINT)
    assert caller.wait() == 0
    assert "myapp-api-key" not in caller.out + caller.err


# ── 7: your own engine ───────────────────────────────────────────────────────────────────────────────────────────────

USES_IDENTITY = """
from config_loader import VaultConfig
from vault_client import VaultClient

with VaultClient(VaultConfig.load()) as vault:
    tokens = [vault.engines["identity"].get("app") for _ in range(2)]
    print(tokens[0].data["token"])
    print(tokens[0] is tokens[1], 20 < tokens[0].ttl <= 30)
"""
REGISTERED = (
    ("vaultkit/engines/__init__.py", "from .kv_prefix import KvPrefixEngine", "from .identity import IdentityEngine"),
    ("vaultkit/engines/__init__.py", "PkiEngine,", "IdentityEngine,"),
    (
        "config_loader.py",
        "from vaultkit.engines.pki import PkiSettings",
        "from vaultkit.engines.identity import IdentitySettings",
    ),
    (
        "config_loader.py",
        "pki: PkiSettings = field(default_factory=PkiSettings)",
        "identity: IdentitySettings = field(default_factory=IdentitySettings)",
    ),
)


@pytest.fixture
def issuer(root: hvac.Client) -> Iterator[None]:
    """The server's side, as the exercise says it, and the right to it."""
    root.write_data("identity/oidc/key/app", data={"allowed_client_ids": "*"})
    root.write_data("identity/oidc/role/app", data={"key": "app", "ttl": "30s"})
    root.sys.create_or_update_policy("lab-7", 'path "identity/oidc/token/app" { capabilities = ["read"] }')
    entity = root.secrets.identity.read_entity_by_name("my-vault-app")["data"]["id"]
    root.secrets.identity.create_or_update_group_by_name("lab-7", policies=["lab-7"], member_entity_ids=[entity])
    yield
    root.secrets.identity.delete_group_by_name("lab-7")
    root.sys.delete_policy("lab-7")
    root.delete("identity/oidc/role/app")
    root.delete("identity/oidc/key/app")


@pytest.mark.usefixtures("issuer")
def test_engine_of_identity_tokens(start: Run, backend: Backend, tmp_path: Path) -> None:
    """Registered in a copy by the lab's own means; a JWT is had once, and lives as long as it says itself."""
    typed(COPY, tmp_path)
    shutil.copy(SOLUTIONS / "07_identity.py", tmp_path / "vaultkit/engines/identity.py")
    assert [insert(str(tmp_path / file), known, new) for file, known, new in REGISTERED] == [0, 0, 0, 0]
    (tmp_path / "program.py").write_text(USES_IDENTITY, encoding="utf-8")
    done = start(sys.executable, tmp_path / "program.py", **backend.application)
    assert (done.wait(), done.err) == (0, "")
    token, facts = done.out.splitlines()
    claims = jwt.decode(token, options={"verify_signature": False})
    assert claims["exp"] - claims["iat"] == 30
    assert facts == "True True"


def test_insert_changes_nothing_where_it_is_not_sure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Once more is the same; a line that is not there, or there twice, is told of."""
    file = tmp_path / "a.py"
    file.write_text("def f():\n    one\n    two\n    two\n")
    assert [insert(str(file), "one", "more"), insert(str(file), "one", "more")] == [0, 0]
    assert file.read_text() == "def f():\n    one\n    more\n    two\n    two\n"
    assert [insert(str(file), "two", "x"), insert(str(file), "three", "x")] == [1, 1]
    assert "found 2 lines 'two', expected one; nothing was changed" in capsys.readouterr().err
    assert "x" not in file.read_text()


# ── 8: wrapped secret_ids, and other logins ──────────────────────────────────────────────────────────────────────────


def test_program_is_deployed_with_a_parcel_of_its_own(start: Run, backend: Backend, tmp_path: Path) -> None:
    """It has the file, which nobody else can read, and nothing of the administrator's; its status is ours."""
    parcel = tmp_path / "wrapped"
    deploy = (sys.executable, SOLUTIONS / "08_hand_over.py", parcel)
    ours = {"VAULT_ADDR": backend.url, "VAULT_TOKEN": backend.root_token, "PYTHONPATH": str(PROJECT), "NO_PROXY": HOST}
    looks = "import json, os; print(json.dumps(dict(os.environ))); raise SystemExit(7)"
    looked = start(*deploy, sys.executable, "-c", looks, VAULT_SECRET_ID=backend.secret_id, **ours)
    assert (looked.wait(), looked.err) == (7, "")
    assert {"VAULT_TOKEN", "VAULT_SECRET_ID"} & set(json.loads(looked.out)) == set()
    assert parcel.stat().st_mode & 0o777 == 0o600
    program = start(*deploy, sys.executable, "vault_app.py", "--once", "--no-color", **ours)
    assert (program.wait(), program.err) == (0, "")
    assert "every secret was read once" in program.out


def test_ci_job_signs_what_its_key_says(tmp_path: Path) -> None:
    """By the key that it publishes, for five minutes; and by no other."""
    first, second = (tmp_path / name for name in ("first.pem", "second.pem"))
    signed = [
        subprocess.run(
            [sys.executable, "-m", "workshop.ci_job", key], cwd=PROJECT, capture_output=True, text=True, check=True
        ).stdout.strip()
        for key in (first, second)
    ]
    claims = jwt.decode(signed[0], first.read_text(), algorithms=["ES256"], audience="vault")
    assert (claims["sub"], claims["exp"] - claims["iat"]) == ("deploy-job", 300)
    with pytest.raises(jwt.InvalidSignatureError):
        jwt.decode(signed[0], second.read_text(), algorithms=["ES256"], audience="vault")


# ── 9: the gateway ───────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def served(backend: Backend, tmp_path: Path) -> Iterator[tuple[GatewayProcess, Callable[[], str]]]:
    """A gateway, and JWTs of alice, who may write."""
    with Provider().running() as provider:
        vault = Vault("workshop-visits", backend.root, tmp_path / "secrets").prepare()
        with gateway(vault, provider, HTTP_TIMEOUT="30") as process:
            yield process, provider.token


def test_no_visit_is_lost(served: tuple[GatewayProcess, Callable[[], str]]) -> None:
    """Many at once, from the first write on, each with a connection of its own."""
    process, token_of = served
    add_visit = solution("09_visits.py")["add_visit"]

    def visit(_: int) -> int:
        with requests.Session() as session:
            session.trust_env = False
            session.headers["Authorization"] = f"Bearer {token_of()}"
            return int(add_visit(session, f"http://{HOST}:{process.port}/vault/secrets/visits"))

    with ThreadPoolExecutor(CALLERS) as threads:
        assert sorted(threads.map(visit, range(CALLERS))) == list(range(1, CALLERS + 1))


# ── 10: Kubernetes ───────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("rotate", "expected"), [("90d", "mail/smtp: replaced by hand every 90 days"), ("60d", "")])
def test_house_rule_finds_what_is_replaced_too_rarely(start: Run, tmp_path: Path, rotate: str, expected: str) -> None:
    """In the catalogue with the lab's service; its line is told, and what has a provider is none of this rule's."""
    service = (PROJECT / "workshop/mail.yaml").read_text().replace("rotate: 90d", f"rotate: {rotate}")
    shutil.copy(CATALOGUE.parent / "vault-ca.crt", tmp_path)
    file = tmp_path / "catalogue.yaml"
    file.write_text(CATALOGUE.read_text() + service)
    done = start(sys.executable, SOLUTIONS / "10_house_rule.py", file, PYTHONPATH=str(PROJECT))
    assert (done.wait(), done.err) == (1 if expected else 0, "")
    line = next(number for number, text in enumerate(file.read_text().splitlines(), 1) if text == "      smtp:")
    assert done.out == (f"{file}:{line}: {expected}, over 60\n" if expected else "")


def test_lab_shows_the_service_as_it_is() -> None:
    """workshop/mail.yaml, which the lab prints and appends."""
    assert (PROJECT / "workshop/mail.yaml").read_text().strip("\n") in lab("10")
