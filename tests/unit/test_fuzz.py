"""Fuzzing: whatever the settings say and whatever a server answers is a result or an error of ours, without a secret.

The examples are the same at each run, and those that once failed are among them. For others, and many more:

    .venv/bin/python -m pytest tests/unit/test_fuzz.py --hypothesis-profile=thorough --timeout=0
"""

from __future__ import annotations

import dataclasses
import gc
import gzip
import json
import socketserver
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import redirect_stderr, suppress
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from config_loader import DEFAULT_PATH, SECTIONS, VaultConfig
from listeners.command_line import report
from tests.fakes import (
    DYNAMIC,
    KV_DATA,
    KV_METADATA,
    LOGIN,
    LOOKUP,
    PASSWORD,
    RENEW,
    REVOKE,
    ROLE_ID,
    SECRET_ID,
    STATIC,
    TOKEN,
    FakeClock,
    FakeVault,
    Refusal,
)
from tests.unit.test_token_rules import raising
from vault_client import VaultClient
from vaultkit.auth.grant import TokenInfo
from vaultkit.errors import ConfigurationError, VaultError
from vaultkit.events import Event, Health
from vaultkit.secret import Secret
from vaultkit.settings import is_path, variable

MORE = settings(max_examples=5 * settings().max_examples)
"""For what costs little, or is not tried in a dozen ways."""

# ── Settings ─────────────────────────────────────────────────────────────────────────────────────────────────────────

SETTINGS = [(section, field.name) for section, kind in SECTIONS.items() for field in dataclasses.fields(kind)]
OTHERS = [
    "VAULT_ADDR",
    "VAULT_CACERT",
    "VAULT_SKIP_VERIFY",
    "BAO_ADDR",
    "BAO_CLIENT_CERT",
    "VAULT_CAPATH",
    "HTTPS_PROXY",
]
VARIABLES = [variable(*setting) for setting in SETTINGS] + OTHERS
ODD_VALUES = [
    "", " ", "%", "%(entity)s", "${entity}", "true", "No", "0", "-1", "300", "0.5", "5e-324", "1e999", "nan", "-inf",
    "9" * 5000, "x" * 5000, "\u0661\u0662", "\u00b2", "1_0", "0x10", "\0", "\x1b[31m", "\x85", "\u2028", "\ufeff",
    "http://[::1", "http://[::1]:1", "http://vault:99999", "https://\u2100", "HTTP://vault.", "http://a b", "http://a@b",
    f"http://{'x' * 64}", "http://vault/%zz", " http://vault ", "ftp://vault", str(DEFAULT_PATH), ".", "a;b", "a/b",
]  # fmt: skip
ADDRESSES = st.text(max_size=8).map("http://{}".format)
VALUES = st.sampled_from(ODD_VALUES) | st.text(max_size=20) | st.integers().map(str) | st.floats().map(str) | ADDRESSES
# As os.environ decodes what the process was given.
ENVIRONMENT_VALUES = VALUES | st.binary(max_size=20).map(lambda value: value.decode("utf-8", "surrogateescape"))


def setting_of(key: str, value: str) -> str:
    """The value, with the secret_id in front of it where it is that of a secret_id."""
    return SECRET_ID + value if key.lower().endswith("secret_id") else value


def entries(keys: list[str]) -> st.SearchStrategy[str]:
    return st.builds(
        lambda indent, key, equals, value: indent + key + equals + setting_of(key, value),
        st.sampled_from(["", "", "", "  ", "\t"]),
        st.sampled_from([*keys, "secret_id"]),
        st.sampled_from([" = ", "=", ": ", " =\n  ", " = # "]),
        VALUES,
    )


SECTION_TEXTS = st.sampled_from(list(SECTIONS)).flatmap(
    lambda section: st.lists(entries([key for of, key in SETTINGS if of == section]), min_size=1, max_size=3).map(
        lambda lines: "\n".join([f"[{section}]", *lines])
    )
)
HEADERS = st.sampled_from([*(f"[{section}]" for section in SECTIONS), "[VAULT]", "[DEFAULT]", "[]", "[vault", "[a]b]"])
LINES = SECTION_TEXTS | entries([key for _, key in SETTINGS]) | HEADERS | VALUES
MINIMUM = f"[vault]\nentity = shop\nrole_id = {ROLE_ID}\nsecret_id = {SECRET_ID}\n"
TEXTS = st.builds(
    lambda bom, start, lines, end: bom + start + "".join(line + end for line in lines),
    st.sampled_from(["", "", "\ufeff", "\ufeff\ufeff"]),
    st.sampled_from(["", MINIMUM, MINIMUM]),
    st.lists(LINES, max_size=6),
    st.sampled_from(["\n", "\r\n", "\r", "\n\r", "\x0b", "\n\n  "]),
)
FILES = (
    TEXTS.map(str.encode)
    | st.builds(str.encode, TEXTS, st.just("utf-16"))
    | st.builds(bytes.__add__, st.just(MINIMUM.encode()), st.binary(max_size=40))
    | st.binary(max_size=100)
)
ENVIRONMENTS = st.dictionaries(st.sampled_from(VARIABLES), ENVIRONMENT_VALUES, max_size=3).map(
    lambda environ: {name: setting_of(name, value) for name, value in environ.items()}
)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz") / "config.ini"


@MORE
@given(FILES, ENVIRONMENTS)
@example(f"[vault]\nrole_id = {ROLE_ID}\n  secret_id = {SECRET_ID}\n".encode(), {})
@example(f"[vault]\nentity = \vsecret_id = {SECRET_ID}\n".encode(), {})
@example(MINIMUM.encode(), {"VAULT_SECRET_ID": SECRET_ID + "\0"})
@example(MINIMUM.encode(), {"VAULT_CACERT": "x" * 5000})
def test_settings_or_configuration_error(file: Path, content: bytes, environ: dict[str, str]) -> None:
    """Any file and any environment make a client or a ConfigurationError, which does not tell the secret_id."""
    file.write_bytes(content)
    try:
        config = VaultConfig.load(file, environ)
    except ConfigurationError as error:
        said = printed(error)
        quoted = str(error) + repr(error) + said
    else:
        VaultClient(config).close()
        said, quoted = "", repr(config)
    assert SECRET_ID not in quoted
    assert all(line.isprintable() for line in said.split("\n"))


@MORE
@given(st.dictionaries(st.sampled_from(VARIABLES), ENVIRONMENT_VALUES, min_size=1, max_size=2))
@example({"VAULT_NAMESPACE": "\u0100"})
@example({"VAULT_URL": "http://vault "})
@example({"VAULT_URL": "http://\u00a1"})
@example({"DATABASE_STATIC_ROLE_ID": ".."})
def test_settings_that_pass_are_usable(environ: dict[str, str]) -> None:
    """A client of what is no ConfigurationError gets its requests as far as Vault."""
    try:
        stage = Stage({"VAULT_SECRET_ID": SECRET_ID, **environ})
    except ConfigurationError:
        return
    with suppress(VaultError):
        stage.client.login()
    assert stage.vault.asked
    for engine in stage.client.engines.values():
        for name in engine.settings.names:
            assert is_path(name)


def printed(error: ConfigurationError) -> str:
    with redirect_stderr(StringIO()) as stderr:
        report(error)
    return stderr.getvalue()


# ── Answers ──────────────────────────────────────────────────────────────────────────────────────────────────────────

MARK = "value-from-the-body"
FORBIDDEN = (MARK, PASSWORD, SECRET_ID, TOKEN)
HEALTH = "GET sys/health"
HEALTH_ANSWER = {"initialized": True, "sealed": False, "standby": False, "version": "2.7.2"}


class Stage:
    """A client of a fake Vault, and the events that it announced."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self.clock = FakeClock()
        self.vault = FakeVault(self.clock)
        self.vault.instead[HEALTH] = lambda: HEALTH_ANSWER
        self.events: list[Event] = []
        session = self.vault.session()
        session.mount("https://", self.vault)
        self.client = VaultClient(
            VaultConfig.load(environ=environ), clock=self.clock, session=lambda: session, listeners=[self.events.append]
        )

    # ── The public calls, as far as a request of each kind ──

    def check_health(self) -> Health:
        return self.client.health_check()

    def log_in(self) -> TokenInfo:
        return self.client.login()

    def keep_alive(self) -> None:
        self.client.keep_token_alive()

    def renew(self) -> TokenInfo:
        return self.client.renew_token()

    def renew_when_due(self) -> None:
        self.client.login()
        self.clock.pass_time(48)
        self.client.keep_token_alive()

    def read_kv(self) -> Secret:
        return self.client.get_kv_secret("database")

    def read_kv_again(self) -> Secret:
        self.read_kv()
        self.clock.pass_time(5)
        return self.read_kv()

    def read_forbidden_kv(self) -> Secret:
        self.vault.instead[KV_DATA] = raising(Refusal(403, "permission denied"))
        return self.read_kv()

    def read_dynamic(self) -> Secret:
        return self.client.get_database_dynamic_secret("db-demo-dynamic")

    def read_static(self) -> Secret:
        return self.client.get_database_static_secret("db-demo-static")

    def close(self) -> None:
        self.client.login()
        self.client.close()


CALLS: list[tuple[str, Callable[[Stage], object]]] = [
    (HEALTH, Stage.check_health),
    (LOGIN, Stage.log_in),
    (LOGIN, Stage.keep_alive),
    (LOGIN, Stage.read_kv),
    (RENEW, Stage.renew),
    (RENEW, Stage.renew_when_due),
    (KV_DATA, Stage.read_kv),
    (KV_METADATA, Stage.read_kv_again),
    (LOOKUP, Stage.read_forbidden_kv),
    (DYNAMIC, Stage.read_dynamic),
    (STATIC, Stage.read_static),
    (REVOKE, Stage.close),
]
"""The request that gets the odd answer, and a call that makes it."""

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=9) | st.just(MARK),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9) | st.just(MARK), inner, max_size=3),
    max_leaves=6,
)
ODD_JSON = [
    "0", "-1", "9" * 30, "9" * 400, "9" * 5000, "1e999", '"\\ud800"', '"a\\nb"', "[" * 90_000, "[" * 900 + "]" * 900,
]  # fmt: skip
JSON = JSON_VALUES.map(json.dumps) | st.sampled_from(ODD_JSON)
TWICE = "<twice>"


@st.composite
def almost_right(draw: st.DrawFn, asked: str) -> bytes:
    """The right answer to a request with up to three of its parts replaced, removed or standing there twice."""
    body = HEALTH_ANSWER.copy() if asked == HEALTH else FakeVault(FakeClock())._answer(asked, "")
    marks = [f"<{number}>" for number in range(draw(st.integers(1, 3)))]
    for mark in marks:
        break_one_part(draw, body, mark)
    text = json.dumps(body).replace(TWICE, "")
    for mark in marks:  # in the text, since json.dumps would not write all of ODD_JSON
        text = text.replace(json.dumps(mark), draw(JSON))
    return text.encode()


def break_one_part(draw: st.DrawFn, body: dict[str, Any], mark: str) -> None:
    key = draw(st.sampled_from(sorted(body) or ["data"]))
    part = body.get(key)
    if isinstance(part, dict) and draw(st.booleans()):
        break_one_part(draw, part, mark)
    elif draw(st.integers(0, 4)) == 0:
        body.pop(key, None)
    else:
        body[key + draw(st.sampled_from(["", "", TWICE]))] = mark


STATUSES = st.sampled_from([200, 200, 302, 307, 400, 403, 404, 500, 503]) | st.integers(200, 599)
BODIES = st.builds(lambda start, end: start + MARK.encode() + end, st.binary(), st.binary()) | st.sampled_from(
    [b"", MARK.encode("utf-16"), f'"{MARK}"'.encode(), f'{{"data": "{MARK}", "auth": "{MARK}", "errors": 1}}'.encode()]
)
ADDRESSES_OF_NOTHING = ["http://[", "//", "http://vault:x/", "\xff\xfe", "http://\xff", "other://vault", "http://."]
CHARSETS = ["idna", "punycode", "unicode_escape", "utf-16", "hex", "undefined", "\xff"]
ODD_HEADERS = [
    *(("Location", value) for value in [*ADDRESSES_OF_NOTHING, "/v1/sys/health"]),
    *(("Content-Type", f"text/plain; charset={value}") for value in CHARSETS),
    *(("Retry-After", value) for value in ("1", "-1", "99999", "9" * 400, "\xb2", "soon")),
    *(("Content-Encoding", value) for value in ("gzip", "gzip, deflate")),
    ("Set-Cookie", "a=b; Expires=x; Max-Age=y; Version=z"),
]
ANSWER_HEADERS = st.lists(
    st.sampled_from(ODD_HEADERS)
    | st.tuples(st.sampled_from(ODD_HEADERS).map(lambda header: header[0]), st.text(st.characters(max_codepoint=255))),
    max_size=3,
).map(dict)


@pytest.mark.parametrize(("asked", "call"), CALLS)
@given(st.data())
def test_any_answer_is_survived(asked: str, call: Callable[[Stage], object], data: st.DataObject) -> None:
    """Any status with any headers and any bytes."""
    refusal = Refusal(data.draw(STATUSES), headers=data.draw(ANSWER_HEADERS))
    refusal.body = data.draw(BODIES)
    check_call(asked, call, raising(refusal))


@pytest.mark.parametrize(("asked", "call"), CALLS)
@given(st.data())
def test_almost_right_answer_is_survived(asked: str, call: Callable[[Stage], object], data: st.DataObject) -> None:
    """JSON that is what Vault says but for some of its parts."""
    refusal = Refusal(data.draw(st.just(200) | STATUSES))
    refusal.body = data.draw(almost_right(asked))
    check_call(asked, call, raising(refusal))


def check_call(asked: str, call: Callable[[Stage], object], answer: Callable[[], Any]) -> None:
    """The call gives a usable result or an error of ours; neither this nor an event quotes the answer."""
    stage = Stage({"VAULT_ROLE_ID": ROLE_ID, "VAULT_SECRET_ID": SECRET_ID})
    stage.vault.instead[asked] = answer
    said = outcome(lambda: call(stage)) + repr(stage.events)
    assert asked in stage.vault.asked
    assert not [word for word in FORBIDDEN if word in said]


def outcome(call: Callable[[], object]) -> str:
    """Everything that is said of the error of a call; nothing if it has a usable result."""
    try:
        check_result(call())
    except VaultError as error:
        return everything_said_of(error)
    return ""


def check_result(result: object) -> None:
    assert isinstance(result, (Health, TokenInfo, Secret, type(None)))
    if isinstance(result, Health):
        assert {type(value) for value in vars(result).values()} == {bool, str}
    if isinstance(result, Secret):
        assert isinstance(result.data, Mapping)
        assert MARK not in repr(result)
    if isinstance(result, (Secret, TokenInfo)) and result.ttl is not None:
        assert isinstance(result.ttl, float)
        assert result.ttl >= 0


def everything_said_of(error: VaultError) -> str:
    """The error as a log shows it, with the chain of its causes; on the console it is one line without controls."""
    assert str(error).isprintable()
    return str(error) + repr(error) + "".join(traceback.format_exception(error))


# ── Bytes on the wire ────────────────────────────────────────────────────────────────────────────────────────────────

GOOD = json.dumps(HEALTH_ANSWER | {"note": MARK}).encode()
STATUS_LINES = st.sampled_from([
    b"HTTP/1.1 200 OK", b"HTTP/1.1 200 OK", b"HTTP/1.0 200", b"HTTP/1.1 204 No Content", b"HTTP/1.1 302 Found",
    b"HTTP/1.1 403 Forbidden", b"HTTP/1.1 100 Continue", b"HTTP/1.1 999 ?", b"HTTP/1.1 -1", b"HTTP/9 200", b"HTTP",
])  # fmt: skip
HEADER_LINES = st.binary(max_size=20) | st.sampled_from([
    b"Content-Length: 5", b"Content-Length: 99999", b"Content-Length: -1", b"Content-Length: 1, 2",
    b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked", b"Transfer-Encoding: x",
    *(b"Content-Encoding: " + coding for coding in (b"gzip", b"deflate", b"br", b"zstd", b"gzip, gzip, deflate", b"x")),
    *(b"Location: " + to for to in (b"http://[", b"\xff", b"//", b"/v1/sys/health", b"http://127.0.0.1:x")),
    *(b"Content-Type: text/html; charset=" + charset for charset in (b"idna", b"undefined", b"utf-16", b"\xff")),
    b"Content-Length: x", b"Connection: close", b"Set-Cookie: a=b; Expires=x; Max-Age=y; Version=z", b" folded",
    b"Retry-After: \xb2", b":", b"no header", b"A: \0",
])  # fmt: skip
CHUNKS = st.builds(
    lambda size, data: size + b"\r\n" + data + b"\r\n",
    st.sampled_from(
        [b"0", b"5", b"-5", b"-1", b"1_0", b"zz", b"", b"f" * 20, b"%x" % len(GOOD), b"13;a=b", MARK.encode()]
    ),
    st.sampled_from([b"", MARK.encode(), GOOD, gzip.compress(GOOD)]) | st.binary(max_size=20),
)
RAW_BODIES = (
    st.sampled_from([GOOD, gzip.compress(GOOD), gzip.compress(GOOD)[:-9], gzip.compress(b" " * 10**6)])
    | st.lists(CHUNKS, max_size=3).map(b"".join)
    | BODIES
)
RAW_ANSWERS = st.builds(
    lambda status, headers, end, body: end.join([status, *headers]) + end + end + body,
    STATUS_LINES,
    st.lists(HEADER_LINES, max_size=4),
    st.sampled_from([b"\r\n", b"\r\n", b"\n"]),
    RAW_BODIES,
) | st.binary(max_size=100)


class RawServer(socketserver.ThreadingTCPServer):
    """Answers every request with the same bytes, whatever HTTP thinks of them, and hangs up."""

    daemon_threads = True
    answer = b""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), RawHandler)

    def handle_error(self, *_: Any) -> None:
        """The client may hang up first."""


class RawHandler(socketserver.StreamRequestHandler):
    server: RawServer

    def handle(self) -> None:
        while self.rfile.readline().strip():
            pass
        self.wfile.write(self.server.answer)


@pytest.fixture(scope="module")
def raw_server() -> Iterator[RawServer]:
    with RawServer() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()
    gc.collect()


# urllib3 leaves the socket to the garbage collector when two values of Content-Length contradict each other.
@pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")
@MORE
@given(answer=RAW_ANSWERS)
@example(answer=b"HTTP/1.1 302 Found\r\nLocation: http://[\r\n\r\n")
@example(answer=b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + GOOD)
@example(answer=b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n" + GOOD)
@example(answer=GOOD)
def test_any_bytes_are_survived(raw_server: RawServer, answer: bytes) -> None:
    """Whatever comes through the socket, be it HTTP or not."""
    raw_server.answer = answer
    url = f"http://127.0.0.1:{raw_server.server_address[1]}"
    environ = {"VAULT_URL": url, "VAULT_SECRET_ID": SECRET_ID, "HTTP_TIMEOUT": "1"}
    with VaultClient(VaultConfig.load(environ=environ)) as client:
        assert MARK not in outcome(client.health_check)
