"""Server-sent events: what the board is told goes to every stream; nobody waits for one that does not read.

https://html.spec.whatwg.org/multipage/server-sent-events.html
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress

from starlette.types import Receive, Scope, Send

from live.board import Board, Message

MOST_STREAMS = 16
STATE_SECONDS = 0.5
HEARTBEAT_SECONDS = 10.0
SEND_SECONDS = 5.0
"""A reader that takes nothing for so long is dropped."""
LAST_WORDS_SECONDS = 0.5
MOST_WAITING = 300
"""A reader for whom so many messages wait is dropped."""
HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),
]


class TooMany(Exception):
    """There are as many streams as there may be."""


class Streams:
    """All streams of one event loop. Make it there; `close` ends them."""

    def __init__(self, board: Board) -> None:
        self._board = board
        self._loop = asyncio.get_running_loop()
        self._streams: set[Stream] = set()
        self._changed = asyncio.Event()
        self._count = 0
        self._teller = self._loop.create_task(self._tell_state())
        board.told_to(self._hear)

    def open(self) -> Stream:
        """A new one, which begins with what happened last. Raises: TooMany."""
        if len(self._streams) >= MOST_STREAMS:
            raise TooMany
        recent = self._board.recent()
        stream = Stream(self, {message.event: message.data["id"] for message in recent})
        for message in [*recent, Message("state", self._board.state())]:
            stream.put(self._framed(message))
        self._streams.add(stream)
        return stream

    def left(self, stream: Stream) -> None:
        self._streams.discard(stream)

    async def close(self) -> None:
        self._board.told_to(lambda message: None)
        self._teller.cancel()
        with suppress(asyncio.CancelledError):
            await self._teller
        await asyncio.gather(*(stream.finish() for stream in list(self._streams)))

    def _hear(self, message: Message | None) -> None:
        """Called from any thread."""
        with suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self._pass_on, message)

    def _pass_on(self, message: Message | None) -> None:
        if message is None:
            self._changed.set()
        else:
            self._send([message])

    async def _tell_state(self) -> None:
        """Every half second, and at once when something has happened."""
        while True:
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._changed.wait(), STATE_SECONDS)
            self._changed.clear()
            if self._streams:
                self._send([Message("state", self._board.state())])

    def _send(self, messages: Iterable[Message]) -> None:
        for message in messages:
            frame = self._framed(message)
            for stream in list(self._streams):
                if not stream.began_with(message):
                    stream.put(frame)

    def _framed(self, message: Message) -> bytes:
        self._count += 1
        data = json.dumps(message.data, ensure_ascii=False, separators=(",", ":"))
        return f"event: {message.event}\nid: {self._count}\ndata: {data}\n\n".encode()


class Stream:
    """One reader, as an ASGI response."""

    def __init__(self, streams: Streams, first: Mapping[str, int]) -> None:
        self._streams = streams
        self._first = first
        """Of each event the last with which it began, by its number."""
        self._waiting: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._over = asyncio.Event()

    def began_with(self, message: Message) -> bool:
        """Whether it was among what had happened by then; it was still on its way to the other streams."""
        number: int | None = message.data.get("id")
        return number is not None and number <= self._first.get(message.event, 0)

    def put(self, frame: bytes) -> None:
        """Send it when its turn comes; a reader who is too slow is dropped."""
        if self._waiting.qsize() < MOST_WAITING:
            self._waiting.put_nowait(frame)
        else:
            self.end()

    def end(self) -> None:
        """Send what is waiting, and then no more."""
        self._streams.left(self)
        self._waiting.put_nowait(None)

    async def finish(self) -> None:
        """End it, and wait for that a little; who takes nothing is cut off."""
        self.end()
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._over.wait(), LAST_WORDS_SECONDS)
        self._over.set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        parts = self._write(send), until_disconnected(receive), self._over.wait()
        tasks = [asyncio.ensure_future(part) for part in parts]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._over.set()
            self.end()  # for `wait_for` of before Python 3.12 may swallow the cancellation
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _write(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
        while (frame := await self._next()) is not None:
            body = {"type": "http.response.body", "body": frame, "more_body": True}
            try:
                await asyncio.wait_for(send(body), SEND_SECONDS)
            except asyncio.TimeoutError:
                return
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _next(self) -> bytes | None:
        """The next frame; a comment when there was none for long, for both ends to see that the other lives."""
        try:
            return await asyncio.wait_for(self._waiting.get(), HEARTBEAT_SECONDS)
        except asyncio.TimeoutError:
            return f": {time.time():.0f}\n\n".encode()


async def until_disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
