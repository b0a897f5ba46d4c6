"""The live page: its faults and its server, and whom it lets in."""

from __future__ import annotations

import asyncio
import json
import select
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest

from devserver.breaking import World
from devserver.postgres import Postgres
from devserver.proxy import Proxy
from devserver.stored import StoredOpenBao
from live.board import Board
from live.faults import Busy, Fault, Faults, UnknownFault
from live.guard import NotLoopback
from live.page import listen, served
from live.rules import inline, rules_page
from live.streams import MOST_STREAMS, Streams
from tests.fakes import PASSWORD, SECRET_ID
from tests.integration.conftest import PATIENCE_SECONDS, eventually
from tests.live_page import Reader

# ── The faults ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_one_fault_at_a_time_and_each_is_mended() -> None:
    board, steps, go = Board("http://vault"), list[str](), threading.Event()

    def begin() -> None:
        steps.append("begin")
        go.wait(PATIENCE_SECONDS)

    fault = Fault("a", "A", "watch", "T1", 0.2, begin, lambda: steps.append("end"))
    faults = Faults([fault, Fault("b", "B", "watch", "T2", 0, lambda: None)], board)
    with pytest.raises(UnknownFault):
        faults.start("c")
    faults.start("a")
    with pytest.raises(Busy):
        faults.start("b")
    running = faults.facts()[0]
    assert running["link"] == "/rules#T1"
    go.set()
    eventually(lambda: faults.running is None)
    assert steps == ["begin", "end"]
    faults.start("b")
    assert faults.close() in (True, False)
    with pytest.raises(Busy):
        faults.start("a")


def test_end_waits_for_no_fault() -> None:
    """What is broken then is not mended any more: all of it is about to be removed."""
    steps: list[str] = []
    fault = Fault("a", "A", "watch", "T1", 3600, lambda: None, lambda: steps.append("end"))
    faults = Faults([fault], Board("http://vault"))
    faults.start("a")
    assert faults.close() is True
    eventually(lambda: faults.running is None)
    assert steps == []


def test_fault_that_fails_is_told_without_its_words() -> None:
    """P1: what a server says to its administrator may quote a secret."""

    def fail() -> None:
        raise OSError(PASSWORD)

    board = Board("http://vault")
    faults = Faults([Fault("a", "A", "watch", "T1", 0, fail)], board)
    faults.start("a")
    eventually(lambda: faults.running is None)
    said = [message.data["text"] for message in board.recent()]
    assert "A: it did not work (OSError)" in said
    assert PASSWORD not in str(said)


def test_world_shows_no_secret_id(tmp_path: Path) -> None:
    """P1: a repr, as in a traceback with local variables."""
    openbao, proxy = StoredOpenBao(tmp_path, lambda: None, port=0), Proxy(("127.0.0.1", 1))
    with proxy.running():
        world = World(openbao, cast(Postgres, None), proxy, lambda: None, SECRET_ID)
        assert SECRET_ID not in repr(world)


# ── The page's server ─────────────────────────────────────────────────────────────────────────────────────────────────


class Served:
    """A page with one fault that lasts, on a board that nobody feeds."""

    def __init__(self, reader: Reader, board: Board, faults: Faults | None) -> None:
        self.reader, self.board, self.faults = reader, board, faults


@contextmanager
def serving(*, with_faults: bool = True) -> Iterator[Served]:
    board = Board("http://vault")
    fault = Fault("cut", "Cut", "watch", "H1", 3600, lambda: None)
    faults = Faults([fault], board) if with_faults else None
    listener = listen(0)
    with served(board, faults, listener) as address:
        assert address.startswith("http://127.0.0.1:")
        try:
            yield Served(Reader(listener.getsockname()[1]), board, faults)
        finally:
            if faults is not None:
                faults.close()


@pytest.fixture(scope="module")
def page() -> Iterator[Served]:
    with serving() as running:
        yield running


WRONG_HOSTS = ["evil.example", "evil.example:{port}", "127.0.0.1", "127.0.0.1:1", "localhost.evil.example:{port}", ""]
WRONG_ORIGINS = [
    "http://evil.example",
    "null",
    "https://127.0.0.1:{port}",
    "http://localhost:{port}",
    "http://127.0.0.1",
]


@pytest.mark.parametrize("path", ["/", "/events", "/rules", "/faults/cut"])
@pytest.mark.parametrize("host", WRONG_HOSTS)
def test_wrong_host_gets_nothing(page: Served, host: str, path: str) -> None:
    """DNS rebinding: a site elsewhere gives its own name our address."""
    answer = page.reader.ask("GET", path, host=host.format(port=page.reader.port) or " ")
    assert answer.status in (400, 403)
    assert "live-token" not in answer.text


@pytest.mark.parametrize("path", ["/", "/events", "/faults/cut"])
@pytest.mark.parametrize("origin", WRONG_ORIGINS)
def test_wrong_origin_gets_nothing(page: Served, origin: str, path: str) -> None:
    """CSRF, and a stream that another site reads."""
    method = "POST" if path.startswith("/faults") else "GET"
    wrong = origin.format(port=page.reader.port)
    assert page.reader.ask(method, path, Origin=wrong, X_Live_Token=page.reader.token).status == 403


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
@pytest.mark.parametrize("destination", ["image", "empty", "iframe"])
def test_other_site_takes_no_stream(page: Served, site: str, destination: str) -> None:
    """An image or a frame of theirs has no Origin; it could read nothing, but it would hold one of our streams."""
    headers = {"Sec_Fetch_Site": site, "Sec_Fetch_Dest": destination}
    for path in ("/", "/events"):
        assert page.reader.ask("GET", path, **headers).status == 403


def test_link_of_another_site_may_be_followed(page: Served) -> None:
    for site, destination in (("cross-site", "document"), ("none", "document"), ("same-origin", "empty")):
        assert page.reader.ask("GET", "/", Sec_Fetch_Site=site, Sec_Fetch_Dest=destination).status == 200


def test_button_needs_the_token_of_this_run(page: Served) -> None:
    with serving() as other:
        wrong = other.reader.token
    for headers in (
        {},
        {"X_Live_Token": ""},
        {"X_Live_Token": wrong},
        {"X_Live_Token": "ä".encode().decode("latin-1")},
    ):
        assert page.reader.ask("POST", "/faults/cut", **headers).status == 403
    assert page.faults is not None
    assert page.faults.running is None


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS"])
def test_button_takes_post_alone(page: Served, method: str) -> None:
    assert page.reader.ask(method, "/faults/cut", X_Live_Token=page.reader.token).status == 405
    assert page.reader.ask("POST", "/", X_Live_Token=page.reader.token).status == 405


def test_buttons_answer() -> None:
    """202, and then 409 while it lasts; 404 for one that there is not, and for all where nothing may be broken."""
    with serving() as page:
        token = page.reader.token
        origin = f"http://127.0.0.1:{page.reader.port}"
        first = page.reader.ask("POST", "/faults/cut", X_Live_Token=token, Origin=origin)
        assert (first.status, json.loads(first.text)) == (202, {"name": "cut", "started": True})
        assert page.reader.ask("POST", "/faults/cut", X_Live_Token=token).status == 409
        assert page.reader.ask("POST", "/faults/none", X_Live_Token=token).status == 404
    with serving(with_faults=False) as page:
        assert page.reader.ask("POST", "/faults/cut", X_Live_Token=page.reader.token).status == 404


def test_page_allows_no_other_address(page: Served) -> None:
    answers = [page.reader.ask("GET", "/") for _ in range(2)]
    policies = [answer.headers["Content-Security-Policy"] for answer in answers]
    assert policies[0] != policies[1]  # a nonce for each answer
    for answer, policy in zip(answers, policies, strict=True):
        nonce = policy.partition("script-src 'nonce-")[2].partition("'")[0]
        assert len(nonce) > 20
        assert answer.text.count(nonce) >= 2
        assert policy.startswith("default-src 'none'; ")
        assert "{{" not in answer.text
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert page.reader.ask("GET", "/favicon.ico").status == 204
    assert page.reader.ask("GET", "/docs/../config.ini").status == 404


def test_localhost_is_this_machine_too(page: Served) -> None:
    assert page.reader.ask("GET", "/", host=f"localhost:{page.reader.port}").status == 200


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "localhost.evil.example", ""])
def test_none_but_loopback_is_listened_at(host: str) -> None:
    with pytest.raises(NotLoopback):
        listen(0, host)


def test_taken_port_is_no_error() -> None:
    with listen(0) as first, listen(first.getsockname()[1]) as second:
        assert first.getsockname()[1] != second.getsockname()[1]


def test_stream_begins_with_the_last_and_goes_on() -> None:
    with serving() as page:
        page.board.happened("Before", "before")
        page.board.requested({"ours": True, "kind": "kv"})
        with page.reader.watching() as reader:
            reader.wait_for(lambda seen: seen.state)
            assert reader.kinds() == ["Before"]
            assert len(reader.requests) == 1
            page.board.happened("After", "after")
            reader.wait_for(lambda seen: "After" in seen.kinds())


def test_stream_tells_nothing_twice() -> None:
    """What happens as a stream begins is among the last that happened, and on its way to all streams as well."""

    async def begin() -> bytes:
        board = Board("http://vault")
        streams = Streams(board)
        sent: list[bytes] = []

        async def send(message: Any) -> None:
            sent.append(message.get("body", b""))

        async def receive() -> Any:
            await asyncio.Event().wait()

        board.happened("Once", "once")
        stream = streams.open()
        board.happened("After", "after")
        reading = asyncio.ensure_future(stream({}, receive, send))
        await asyncio.sleep(0.1)
        await streams.close()
        await reading
        return b"".join(sent)

    read = asyncio.run(begin())
    assert (read.count(b'"Once"'), read.count(b'"After"')) == (1, 1)


def test_stream_numbers_its_messages(page: Served) -> None:
    with socket.create_connection(("127.0.0.1", page.reader.port)) as connection:
        connection.sendall(f"GET /events HTTP/1.1\r\nHost: 127.0.0.1:{page.reader.port}\r\n\r\n".encode())
        read = b""
        while read.count(b"\n\n") < 3:
            read += connection.recv(65536)
    whole = read.rpartition(b"\n\n")[0].decode()
    ids = [int(line[4:]) for line in whole.splitlines() if line.startswith("id: ")]
    assert ids == sorted(set(ids))


def test_so_many_streams_and_no_more() -> None:
    """And one that has left makes room for another."""
    with serving() as page, ExitStack() as stack:
        readers = [Reader(page.reader.port) for _ in range(MOST_STREAMS)]
        for reader in readers[1:]:
            stack.enter_context(reader.watching())
        with readers[0].watching():
            assert page.reader.ask("GET", "/events").status == 503

        def has_room() -> bool:
            with socket.create_connection(("127.0.0.1", page.reader.port)) as connection:
                connection.sendall(f"GET /events HTTP/1.1\r\nHost: 127.0.0.1:{page.reader.port}\r\n\r\n".encode())
                return connection.recv(12) == b"HTTP/1.1 200"

        eventually(has_room)


def has_heard(number: int, reader: Reader) -> bool:
    return any(each["text"].startswith(f"{number} ") for each in reader.happened)


def test_reader_that_stops_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    """And the others read on meanwhile."""
    monkeypatch.setattr("live.streams.SEND_SECONDS", 3.0)
    with serving() as page, socket.create_connection(("127.0.0.1", page.reader.port)) as stopped:
        stopped.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        stopped.sendall(f"GET /events HTTP/1.1\r\nHost: 127.0.0.1:{page.reader.port}\r\n\r\n".encode())
        select.select([stopped], [], [])
        with page.reader.watching() as reader:
            for number in range(300):
                page.board.happened("Much", f"{number} {'x' * 20_000}")
                if number % 50 == 0:
                    reader.wait_for(partial(has_heard, number))
            page.board.happened("Last", "")
            reader.wait_for(lambda seen: "Last" in seen.kinds())

            def was_dropped() -> bool:
                others = [Reader(page.reader.port) for _ in range(MOST_STREAMS - 1)]
                with ExitStack() as stack:
                    try:
                        for other in others:
                            stack.enter_context(other.watching())
                    except ConnectionRefusedError:
                        return False
                return True

            eventually(was_dropped)


def test_end_does_not_wait_for_readers(capfd: pytest.CaptureFixture[str]) -> None:
    with serving() as page, page.reader.watching() as reader:
        reader.wait_for(lambda seen: seen.state)
        began = time.monotonic()
        page.reader.ask("GET", "/")
    assert time.monotonic() - began < 30
    assert capfd.readouterr().err == ""  # not caplog: uvicorn passes nothing on to the root logger


def test_terminal_tells_nothing_of_what_strangers_send(capfd: pytest.CaptureFixture[str]) -> None:
    """It is the application's; and any site can have a browser send such."""
    host = "Host: 127.0.0.1:{port}"
    upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nOrigin: http://evil.example"
    with serving() as page:
        for request in ("\x16\x03\x01\x02", f"GET /events HTTP/1.1\r\n{host}\r\n{upgrade}"):
            with socket.create_connection(("127.0.0.1", page.reader.port)) as connection:
                connection.sendall(f"{request.format(port=page.reader.port)}\r\n\r\n".encode())
                assert connection.recv(10).startswith(b"HTTP/1.1 4")
    assert capfd.readouterr().err == ""


# ── The rules ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_rules_are_there_to_be_linked_to(page: Served) -> None:
    """Each that the page or a fault names has a row of its own."""
    answer = page.reader.ask("GET", "/rules")
    assert answer.status == 200
    for rule in ("T1", "T3", "T10", "K1", "D3", "S1", "C1", "H1", "X1", "P1", "E1"):
        assert f'<tr id="{rule}"' in answer.text


def test_rules_show_what_is_written() -> None:
    assert inline("a `b<c>` & *d*") == "a <code>b&lt;c&gt;</code> &amp; <em>d</em>"


def test_rules_may_be_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """In a copy of the room."""
    monkeypatch.setattr("live.rules.PAGE", tmp_path / "RULES.md")
    assert rules_page("nonce") is None
