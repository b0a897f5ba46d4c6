"""Where a login method gets its credentials, and what is said when they are not there; nothing is quoted (P1)."""

from __future__ import annotations

import configparser
import dataclasses
import json
import re
import sys
import time
from base64 import b64decode
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import requests

from config_loader import ALL_SECTIONS, DEFAULT_PATH, VaultConfig
from tests.fakes import FakeClock, FakeVault
from tests.servers import ScriptedServer, hang_up, respond
from vault_client import VaultClient
from vaultkit.auth import sources
from vaultkit.auth.sources import from_address, from_command, from_file
from vaultkit.errors import ConfigurationError, LoginUnavailable
from vaultkit.settings import variable

SECRET = "eyJhbGciOiJFUzI1NiJ9.secret"
BASE = {"VAULT_ROLE_ID": "", "VAULT_SECRET_ID": ""}


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"", "is empty"), (b" \n", "is empty"), (b"\xff\xfe" + SECRET.encode(), "it is no text"), (None, "No such file")],
)
def test_t7_file_that_is_no_good(tmp_path: Path, content: bytes | None, said: str) -> None:
    """It may be there at the next login: whoever writes it may be late."""
    path = tmp_path / "token"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(LoginUnavailable, match=f"the setting: .*{said}") as caught:
        from_file(str(path), "the setting")
    assert SECRET not in str(caught.value)


def test_file_is_stripped(tmp_path: Path) -> None:
    """auth/kubernetes refuses a token with a line break behind it."""
    (tmp_path / "token").write_text(f"  {SECRET}\r\n")
    assert from_file(str(tmp_path / "token"), "") == SECRET


@pytest.mark.parametrize(
    ("answer", "field", "said"),
    [
        (respond(500, {"value": SECRET}), "value", "answered with status 500"),
        (respond(302, SECRET.encode(), Location="http://127.0.0.1:9/"), "", "answered with status 302"),
        (respond(200, SECRET.encode()), "value", 'not answered with JSON with a text in the field "value"'),
        (respond(200, {"other": SECRET}), "value", 'not answered with JSON with a text in the field "value"'),
        (respond(200, {"value": [SECRET]}), "value", 'not answered with JSON with a text in the field "value"'),
        (respond(200, b"[" * 60_000), "value", 'not answered with JSON with a text in the field "value"'),
        (respond(200, b"\xff" + SECRET.encode()), "", "not answered with text"),
        (respond(200, b"\n"), "", "not answered with text"),
        (hang_up, "", "gave no answer"),
    ],
)
def test_t7_address_that_is_no_good(answer: Callable[..., None], field: str, said: str) -> None:
    """What it said, without its words, and without the query of its address."""
    with ScriptedServer(answer).running() as server, pytest.raises(LoginUnavailable, match=said) as caught:
        from_address(f"{server.url}/jwt?key={SECRET}", {}, field, "the setting")
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("answer", ["deaf", "trickling", "trickling_headers"])
def test_h1_address_is_bounded_in_time(answer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also one that answers a byte at a time."""
    monkeypatch.setattr(sources, "SECONDS", 0.3)
    server = ScriptedServer()
    server.script = [getattr(server, answer)()]
    started = time.monotonic()
    with server.running(), pytest.raises(LoginUnavailable, match="gave no answer"):
        from_address(server.url, {}, "", "the setting")
    assert time.monotonic() - started < 10


def test_h1_metadata_server_is_asked_without_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """The proxy of a company reaches no metadata server, and would see its answer."""
    with ScriptedServer(respond(200, SECRET.encode())).running() as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        monkeypatch.delenv("NO_PROXY", raising=False)
        with monkeypatch.context() as hurried:
            hurried.setattr(sources, "SECONDS", 0.3)
            with pytest.raises(LoginUnavailable):
                from_address("http://169.254.1.1:9/jwt", {}, "", "the setting")
        assert proxy.requests == []
        assert from_address("http://tokens.test/jwt", {}, "", "the setting") == SECRET


@pytest.mark.parametrize(
    ("command", "seconds", "said"),
    [
        ("exit(3)", 60, "ended with status 3; run it by hand"),
        ("print()", 60, "printed nothing"),
        ("import time; time.sleep(60)", 1, "took longer than 1 s"),
        ("import os, time; os.fork() or time.sleep(12); time.sleep(12)", 1, "took longer than 1 s"),
    ],
)
def test_t7_command_that_is_no_good(command: str, seconds: float, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither its arguments nor what it printed are quoted; its children keep nobody waiting."""
    monkeypatch.setattr(sources, "SECONDS", seconds)
    started = time.monotonic()
    with pytest.raises(LoginUnavailable, match=said) as caught:
        from_command(f'{sys.executable} -c "print(end=str()); {command}" {SECRET}', "the setting")
    assert SECRET not in str(caught.value)
    assert time.monotonic() - started < 10


def test_command_that_does_not_exist() -> None:
    """The system's own words."""
    with pytest.raises(LoginUnavailable, match="there-is-none cannot be started: No such file"):
        from_command("/there-is-none", "the setting")


# ── Chosen without what it needs ─────────────────────────────────────────────────────────────────────────────────────


def problems(**environ: Any) -> str:
    with pytest.raises(ConfigurationError) as caught:
        VaultConfig.load(environ={**BASE, **environ})
    return str(caught.value)


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({}, ["[vault] role_id", "[vault] secret_id: a value is required"]),
        ({"VAULT_SECRET_ID": SECRET, "VAULT_WRAPPED_SECRET_ID": SECRET}, ["secret_id and wrapped_secret_id: found"]),
        ({"VAULT_SECRET_ID_FILE": "/there-is-none"}, ["[vault] secret_id_file: found '/there-is-none'"]),
        ({"VAULT_AUTH_METHOD": "kubernetes"}, ["[kubernetes_auth] role", "[kubernetes_auth] token_file: found"]),
        ({"VAULT_AUTH_METHOD": "jwt"}, ["[jwt_auth] role", "found none of them, expected one"]),
        (
            {"VAULT_AUTH_METHOD": "jwt", "JWT_AUTH_JWT": SECRET, "JWT_AUTH_JWT_COMMAND": "cat x"},
            ["jwt and jwt_command"],
        ),
        ({"VAULT_AUTH_METHOD": "jwt", "JWT_AUTH_JWT_COMMAND": "cat 'x"}, ["jwt_command: found", "as a shell"]),
        ({"VAULT_AUTH_METHOD": "jwt", "JWT_AUTH_JWT_COMMAND": " "}, ["jwt_command: found", "expected a command"]),
        ({"VAULT_AUTH_METHOD": "jwt", "JWT_AUTH_JWT_URL": f"ftp://x/{SECRET}"}, ["jwt_url: found (not shown)"]),
        ({"VAULT_AUTH_METHOD": "jwt", "JWT_AUTH_JWT_HEADERS": SECRET}, ["jwt_headers: found (not shown)"]),
        ({"VAULT_AUTH_METHOD": "cert"}, ["[vault] client_cert", "expected https://"]),
        ({"VAULT_AUTH_METHOD": "token"}, ["found neither, expected one"]),
        (
            {"VAULT_AUTH_METHOD": "token", "VAULT_TOKEN": SECRET, "TOKEN_AUTH_TOKEN_FILE": __file__},
            ["token and"],
        ),
        ({"VAULT_AUTH_METHOD": "aws"}, ["[aws_auth] role"]),
        ({"VAULT_AUTH_METHOD": "ldap"}, ["approle, kubernetes, jwt, cert, token or aws"]),
    ],
)
def test_method_says_what_it_needs(environ: dict[str, str], said: list[str]) -> None:
    """All at once, and no secret is quoted."""
    found = problems(**environ, **({"VAULT_ROLE_ID": ""} if not environ else {}))
    assert [words for words in said if words not in found] == []
    assert SECRET not in found


@pytest.mark.parametrize(
    "environ",
    [
        {"VAULT_AUTH_METHOD": "kubernetes", "KUBERNETES_AUTH_ROLE": "web", "KUBERNETES_AUTH_TOKEN_FILE": __file__},
        {"VAULT_AUTH_METHOD": "jwt", "JWT_AUTH_ROLE": "web", "JWT_AUTH_JWT": SECRET},
        {"VAULT_AUTH_METHOD": "token", "VAULT_TOKEN": SECRET},
    ],
)
def test_other_methods_need_no_approle(environ: dict[str, str]) -> None:
    """What a method does not need is not required; and no repr shows what it was given."""
    config = VaultConfig.load(environ={**BASE, **environ})
    assert type(config.auth).__name__.lower().startswith(environ["VAULT_AUTH_METHOD"])
    assert SECRET not in repr(config)


def test_settings_in_code_must_be_whole() -> None:
    """Who makes a VaultConfig in code is told of the section that is missing."""
    config = VaultConfig.load(environ={**BASE, "VAULT_AUTH_METHOD": "token", "VAULT_TOKEN": SECRET})
    with pytest.raises(ConfigurationError, match="auth: the settings of token are required"):
        VaultConfig(vault=config.vault)


# ── AWS, by the shape of its request alone ───────────────────────────────────────────────────────────────────────────


class Key:
    access_key, secret_key, token = "AKIAIOSFODNN7EXAMPLE", "the-secret-key", "the-session-token"

    @classmethod
    def get_frozen_credentials(cls) -> type[Key]:
        return cls


@pytest.fixture
def botocore(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Stands in for botocore: `found` is what it finds."""
    stand_in = SimpleNamespace(found=Key)
    session = SimpleNamespace(Session=lambda: SimpleNamespace(get_credentials=lambda: stand_in.found))
    exceptions = SimpleNamespace(BotoCoreError=type("BotoCoreError", (Exception,), {}))
    for name, module in (("session", session), ("exceptions", exceptions)):
        monkeypatch.setitem(sys.modules, f"botocore.{name}", module)
    monkeypatch.setitem(sys.modules, "botocore", SimpleNamespace(__spec__="there"))
    return stand_in


class SeeingVault(FakeVault):
    """Keeps what it is sent; it checks no signature."""

    body = ""

    def send(self, request: requests.PreparedRequest, *args: Any, **options: Any) -> requests.Response:
        self.body = request.body.decode() if isinstance(request.body, bytes) else str(request.body)
        return super().send(request, *args, **options)


AWS = {"VAULT_AUTH_METHOD": "aws", "AWS_AUTH_ROLE": "web", "AWS_AUTH_HEADER_VALUE": "vault.example.com"}


@pytest.mark.filterwarnings("ignore:datetime.datetime.utcnow:DeprecationWarning")  # hvac's
def test_aws_sends_a_signed_request(botocore: SimpleNamespace, clock: FakeClock) -> None:
    """The parts that Vault sends on to AWS, which says who signed them; the key itself is not sent."""
    vault = SeeingVault(clock)
    vault.instead["POST auth/aws/login"] = lambda: vault._auth(60)
    client = VaultClient(VaultConfig.load(environ={**BASE, **AWS}), clock=clock, session=vault.session)
    client.login()
    sent = json.loads(vault.body)
    assert (sent["role"], sent["iam_http_request_method"]) == ("web", "POST")
    headers = json.loads(b64decode(sent["iam_request_headers"]))
    assert headers["X-Vault-AWS-IAM-Server-ID"] == ["vault.example.com"]
    assert "us-east-1/sts" in headers["Authorization"][0]
    assert Key.secret_key not in vault.body + b64decode(sent["iam_request_headers"]).decode()


def test_t7_aws_without_credentials(botocore: SimpleNamespace, clock: FakeClock) -> None:
    """They may come: an instance's are there a moment after its start."""
    botocore.found = None
    vault = FakeVault(clock)
    client = VaultClient(VaultConfig.load(environ={**BASE, **AWS}), clock=clock, session=vault.session)
    with pytest.raises(LoginUnavailable, match="AWS: no credentials"):
        client.login()


# ── The page ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_page_names_settings_that_exist() -> None:
    """In docs/LOGIN.md each section, each key and each variable is one that the application reads."""
    page = (DEFAULT_PATH.parent / "docs" / "LOGIN.md").read_text(encoding="utf-8")
    for block in re.findall(r"```ini\n(.*?)```", page, flags=re.DOTALL):
        parser = configparser.RawConfigParser()
        parser.read_string(block)
        keys = [(section, key) for section in parser.sections() for key in parser[section]]
        assert [key for key in keys if key not in SETTINGS] == []
    variables = {variable(section, key) for section, key in SETTINGS}
    named = set(re.findall(r"\b(?:JWT|TOKEN|KUBERNETES|CERT|AWS)_AUTH_[A-Z_]+|\bVAULT_(?:ROLE|SECRET)\w+", page))
    assert named
    assert named <= variables


SETTINGS = {(section, each.name) for section, kind in ALL_SECTIONS.items() for each in dataclasses.fields(kind)}
