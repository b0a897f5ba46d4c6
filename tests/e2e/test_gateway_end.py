"""How `python -m gateway` begins and ends: signals under load and while Vault hangs, ports, settings, a kill."""

from __future__ import annotations

import http.client
import json
import signal
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from devserver.openbao import HOST
from devserver.proxy import Proxy, say_nothing
from tests.backends import Backend
from tests.e2e.conftest import Run, halted_at
from tests.gateways import TENANTS, GatewayProcess, Vault, gateway
from tests.identity_provider import Provider
from tests.integration.conftest import eventually

END_SECONDS = 5.0
SLACK_SECONDS = 2.0
"""What a busy machine may add."""
PATIENT = {"HTTP_TIMEOUT": "30"}
"""For what is not about a Vault that hangs: one that is slow for a second is waited for."""
SETTINGS = {"GATEWAY_SECRET_ID_FILE": "/none", "GATEWAY_PORT": "0", "GATEWAY_METRICS_PORT": "0"}


@pytest.fixture(scope="module")
def provider() -> Iterator[Provider]:
    with Provider().running() as running:
        yield running


@pytest.fixture(scope="module")
def vault(backend: Backend, tmp_path_factory: pytest.TempPathFactory) -> Vault:
    return Vault("gateway-end", backend.root, tmp_path_factory.mktemp("end")).prepare()


@pytest.fixture
def proxy(backend: Backend) -> Iterator[Proxy]:
    with Proxy((HOST, int(backend.url.rpartition(":")[2]))).running() as proxy:
        yield proxy


class Load:
    """Readers that ask all the time, each on a connection that is kept: what came of it, and of what was under way."""

    def __init__(self, port: int, token: str, readers: int = 4) -> None:
        self.outcomes: Counter[str] = Counter()
        self._port, self._token = port, token
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._read, args=(n,), daemon=True) for n in range(readers)]
        for thread in self._threads:
            thread.start()

    def _read(self, number: int) -> None:
        path = "/vault/secrets/app" if number % 2 else "/vault/secrets/app?version=1"  # from the cache, and past it
        connection = http.client.HTTPConnection(HOST, self._port, timeout=20)
        with closing(connection):
            while not self._stop.is_set():
                try:
                    connection.request("GET", path, headers={"Authorization": f"Bearer {self._token}"})
                    response = connection.getresponse()
                    response.read()
                    self.outcomes[str(response.status)] += 1
                except http.client.RemoteDisconnected:  # nothing of an answer: the server had hung up before
                    self.outcomes["hung up"] += 1
                    connection.close()
                except ConnectionError as error:
                    self.outcomes["refused" if isinstance(error, ConnectionRefusedError) else "hung up"] += 1
                    connection.close()
                    self._stop.wait(0.01)
                except (OSError, http.client.HTTPException) as error:  # half an answer
                    self.outcomes[type(error).__name__] += 1
                    connection.close()

    def end(self) -> Counter[str]:
        self._stop.set()
        for thread in self._threads:
            thread.join(20)
        return self.outcomes


def revoked(backend: Backend, since: int, vault: Vault) -> set[str]:
    """The tenants whose token was revoked, as the server's own log has it."""
    lines = backend.audit.text()[since:].splitlines()
    entries = [json.loads(line) for line in lines if "revoke-self" in line]
    names = {(entry["auth"].get("metadata") or {}).get("role_name") for entry in entries if entry["type"] == "response"}
    return {tenant for tenant in TENANTS if vault.role(tenant) in names}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT], ids=str)
def test_x1_signal_ends_in_order(backend: Backend, vault: Vault, provider: Provider, number: signal.Signals) -> None:
    """Under load: whole answers, or none; every tenant's token is revoked; nothing is said that is no log."""
    since = len(backend.audit.text())
    token = provider.token()
    with gateway(vault, provider) as running:
        load = Load(running.port, token)
        eventually(lambda: load.outcomes["200"] > 50)
        status, took = running.stop(number)
        eventually(lambda: load.outcomes["refused"] > 4)
        outcomes = load.end()
    assert (status, took < END_SECONDS + SLACK_SECONDS) == (0, True), took
    assert set(outcomes) <= {"200", "503", "hung up", "refused"}
    assert outcomes["hung up"] <= 4
    assert revoked(backend, since, vault) == set(TENANTS)
    assert token not in running.out + running.err
    assert "Traceback" not in running.err
    assert all(json.loads(line) for line in running.err.splitlines())


def test_x1_ends_while_vault_hangs(vault: Vault, provider: Provider, proxy: Proxy) -> None:
    """Who waits for Vault is told to come back; nobody waits for a token to be revoked."""
    answers: list[str] = []
    with gateway(vault, provider, VAULT_URL=proxy.url, HTTP_TIMEOUT="30") as running:
        token, port = provider.token(), running.port

        def wait_for_vault() -> None:
            answers.append(str(running.ask("GET", "/vault/secrets/app?version=1", token)))

        assert port
        proxy.misbehave(say_nothing)
        waiting = threading.Thread(target=wait_for_vault)
        waiting.start()
        eventually(lambda: any("/data/" in path for _, path in proxy.requests))
        status, took = running.stop(signal.SIGTERM)
        waiting.join()
    assert answers == ["503 gateway-ending"]
    assert status == 0
    assert took < END_SECONDS + SLACK_SECONDS
    assert "Traceback" not in running.err


def test_x1_ends_in_the_first_login(vault: Vault, provider: Provider, proxy: Proxy) -> None:
    """Vault hangs from the beginning, and so does the provider's JWKS: it listens, says that it is not ready, ends."""
    proxy.misbehave(say_nothing)
    program = GatewayProcess(vault, provider, VAULT_URL=proxy.url, HTTP_TIMEOUT="30")
    try:
        eventually(lambda: any("login" in path for _, path in proxy.requests))
        assert program.health("/readyz").status == 503
        assert program.health("/livez").status == 200
        status, took = program.stop(signal.SIGTERM)
    finally:
        program.kill()
    assert status == 0
    assert took < END_SECONDS + SLACK_SECONDS
    assert "Traceback" not in program.err


def test_x1_second_signal_ends_at_once(vault: Vault, provider: Provider, proxy: Proxy) -> None:
    """Whatever the first one is still waiting for."""
    with gateway(vault, provider, VAULT_URL=proxy.url, HTTP_TIMEOUT="30", GATEWAY_SHUTDOWN_TIMEOUT="60") as running:
        proxy.misbehave(say_nothing)
        token, port = provider.token(), running.port
        connection = http.client.HTTPConnection(HOST, port)
        with closing(connection):
            connection.request("GET", "/vault/secrets/app?version=1", headers={"Authorization": f"Bearer {token}"})
            eventually(lambda: any("/data/" in path for _, path in proxy.requests))
            running.send(signal.SIGTERM)
            eventually(lambda: is_refused(port))
            time.sleep(0.3)  # for the second signal to be one
            status, took = running.stop(signal.SIGINT)
    assert status == -signal.SIGINT
    assert took < 1.0 + SLACK_SECONDS
    assert "Traceback" not in running.err


def test_starts_without_vault_and_provider(vault: Vault, provider: Provider, proxy: Proxy) -> None:
    """It answers within seconds that it cannot yet; and can when they are there, without help."""
    token = provider.token()
    good, provider.server.script = provider.server.script, [provider.server.deaf()]
    proxy.misbehave(say_nothing)
    program = GatewayProcess(vault, provider, VAULT_URL=proxy.url, HTTP_TIMEOUT="30", TOKEN_BACKOFF_MAX="1")
    try:
        began = time.monotonic()
        assert str(program.ask("GET", "/vault/secrets/app", token)) == "503 keys-unavailable"
        assert time.monotonic() - began < 10 + SLACK_SECONDS
        provider.server.script = good
        proxy.behave()
        proxy.cut()
        program.wait_until_ready()
        assert program.ask("GET", "/vault/secrets/app", token).status == 200
    finally:
        provider.server.script = good
        program.kill()


def test_kill_leaves_tokens_that_end(backend: Backend, vault: Vault, provider: Provider) -> None:
    """kill -9: nothing of the gateway is left but tokens with an end, and the next one starts as if nothing were."""
    since = len(backend.audit.text())
    with gateway(vault, provider, **PATIENT) as running:
        running.process.kill()
        assert running.wait() == -signal.SIGKILL
    assert revoked(backend, since, vault) == set()
    lines = [json.loads(line) for line in backend.audit.text()[since:].splitlines()]
    logins = [line for line in lines if line["type"] == "response" and line["request"]["path"] == "auth/approle/login"]
    ours = [each["auth"] for each in logins if each["auth"]["metadata"]["role_name"] in map(vault.role, TENANTS)]
    assert len(ours) == len(TENANTS)
    assert all(0 < auth["token_ttl"] <= 300 for auth in ours)
    with gateway(vault, provider, **PATIENT) as again:
        assert again.ask("GET", "/vault/secrets/app", provider.token()).status == 200


@pytest.mark.parametrize(
    ("stdout", "said"),
    [("", ""), ("> >(exec head -c 1 >&2)", "Broken pipe"), ("> /dev/full", "No space left"), (">&-", "")],
)
def test_x1_stdout_that_takes_nothing(vault: Vault, provider: Provider, stdout: str, said: str) -> None:
    """Callers are answered all the same, and what is amiss is said once."""
    command = ["bash", "-c", f"exec {sys.executable} -m gateway {stdout}"]
    program = GatewayProcess(vault, provider, command=command, **PATIENT)
    try:
        program.wait_until_ready()
        for _ in range(5):
            assert program.ask("GET", "/vault/secrets/app", provider.token()).status == 200
        assert program.stop(signal.SIGTERM)[0] == 0
    finally:
        program.kill()
    assert program.err.count("the access log cannot be written") == (1 if said else 0)
    assert said in program.err
    assert "Traceback" not in program.err
    assert "Exception ignored" not in program.err


@pytest.mark.parametrize("variable", ["GATEWAY_PORT", "GATEWAY_METRICS_PORT"])
def test_port_that_is_taken(backend: Backend, vault: Vault, provider: Provider, variable: str) -> None:
    """Exit status 1, and one line that says which; nobody has logged in."""
    since = len(backend.audit.text())
    with closing(socket.create_server((HOST, 0))) as taken:
        port = taken.getsockname()[1]
        program = GatewayProcess(vault, provider, **{variable: str(port)})
        try:
            assert program.wait() == 1
        finally:
            program.kill()
    assert program.err.splitlines()[-1].endswith(f"cannot listen on {HOST}, port {port}: Address already in use")
    assert "Traceback" not in program.err
    assert vault.role("acme") not in backend.audit.text()[since:]


def test_every_problem_of_both_files(start: Run, tmp_path: Path) -> None:
    """Exit status 2, all at once, each with what was found and what was expected; no value of a secret."""
    roles = tmp_path / "roles.ini"
    roles.write_text("[no such thing\n")
    program = start(
        sys.executable, "-m", "gateway", GATEWAY_PORT="http", GATEWAY_IDENTITY_ISSUER="http://example.com",
        GATEWAY_TENANTS="Acme", HTTP_TIMEOUT="soon", VAULT_SECRET_ID="a-secret-id",
    )  # fmt: skip
    assert program.wait() == 2
    for name in ("port", "issuer", "tenants", "timeout"):
        assert f"] {name}: " in program.err
    assert "a-secret-id" not in program.err
    assert "Traceback" not in program.err
    second = start(sys.executable, "-m", "gateway", GATEWAY_ROLES=str(roles), **SETTINGS)
    assert second.wait() == 2
    assert "Traceback" not in second.err
    assert "roles.ini" in second.err


@pytest.mark.parametrize(("module", "first"), [("gateway", "hvac"), ("gateway.demo", "http")])
def test_x1_signal_during_the_imports(start: Run, tmp_path: Path, module: str, first: str) -> None:
    """Ctrl+C at the very beginning, at one of the first imports of many, leaves no traceback."""
    program = start(sys.executable, "-m", module, **halted_at(first, tmp_path), **SETTINGS)
    program.wait_for("halted")
    assert program.stop(signal.SIGINT)[0] == -signal.SIGINT
    assert "Traceback" not in program.err


def is_refused(port: int) -> bool:
    try:
        socket.create_connection((HOST, port), timeout=5).close()
    except ConnectionError:
        return True
    return False
