"""P1 at the gateway: no value, JWT, token or secret_id leaves it but in the one answer, whatever goes wrong.

On a fake Vault, which fails to order and gives back all that it was sent, as the worst of servers might.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from gateway.api.gate import Gate
from tests.attacked import Attacked, attacked, request
from tests.identity_provider import Provider
from tests.servers import Answer, ScriptedServer, hang_up, respond, truncated

VALUE, WRITTEN, SECRET_ID, TOKEN = "canary-value-1", "canary-written-2", "canary-secret-id-3", "hvs.canary-token-4"
CANARIES = (VALUE, WRITTEN, SECRET_ID, TOKEN)
APP = "/vault/secrets/app"
METADATA = {"version": 1, "created_time": "2026-11-25T12:00:00Z", "deletion_time": "", "destroyed": False}


class Vault:
    """Logs everybody in, knows one secret; and does what `fault` says with everything else."""

    def __init__(self) -> None:
        self.fault: Answer | None = None
        self.server = ScriptedServer(self.answer)

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        if "login" in handler.path or "renew" in handler.path:
            auth = {"client_token": TOKEN, "accessor": "a", "lease_duration": 60, "renewable": True, "policies": ["p"]}
            respond(200, {"auth": {**auth, "token_type": "service", "metadata": {}}})(handler)
        elif "/auth/token" in handler.path:
            respond(200, {"data": {"ttl": 60, "renewable": True, "type": "service"}})(handler)
        elif self.fault is not None:
            self.fault(handler)
        elif "/metadata/" in handler.path:
            facts = {"current_version": 1, "versions": {"1": METADATA}, "keys": ["app"]}
            respond(200, {"data": facts})(handler)
        elif handler.command == "GET":
            respond(200, {"data": {"data": {"api_key": VALUE}, "metadata": METADATA}})(handler)
        else:
            respond(200, {"data": METADATA})(handler)


def quoting(status: int, where: str) -> Answer:
    """An answer that quotes all that is secret."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        said = f"{' '.join(CANARIES)} {dict(handler.headers)}"
        respond(status, {"errors": ["1 error occurred"], where: [said], "data": {"error": said}})(handler)

    return answer


DEEP = b'{"data": {"data": {"a": "' + VALUE.encode() + b'", "b": ' + b"[" * 5000 + b"]" * 5000 + b"}}}"
FAULTS: dict[str, Answer] = {
    **{f"status {status}": quoting(status, "warnings") for status in (400, 403, 404, 429, 500, 503)},
    "says secrets": quoting(400, "errors"),
    "garbage": respond(200, f"<html>{VALUE} {TOKEN}".encode()),
    "no such JSON": respond(200, {"data": {"data": [VALUE], "metadata": VALUE}}),
    "deep": respond(200, DEEP),
    "hangs up": hang_up,
    "truncated": truncated,
}


@pytest.fixture(scope="module")
def vault() -> Iterator[Vault]:
    vault = Vault()
    with vault.server.running():
        yield vault


@pytest.fixture(scope="module", params=["service", "caller", "batch"])
def leaky(vault: Vault, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Attacked]:
    """A gateway on this Vault."""
    files: Path = tmp_path_factory.mktemp("leaks")
    (files / "secrets").mkdir()
    for tenant in ("acme", "globex"):
        (files / "secrets" / tenant).write_text(SECRET_ID)
    provider = Provider()
    mode = "service" if request.param == "service" else "caller"
    login = "inline" if request.param == "caller" else "batch"
    with (
        provider.server.running(),
        attacked(
            vault.server.url, provider, files,
            GATEWAY_ACT_AS=mode, GATEWAY_CALLER_LOGIN=login, GATEWAY_CACHE_REFRESH_INTERVAL="0.1",
            GATEWAY_CACHE_MAX_STALE="0",
        ) as running,
    ):  # fmt: skip
        yield running


@pytest.fixture
def traces(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """All errors that come to the gate, as tools show them that show variables, too (Sentry, rich, pytest -l)."""
    found: list[str] = []
    apologise = Gate._apologise

    async def watched(self: Gate, error: Exception, *rest: Any) -> None:
        found.append("".join(traceback.TracebackException.from_exception(error, capture_locals=True).format()))
        await apologise(self, error, *rest)

    monkeypatch.setattr(Gate, "_apologise", watched)
    return found


def shown(running: Attacked, *more: str) -> str:
    """All that anybody sees of it, but the answers that hold a secret."""
    inner = running.gateway
    objects = [inner, *vars(inner).values(), running.gate, inner._cache._kept, inner._verifier._remembered]
    objects += [each for tenant in inner._tenants.values() for each in (tenant, *vars(tenant).values())]
    return "\n".join([running.log, running.trail, running.metrics(), repr(objects), *more])


def places(found: str, *secrets: str) -> list[str]:
    """Where secrets stand, and in what."""
    at = [(found.find(secret), secret) for secret in secrets]
    return [found[max(0, start - 150) : start + len(secret)] for start, secret in at if start >= 0]


def attacks(jwt: str) -> list[bytes]:
    body, roll_back, batch = {"data": {"api_key": WRITTEN}}, "/vault/rollback/app", "/vault/batch"
    return [
        request(APP, "GET", jwt),
        request(f"{APP}?version=1", "GET", jwt),
        request(batch, "POST", jwt, {"paths": ["app"]}),
        request(APP, "PUT", jwt, body),
        request(APP, "PUT", jwt, body, If_Match='"1-000000000000"'),
        request(APP, "PUT", jwt, body, If_None_Match="*"),
        request(APP, "DELETE", jwt),
        request(roll_back, "POST", jwt, {"version": 1}),
        request("/vault/versions/app", "GET", jwt),
        request("/vault/list/", "GET", jwt),
        request(APP, "PUT", jwt, {"data": {"a": WRITTEN, "n": 2**60}}),
        request(APP, "PUT", jwt, f'{{"data": {{"a": "{WRITTEN}"'.encode()),
        request(APP, "PUT", jwt, [WRITTEN]),
        request(APP, "PUT", jwt, WRITTEN.encode() * 8000),
        request(roll_back, "POST", jwt, {"version": WRITTEN}),
        request(batch, "POST", jwt, {"paths": WRITTEN}),
        request(APP, "GET", jwt[:-9] + "AAAAAAAAA"),
        request(APP, "GET", "", Authorization=f"Basic {WRITTEN}"),
    ]


def misplaced(jwt: str) -> list[bytes]:
    """Secrets where none belong. What a caller puts into a query stands in the request, and so in its variables."""
    return [
        request(f"{APP}?token={WRITTEN}", "GET", jwt),
        request(f"{APP}?token={jwt}", "GET"),
        request(f"/{WRITTEN}", "GET", jwt),
        request("/vault/secrets/.//" + WRITTEN, "GET", jwt),
        request(APP, "GET", jwt, X_Request_Id=f"{WRITTEN} {jwt}", traceparent=WRITTEN, If_None_Match=WRITTEN),
        request(APP, "PUT", jwt, {"data": {}}, If_Match=WRITTEN),
    ]


@pytest.mark.parametrize("fault", FAULTS)
def test_p1_no_fault_shows_a_secret(leaky: Attacked, vault: Vault, traces: list[str], fault: str) -> None:
    """In no log at DEBUG, audit trail, figure, repr, answer, header, nor traceback with the variables of its frames."""
    leaky.gateway._cache.clear()
    vault.fault = FAULTS[fault]
    jwt = leaky.jwt()
    answers = [leaky.send(raw).decode() for raw in attacks(jwt)]
    if fault == "says secrets":
        traces.clear()  # for an error's text is the server's own words (E1); whom we show it to is another matter
    found = shown(leaky, *traces, *answers)
    assert places(found, *CANARIES, jwt.rpartition(".")[2]) == []


def test_p1_one_answer_alone_holds_the_value(leaky: Attacked, vault: Vault, traces: list[str]) -> None:
    """The one to who may read; and it can be told from all others, or the tests above would see nothing."""
    leaky.gateway._cache.clear()
    vault.fault, jwt = None, leaky.jwt()
    answers = [leaky.send(raw).decode() for raw in attacks(jwt)]
    with_value = [number for number, answer in enumerate(answers) if VALUE in answer]
    assert with_value == [0, 1, 2]  # the reads
    found = shown(leaky, *traces, *(answer for number, answer in enumerate(answers) if number not in with_value))
    assert places(found, *CANARIES, jwt.rpartition(".")[2]) == []


def test_p1_what_is_misplaced_is_not_told_on(leaky: Attacked, vault: Vault) -> None:
    """A JWT in the query, a value as a path that is refused, as an ETag, as a number of a request."""
    vault.fault, jwt = None, leaky.jwt()
    answers = [leaky.send(raw).decode() for raw in misplaced(jwt)]
    found = shown(leaky, *(answer.replace(VALUE, "") for answer in answers))
    assert places(found, WRITTEN, jwt.rpartition(".")[2]) == []


@pytest.mark.parametrize("where", ["read_at_hand", "read", "write", "demand"])
def test_p1_mistake_of_ours_shows_nothing(
    leaky: Attacked, vault: Vault, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """A bug that quotes a value: 500 without a word of it, the place in the log, and nothing leaves the gate."""
    vault.fault = None
    leaky.gateway._cache.clear()

    def bug(*_: Any, **__: Any) -> Any:
        raise RuntimeError(f"{VALUE} {TOKEN}")

    monkeypatch.setattr(leaky.gateway, where, bug)
    before = len(leaky.log)
    found = leaky.ask(APP, "PUT", body={"data": {"a": WRITTEN}}) if where == "write" else leaky.ask(APP)
    assert (found.status, found.kind, set(found.json)) == (500, "internal", {"type", "title", "status", "instance"})
    assert "unexpected RuntimeError" in leaky.log[before:]
    assert places(shown(leaky, found.body.decode()), *CANARIES) == []
