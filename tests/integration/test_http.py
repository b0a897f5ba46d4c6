"""The rules C2 and H1: how often a request is repeated, and how long and large it may be."""

from __future__ import annotations

import dataclasses
import gzip
import json
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from devserver.openbao import HOST, bao_folder, free_port
from devserver.process import Process
from tests.integration.conftest import ClientOf
from tests.servers import Answer, ScriptedServer, endless, hang_up, respond, truncated
from vaultkit.errors import (
    LoginRefused,
    RequestRejected,
    ResponseTooLarge,
    UnexpectedResponse,
    VaultError,
    VaultOverloaded,
    VaultSealed,
    VaultStandby,
    VaultTimeout,
    VaultUnavailable,
    VaultUnreachable,
)

HEALTH = {"initialized": True, "sealed": False, "standby": False, "version": "2.7.2"}
AUTH = {"auth": {"client_token": "hvs.x", "lease_duration": 60, "renewable": True, "policies": []}}


class TestC2:
    @pytest.mark.parametrize("status", [412, 429, 500, 502, 503, 504])
    def test_c2_passing_trouble_is_retried(self, client_of: ClientOf, status: int) -> None:
        """Twice, and the third answer counts; for a login, too."""
        server = ScriptedServer(respond(status), respond(status), respond(200, AUTH))
        assert client_of(server).login().generation == 1
        assert len(server.requests) == 3

    @pytest.mark.parametrize(("status", "requests"), [(500, 1), (502, 1), (504, 1), (412, 2), (429, 2), (503, 2)])
    def test_c2_change_is_not_repeated(self, client_of: ClientOf, status: int, requests: int) -> None:
        """Unless Vault says that it has not begun: a gateway on the way may answer for a Vault that goes on with it."""
        server = ScriptedServer(respond(200, AUTH), respond(status), respond(200, {"data": {}}))
        client = client_of(server)
        with suppress(VaultError):
            client.ask(lambda api: api.secrets.kv.v2.create_or_update_secret("app", {"a": 1}, mount_point="secret"))
        assert server.requests[1:] == ["POST secret/data/app"] * requests

    def test_c2_retries_are_few_and_short(self, client_of: ClientOf) -> None:
        """Lasting trouble is an error after three requests and about a second."""
        server = ScriptedServer(respond(500))
        client = client_of(server)
        started = time.monotonic()
        with pytest.raises(VaultUnavailable):
            client.login()
        assert len(server.requests) == 3
        assert time.monotonic() - started < 5

    def test_c2_known_outage_is_tried_once(self, client_of: ClientOf) -> None:
        """Retries bridge a moment; from then on the back-off of whoever asks is enough, until something succeeds."""
        server = ScriptedServer(*[respond(500)] * 4, respond(200, AUTH), respond(500), respond(500), respond(200, AUTH))
        client = client_of(server)
        for tried_so_far in (3, 4):
            with pytest.raises(VaultError):
                client.health_check()
            assert len(server.requests) == tried_so_far
        client.login()
        client.login()
        assert len(server.requests) == 8

    def test_c2_refused_connection_is_retried(self, client_of: ClientOf, caplog: pytest.LogCaptureFixture) -> None:
        """Nothing was sent, so nothing can happen twice; urllib3 says that it tried again."""
        with pytest.raises(VaultUnreachable):
            client_of("http://127.0.0.1:1").login()
        assert caplog.text.count("Retrying (") == 2

    def test_c2_known_unreachable_server_is_tried_once(
        self, client_of: ClientOf, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A server that takes no connections is an outage like any other: retried twice, and from then on never."""
        client = client_of("http://127.0.0.1:1")
        for _ in range(3):
            with pytest.raises(VaultUnreachable):
                client.health_check()
        assert caplog.text.count("Retrying (") == 2

    @pytest.mark.parametrize(("status", "error"), [(400, LoginRefused), (403, LoginRefused), (405, LoginRefused)])
    def test_c2_refusals_are_not_retried(self, client_of: ClientOf, status: int, error: type[VaultError]) -> None:
        """A no is a no."""
        server = ScriptedServer(respond(status))
        with pytest.raises(error):
            client_of(server).login()
        assert len(server.requests) == 1

    def test_c2_past_max_ttl_is_not_retried(self, client_of: ClientOf) -> None:
        """Vault refuses such a renewal with status 500, and the token has no time to lose."""
        server = ScriptedServer(respond(200, AUTH), respond(500, {"errors": ["past the max TTL, cannot renew"]}))
        client = client_of(server)
        client.login()
        with pytest.raises(RequestRejected, match="past the max TTL"):
            client.renew_token()
        assert len(server.requests) == 2

    def test_c2_renewal_is_retried(self, client_of: ClientOf) -> None:
        """Only status 500 may mean that it is past max TTL: a standby that takes over is bridged as for any request."""
        server = ScriptedServer(respond(200, AUTH), respond(503), respond(200, AUTH))
        client = client_of(server)
        client.login()
        client.renew_token()
        assert len(server.requests) == 3

    def test_c2_retry_after_zero_is_retried(self, client_of: ClientOf) -> None:
        """A server that asks for no pause gets the usual short one."""
        server = ScriptedServer(respond(429, Retry_After="0"), respond(200, AUTH))
        client_of(server).login()
        assert len(server.requests) == 2

    def test_c2_long_retry_after_is_left_to_the_caller(self, client_of: ClientOf) -> None:
        """A longer pause would hold up a shutdown: the error says how long it is, and nothing is sent meanwhile."""
        server = ScriptedServer(respond(429, Retry_After="30"))
        client = client_of(server)
        with pytest.raises(VaultOverloaded) as caught:
            client.login()
        assert caught.value.retry_after == 30
        with pytest.raises(VaultOverloaded):
            client.login()
        assert len(server.requests) == 1

    @pytest.mark.parametrize("value", ["Wed, 25 Nov 2037 07:28:00 GMT", "9" * 5000, "-1", "soon"])
    def test_c2_odd_retry_after_does_not_hang(self, client_of: ClientOf, value: str) -> None:
        """A date, a huge number, nonsense: none of them makes urllib3 sleep."""
        server = ScriptedServer(respond(429, Retry_After=value), respond(200, AUTH))
        assert client_of(server).login().generation == 1

    def test_c2_sent_request_is_not_repeated(self, client_of: ClientOf) -> None:
        """When the connection breaks after the request, Vault may have acted on it: a second lease would be lost."""
        server = ScriptedServer(hang_up)
        with pytest.raises(VaultUnreachable):
            client_of(server).login()
        assert len(server.requests) == 1


class TestH1:
    @pytest.mark.parametrize("answer", ["deaf", "trickling", "trickling_headers"])
    def test_h1_request_has_a_timeout(self, client_of: ClientOf, answer: str) -> None:
        """Silence, and a body or headers that never end though each byte comes in time."""
        server = ScriptedServer()
        server.script = [getattr(server, answer)()]
        client = client_of(server, HTTP_TIMEOUT="0.3")
        started = time.monotonic()
        with pytest.raises(VaultTimeout):
            client.login()
        assert time.monotonic() - started < 10

    def test_h1_timeout_is_for_the_whole_response(self, client_of: ClientOf) -> None:
        """What comes late does not win time for what does not come at all."""
        server = ScriptedServer()

        def begin_late(handler: BaseHTTPRequestHandler) -> None:
            server.closing.wait(3.8)
            handler.wfile.write(b"HTTP/1.1 200 OK\r\n")
            server.closing.wait(60)

        server.script = [begin_late]
        client = client_of(server, HTTP_TIMEOUT="4")
        started = time.monotonic()
        with pytest.raises(VaultTimeout):
            client.login()
        assert time.monotonic() - started < 7.5

    def test_h1_connecting_has_the_same_timeout(self, client_of: ClientOf) -> None:
        """A server that takes no connections is not tried three times."""
        with socket.socket() as full, ExitStack() as stack:
            full.bind((HOST, 0))
            full.listen(0)
            for _ in range(3):  # fills the queue: whoever comes now hears nothing
                waiting = stack.enter_context(socket.socket())
                waiting.setblocking(False)
                waiting.connect_ex(full.getsockname())
            client = client_of(f"http://{HOST}:{full.getsockname()[1]}", HTTP_TIMEOUT="2")
            started = time.monotonic()
            with pytest.raises(VaultTimeout):
                client.login()
            assert time.monotonic() - started < 5.5

    def test_h1_endless_error_is_not_read_to_its_end(self, client_of: ClientOf) -> None:
        """Before a retry the rest of an error is thrown away unread, however long it is."""
        server = ScriptedServer(endless(503), respond(200, AUTH))
        assert client_of(server).login().generation == 1

    @pytest.mark.parametrize("answer", [endless(200), respond(200, b"x" * 5000), respond(200, {"x": "y" * 4096})])
    def test_h1_response_has_a_limit(self, client_of: ClientOf, answer: Answer) -> None:
        """It is read no further than the limit, so that even an endless one ends."""
        with pytest.raises(ResponseTooLarge, match="max_response_size"):
            client_of(ScriptedServer(answer)).login()

    def test_h1_response_up_to_the_limit_is_read(self, client_of: ClientOf) -> None:
        """4096 bytes are not too many; 4097 are, as the test above shows."""
        room = 4096 - len(json.dumps({**HEALTH, "padding": ""}))
        body = json.dumps({**HEALTH, "padding": "x" * room}).encode()
        assert len(body) == 4096
        assert client_of(ScriptedServer(respond(200, body))).health_check().version == "2.7.2"

    def test_h1_compressed_response_has_the_same_limit(self, client_of: ClientOf) -> None:
        """It counts what comes out: ten megabytes of blanks fit into ten kilobytes."""

        def packed(body: bytes) -> Answer:
            return respond(200, gzip.compress(body), Content_Encoding="gzip")

        health = json.dumps(HEALTH).encode()
        assert client_of(ScriptedServer(packed(health))).health_check().version == "2.7.2"
        with pytest.raises(ResponseTooLarge):
            client_of(ScriptedServer(packed(b" " * 10**7))).health_check()

    def test_h1_no_redirect_to_plain_http(self, client_of: ClientOf) -> None:
        """The session knows no other scheme than that of the address, so that no redirect takes the token along."""
        client = client_of("https://127.0.0.1:1")
        assert list(client._new_session().adapters) == ["https://"]


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (respond(503, {"errors": ["Vault is sealed"]}), VaultSealed),
        (respond(501, {"errors": ["Vault is not initialized"]}), VaultSealed),
        (respond(472), VaultStandby),
        (respond(473), VaultStandby),
        (respond(503, {"errors": ["node is in standby mode"]}), VaultStandby),
        (respond(500, {"errors": ["local node not active but active cluster node not found"]}), VaultStandby),
        (respond(404, {"message": "no Route matched with those values"}), UnexpectedResponse),
        (respond(503, b"<html>no healthy upstream"), VaultUnavailable),
        (respond(200, b"<html>welcome"), UnexpectedResponse),
        (respond(403, b"<html>blocked by the proxy"), UnexpectedResponse),
        (respond(200, b""), UnexpectedResponse),
        (respond(200, b"[]"), UnexpectedResponse),
        (respond(200, {"auth": None}), UnexpectedResponse),
        (respond(200, b"\xff\xfe"), UnexpectedResponse),
        (truncated, VaultUnreachable),
    ],
)
def test_troubles_are_told_apart(client_of: ClientOf, answer: Answer, error: type[VaultError]) -> None:
    """Each kind of trouble has its own error, and no answer of a proxy is taken for a refusal by Vault."""
    with pytest.raises(VaultError) as caught:
        client_of(ScriptedServer(answer)).login()
    assert type(caught.value) is error


def test_error_of_the_server_cannot_steer_a_terminal(client_of: ClientOf) -> None:
    """Escape sequences in its texts are made harmless."""
    with pytest.raises(LoginRefused) as caught:
        client_of(ScriptedServer(respond(400, {"errors": ["\x1b[2J"]}))).login()
    assert "\x1b" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "reason"),
    [("http://127.0.0.1:1", "Connection refused"), ("http://no-such-host.invalid:8200", "no-such-host.invalid")],
)
def test_unreachable_server_is_explained(client_of: ClientOf, url: str, reason: str) -> None:
    """The address, and what the operating system said of it, which is the cause."""
    with pytest.raises(VaultUnreachable, match=reason) as caught:
        client_of(url).health_check()
    assert isinstance(caught.value.__cause__, OSError)


def test_error_of_the_caller_is_no_reason(client_of: ClientOf) -> None:
    """Who asks while handling another error is not told that one."""
    try:
        raise KeyError("of the caller")
    except KeyError:
        with pytest.raises(VaultUnreachable, match="Connection refused"):
            client_of("http://127.0.0.1:1").health_check()


@pytest.mark.parametrize(
    "state", [{"sealed": True}, {"standby": True}, {"initialized": False, "sealed": True}], ids=str
)
def test_health_tells_every_state(client_of: ClientOf, state: dict[str, bool]) -> None:
    """A server that cannot serve still says how it is; that is no error, and no reason to retry."""
    server = ScriptedServer(respond(200, {**HEALTH, **state}))
    health = client_of(server).health_check()
    assert dataclasses.asdict(health) == {**HEALTH, **state}
    assert len(server.requests) == 1
    assert "sealedcode=200" in server.requests[0]


@pytest.fixture(scope="module")
def tls_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """A real OpenBao that speaks TLS, and the CA that signed its certificate."""
    folder = tmp_path_factory.mktemp("tls")
    port = free_port(0)
    command = [str(bao_folder() / "bao"), "server", "-dev-tls", f"-dev-tls-cert-dir={folder}", "-dev-no-store-token"]
    process = Process(
        "OpenBao", [*command, f"-dev-listen-address={HOST}:{port}"], log=folder / "log", env={"HOME": str(folder)}
    )
    try:
        process.wait_until(lambda: "Root Token" in (folder / "log").read_text(), 30, lambda: None)
        yield f"https://{HOST}:{port}", next(folder.glob("*ca*.pem"))
    finally:
        process.stop()


def test_h1_tls_is_verified(tls_server: tuple[str, Path], client_of: ClientOf) -> None:
    """A certificate of an unknown CA is refused, and the error names the setting."""
    with pytest.raises(VaultUnreachable, match=r"no trusted TLS connection.*ca_file"):
        client_of(tls_server[0]).health_check()


def test_h1_timeout_is_the_same_with_tls(tls_server: tuple[str, Path], client_of: ClientOf) -> None:
    """There, too, headers that trickle in for ever end with it."""
    server, folder = ScriptedServer(), tls_server[1].parent
    server.script = [server.trickling_headers()]
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(next(folder.glob("*cert*.pem")), next(folder.glob("*key*.pem")))
    server.speak_tls(tls)
    client = client_of(server, VAULT_CACERT=str(tls_server[1]), HTTP_TIMEOUT="1")
    started = time.monotonic()
    with pytest.raises(VaultTimeout):
        client.login()
    assert time.monotonic() - started < 10


def test_http_server_behind_https_address(client_of: ClientOf) -> None:
    """The hint is about the address then, not about a CA."""
    with ScriptedServer(respond(200)).running() as server, pytest.raises(VaultUnreachable, match="http:// address"):
        client_of(server.url.replace("http:", "https:")).health_check()


def test_h1_ca_file_is_trusted(tls_server: tuple[str, Path], client_of: ClientOf) -> None:
    """With the CA named, the same server is fine."""
    url, ca_file = tls_server
    assert client_of(url, VAULT_CACERT=str(ca_file)).health_check().initialized


def test_h1_verification_can_be_turned_off(
    tls_server: tuple[str, Path], client_of: ClientOf, caplog: pytest.LogCaptureFixture
) -> None:
    """For a first try on a laptop; that it is so is logged once, and not told by urllib3 at each request."""
    client = client_of(tls_server[0], VAULT_SKIP_VERIFY="true")
    for _ in range(3):
        assert client.health_check().initialized  # a warning of urllib3 would be an error here
    assert [record.levelname for record in caplog.records if "is not checked" in record.message] == ["WARNING"]
