"""The rule H1 on the way to the server: proxies, redirects, namespaces, certificates; and what is said of each (E1)."""

from __future__ import annotations

import socket
import ssl
import struct
import time
import traceback
from collections.abc import Callable
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from urllib.parse import urlsplit

import hvac
import pytest
import trustme

from devserver.openbao import HOST
from tests.integration.conftest import ClientOf, eventually
from tests.integration.test_http import AUTH, HEALTH
from tests.servers import ScriptedServer, respond
from vault_client import VaultClient
from vaultkit.errors import LoginRefused, UnexpectedResponse, VaultError, VaultTimeout, VaultUnreachable
from vaultkit.transport.tls_files import TRUST_VARIABLES

SOMEWHERE = "http://vault.example.com:8200"
FACTS = {"version": 1, "created_time": "2026-11-23T19:12:51Z", "deletion_time": "", "destroyed": False}


def said_by(call: Callable[[], object], kind: type[VaultError]) -> str:
    """The text of the error that this raises."""
    with pytest.raises(VaultError) as caught:
        call()
    assert type(caught.value) is kind
    return str(caught.value)


# ── Proxies ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_h1_loopback_goes_past_proxies(client_of: ClientOf, monkeypatch: pytest.MonkeyPatch) -> None:
    """The secret_id for a server on this machine never leaves it."""
    proxy, server = ScriptedServer(respond(403)), ScriptedServer(respond(200, AUTH))
    with proxy.running():
        for name in ("HTTP_PROXY", "http_proxy"):
            monkeypatch.setenv(name, proxy.url)
        client_of(server, VAULT_PROXY_ADDR=proxy.url).login()
    assert (proxy.requests, len(server.requests)) == ([], 1)


def test_h1_process_proxy_is_looked_up_once(client_of: ClientOf, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the session is made; requests would look for one, in all that there is, for each request."""
    proxy = ScriptedServer(respond(200, AUTH))
    with proxy.running():
        monkeypatch.setenv("http_proxy", proxy.url)
        client = client_of(SOMEWHERE)
        monkeypatch.delenv("http_proxy")
        client.login()
    assert proxy.requests == [f"POST {SOMEWHERE}/v1/auth/approle/login"]


def test_h1_proxy_of_vault_is_used(client_of: ClientOf) -> None:
    """Also for what has its own name in the environment of bao."""
    proxy = ScriptedServer(respond(200, AUTH))
    with proxy.running():
        client_of(SOMEWHERE, BAO_PROXY_ADDR=proxy.url).login()
    assert proxy.requests == [f"POST {SOMEWHERE}/v1/auth/approle/login"]


def test_e1_dead_proxy_is_named(client_of: ClientOf, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the variable that it came from and what to do, and without its password."""
    monkeypatch.setenv("HTTP_PROXY", "http://user:hunter2@127.0.0.1:1")
    with pytest.raises(VaultUnreachable) as caught:
        client_of(SOMEWHERE).login()
    assert str(caught.value) == (
        f"cannot reach Vault at {SOMEWHERE}: the proxy http://127.0.0.1:1 (from HTTP_PROXY): Connection refused;"
        " unset HTTP_PROXY, or add the server to NO_PROXY"
    )
    assert "hunter2" not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("url", [SOMEWHERE, "https://vault.example.com"])
@pytest.mark.parametrize(
    ("status", "error", "expected"),
    [(407, VaultUnreachable, "407 Proxy Authentication Required"), (403, None, "the proxy http://127.0.0.1")],
)
def test_e1_refusing_proxy_is_named(
    client_of: ClientOf, url: str, status: int, error: type[VaultError] | None, expected: str
) -> None:
    """Whether it is asked for a page or for a tunnel."""
    proxy = ScriptedServer(respond(status, b"<html>no"))
    with proxy.running():
        client = client_of(url, VAULT_HTTP_PROXY=proxy.url)
        tunnel = url.startswith("https")
        said = said_by(client.login, error or (VaultUnreachable if tunnel else UnexpectedResponse))
    assert expected.replace("407 ", "407 " if tunnel else "407, ") in said
    assert f"{proxy.url} (from [vault] proxy_addr)" in said


def test_h1_silent_proxy_is_not_tried_thrice(client_of: ClientOf) -> None:
    """One that takes no connections counts as a server that takes none."""
    with socket.socket() as full, ExitStack() as stack:
        full.bind((HOST, 0))
        full.listen(0)
        for _ in range(3):  # fills the queue: whoever comes now hears nothing
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())
        client = client_of(SOMEWHERE, VAULT_PROXY_ADDR=f"{HOST}:{full.getsockname()[1]}", HTTP_TIMEOUT="2")
        started = time.monotonic()
        assert "the proxy" in said_by(client.login, VaultUnreachable)
        assert time.monotonic() - started < 5.5


def test_e1_deaf_proxy_is_named(client_of: ClientOf) -> None:
    """One that takes the request, and says nothing."""
    proxy = ScriptedServer()
    proxy.script = [proxy.deaf()]
    with proxy.running():
        client = client_of(SOMEWHERE, VAULT_PROXY_ADDR=proxy.url, HTTP_TIMEOUT="0.3")
        assert f"in time through the proxy {proxy.url} (" in said_by(client.login, VaultTimeout)


# ── Redirects, and the wrong address ─────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("status", [307, 308])
def test_h1_redirect_of_a_standby_is_followed(client_of: ClientOf, status: int) -> None:
    """To another host and port, with the same method and the token."""
    tokens = []

    def answer(handler: BaseHTTPRequestHandler) -> None:
        tokens.append(handler.headers["X-Vault-Token"])
        respond(200, AUTH)(handler)

    active, standby = ScriptedServer(answer), ScriptedServer()
    with active.running():
        elsewhere = active.url.replace(HOST, "localhost")
        paths = ("auth/approle/login", "auth/token/renew-self")
        standby.script = [respond(status, Location=f"{elsewhere}/v1/{path}") for path in paths]
        client_of(standby).renew_token()
    assert active.requests == ["POST auth/approle/login", "POST auth/token/renew-self"]
    assert tokens == [None, AUTH["auth"]["client_token"]]


@pytest.mark.parametrize(
    ("status", "location", "expected"),
    [
        (301, "https://vault.example/v1/auth/approle/login", "redirects to https://vault.example; set [vault] url"),
        (307, "https://user:secret@vault.example/v1/x", "redirects to https://vault.example; set [vault] url"),
        (301, "http://vault.example/pre/v1/x", "status 301, a redirect to http://vault.example/pre that would make"),
        (302, "/login?token=secret", "status 302, a redirect to http://127.0.0.1"),
        (303, "//vault.example", "status 303, a redirect to http://vault.example that would make a GET of POST"),
        (307, "http://[::1", "answered with a redirect to no address"),
        (307, "http://vault:99999/", "answered with a redirect to no address"),
        (307, "\xff\xfe", "cannot reach Vault"),
    ],
)
def test_e1_other_redirects_are_named(client_of: ClientOf, status: int, location: str, expected: str) -> None:
    """A GET would not log in, and over another scheme nothing is sent; the target is told, without user and query."""
    server = ScriptedServer(respond(status, Location=location))
    with pytest.raises(VaultError, match=r"redirect|cannot reach") as caught:
        client_of(server).login()
    assert expected in str(caught.value)
    assert "secret" not in str(caught.value)
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "text", [b"Client sent an HTTP request to an HTTPS server.\n", b"HTTP request was sent to HTTPS port"]
)
def test_e1_plain_http_to_tls_is_named(client_of: ClientOf, text: bytes) -> None:
    """What servers in Go, and nginx, answer."""
    said = said_by(client_of(ScriptedServer(respond(400, text))).login, UnexpectedResponse)
    assert "the server speaks TLS: [vault] url begins with https://" in said


def test_e1_reset_by_tls_is_named(client_of: ClientOf) -> None:
    """What a real server does to a request of more than a few bytes: the answer is lost with the connection."""

    def reset(handler: BaseHTTPRequestHandler) -> None:
        handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        handler.connection.close()
        handler.close_connection = True

    said = said_by(client_of(ScriptedServer(reset)).login, VaultUnreachable)
    assert "hung up: Connection reset by peer; does it speak TLS? [vault] url begins with https:// then" in said


# ── Namespaces ───────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def namespace(root: hvac.Client) -> str:
    """A namespace on the real server, in which nothing is prepared."""
    try:
        root.adapter.post("/v1/sys/namespaces/team-h", json={})
    except hvac.exceptions.VaultError:
        pytest.skip("this server has no namespaces (Vault has them in its Enterprise edition only)")
    return "team-h"


def test_h1_health_carries_no_namespace(make_client: Callable[..., VaultClient], namespace: str) -> None:
    """It is the server's, and is not found in a namespace."""
    assert make_client(VAULT_NAMESPACE=namespace).health_check().initialized


@pytest.mark.usefixtures("namespace")
def test_e1_wrong_namespace_is_named(make_client: Callable[..., VaultClient]) -> None:
    """For what is not found, it may be the reason."""
    said = said_by(make_client(VAULT_NAMESPACE="no-such-team").login, LoginRefused)
    assert 'nothing at auth/approle/login in the namespace "no-such-team" ([vault] namespace)' in said


# ── Certificates ─────────────────────────────────────────────────────────────────────────────────────────────────────


class Pki:
    """A CA with a server that speaks TLS and answers as a Vault does; its files stand in a folder."""

    def __init__(self, folder: Path, name: str = HOST, **wanted: bool) -> None:
        self.ca, self.folder = trustme.CA(), folder
        self.ca_file = self.write("ca.pem", self.ca.cert_pem)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.ca.issue_cert(name).configure_cert(context)
        if wanted.get("client_cert"):
            self.ca.configure_trust(context)
            context.verify_mode = ssl.CERT_REQUIRED
        if wanted.get("old_tls"):
            context.maximum_version = ssl.TLSVersion.TLSv1_2
        self.server = ScriptedServer(as_vault)
        self.server.speak_tls(context)

    def write(self, name: str, blob: trustme.Blob) -> str:
        blob.write_to_path(self.folder / name)
        return str(self.folder / name)


def as_vault(handler: BaseHTTPRequestHandler) -> None:
    """A login, a KV secret, and the health of the server."""
    path = urlsplit(handler.path).path.removeprefix("/v1/")
    answers: dict[str, object] = {
        "auth/approle/login": AUTH,
        "my-vault-app-kv/metadata/database": {"data": {"current_version": 1, "versions": {"1": FACTS}}},
        "my-vault-app-kv/data/database": {"data": {"data": {"api_key": "value"}, "metadata": FACTS}},
        "sys/health": HEALTH,
    }
    respond(200, answers[path])(handler)


def test_h1_missing_ca_is_an_outage(client_of: ClientOf, tmp_path: Path) -> None:
    """While the file is away, the cached value serves on and the error names it; afterwards all is well again."""
    pki = Pki(tmp_path)
    client = client_of(pki.server, VAULT_CACERT=pki.ca_file, KV_SECRET_REFRESH_INTERVAL="0.1", TOKEN_BACKOFF_MAX="1")
    assert not client.get_kv_secret("database").stale
    ca, away = tmp_path / "ca.pem", tmp_path / "away.pem"
    ca.rename(away)
    assert eventually(lambda: client.get_kv_secret("database").stale)
    for call in (client.health_check, client.renew_token):
        assert said_by(call, VaultUnreachable) == f"[vault] ca_file: found '{ca}', expected a file that exists"
    away.rename(ca)
    eventually(lambda: not client.get_kv_secret("database").stale)


@pytest.mark.parametrize("content", ["", "-----BEGIN CERTIFICATE-----\nAAAA\n"])
def test_h1_spoilt_ca_is_an_outage(client_of: ClientOf, tmp_path: Path, content: str) -> None:
    """A file that is half-way written."""
    pki = Pki(tmp_path)
    client = client_of(pki.server, VAULT_CACERT=pki.ca_file)
    (tmp_path / "ca.pem").write_text(content)
    assert "expected a file with certificates in PEM" in said_by(client.health_check, VaultUnreachable)


def test_h1_client_certificate_is_shown(client_of: ClientOf, tmp_path: Path) -> None:
    """By its setting; the key may stand in a file of its own."""
    pki = Pki(tmp_path, client_cert=True)
    issued = pki.ca.issue_cert("app.example")
    key, certificate = pki.write("key.pem", issued.private_key_pem), pki.write("app.pem", issued.cert_chain_pems[0])
    client = client_of(pki.server, VAULT_CACERT=pki.ca_file, VAULT_CLIENT_CERT=certificate, VAULT_CLIENT_KEY=key)
    assert client.health_check().initialized


def test_h1_vanished_key_is_an_outage(client_of: ClientOf, tmp_path: Path) -> None:
    """As a CA that is away; one that does not belong to the certificate, too."""
    pki = Pki(tmp_path, client_cert=True)
    issued, other = pki.ca.issue_cert("app.example"), pki.ca.issue_cert("b.example")
    key, certificate = pki.write("key.pem", issued.private_key_pem), pki.write("app.pem", issued.cert_chain_pems[0])
    client = client_of(pki.server, VAULT_CACERT=pki.ca_file, VAULT_CLIENT_CERT=certificate, VAULT_CLIENT_KEY=key)
    other.private_key_pem.write_to_path(key)
    assert "that belongs to client_cert" in said_by(client.health_check, VaultUnreachable)
    Path(key).unlink()
    assert "[vault] client_key: found" in said_by(client.health_check, VaultUnreachable)


@pytest.mark.parametrize("old_tls", [False, True])
def test_e1_wanted_certificate_is_named(client_of: ClientOf, tmp_path: Path, old_tls: bool) -> None:
    """TLS 1.3 says so in words, TLS 1.2 only that the handshake failed."""
    pki = Pki(tmp_path, client_cert=True, old_tls=old_tls)
    said = said_by(client_of(pki.server, VAULT_CACERT=pki.ca_file).health_check, VaultUnreachable)
    assert "client certificate" in said
    assert "[vault] client_cert" in said


def test_h1_server_name_can_be_told(client_of: ClientOf, tmp_path: Path) -> None:
    """Where the address is not what the certificate says; without it the error names the setting."""
    pki = Pki(tmp_path, name="vault.example")
    with pki.server.running():
        url = pki.server.url
        named = client_of(url, VAULT_CACERT=pki.ca_file, VAULT_TLS_SERVER_NAME="vault.example")
        assert named.health_check().initialized
        said = said_by(client_of(url, VAULT_CACERT=pki.ca_file).health_check, VaultUnreachable)
        assert "[vault] tls_server_name" in said
        other = client_of(url, VAULT_CACERT=pki.ca_file, VAULT_TLS_SERVER_NAME="other.example")
        assert "other.example" in said_by(other.health_check, VaultUnreachable)


@pytest.mark.parametrize("name", TRUST_VARIABLES)
def test_h1_cas_of_the_process(client_of: ClientOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Trusted where ca_file is empty; when the file is gone, the error names the variable."""
    pki = Pki(tmp_path)
    for each in TRUST_VARIABLES:
        monkeypatch.delenv(each, raising=False)
    monkeypatch.setenv(name, pki.ca_file)
    client = client_of(pki.server)
    assert client.health_check().initialized
    Path(pki.ca_file).unlink()
    assert said_by(client.health_check, VaultUnreachable).startswith(f"{name}: found")


def test_h1_ca_file_wins(client_of: ClientOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Over what the process trusts; and what hvac reads by itself counts for nothing."""
    pki = Pki(tmp_path)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/nowhere")
    monkeypatch.setattr("hvac.v1.VAULT_CLIENT_CERT", "/nowhere")
    assert client_of(pki.server, VAULT_CACERT=pki.ca_file).health_check().initialized
