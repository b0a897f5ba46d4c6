"""What an answer is sent in: one piece a turn of the event loop."""

from __future__ import annotations

import asyncio
from typing import Any, cast

from gateway.api.connection import Gathering


class Transport:
    """Stands in for a socket's, and remembers what was asked of it."""

    def __init__(self) -> None:
        self.asked: list[bytes | str] = []

    def write(self, data: bytes) -> None:
        self.asked.append(data)

    def close(self) -> None:
        self.asked.append("close")

    def is_closing(self) -> bool:
        return "close" in self.asked


def asked_by(*steps: str | bytes) -> list[bytes | str]:
    """What these steps come to; "turn" is the end of a turn of the loop."""

    async def take() -> list[bytes | str]:
        transport = Transport()
        gathering = Gathering(cast("Any", transport), asyncio.get_running_loop())
        for step in steps:
            if isinstance(step, bytes):
                gathering.write(step)
            elif step == "turn":
                await asyncio.sleep(0)
            else:
                gathering.close()
        return list(transport.asked)

    return asyncio.run(take())


def test_what_is_written_in_one_turn_is_sent_at_its_end() -> None:
    """Head and body are one piece; nothing waits for more than the end of the turn."""
    assert asked_by(b"head", b"body") == []
    assert asked_by(b"head", b"body", "turn") == [b"headbody"]
    assert asked_by(b"head", b"body", "turn", "turn", b"next", "turn") == [b"headbody", b"next"]


def test_what_was_written_is_sent_before_the_end() -> None:
    """Also if it was just written; and what is written after the end goes nowhere."""
    assert asked_by(b"sorry", "close", "turn") == [b"sorry", "close"]
    assert asked_by("close", b"late", "turn") == ["close"]
