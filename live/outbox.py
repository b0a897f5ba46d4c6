"""What the application tells the page: through a pipe, from a bounded queue, without ever waiting for the reader.

A line of JSON for each message. Where the reader is slow, the oldest are dropped; where it is gone, all are.
"""

from __future__ import annotations

import json
import os
import threading
from collections import deque
from collections.abc import Mapping
from typing import Any

MOST_WAITING = 500
LAST_WORDS_SECONDS = 0.5
"""How long the end waits for the reader."""

Message = Mapping[str, Any]


class Outbox:
    """Sends what is `put` into it, in a thread of its own. `descriptor` is that of a pipe, and is closed at the end."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._waiting: deque[Message] = deque(maxlen=MOST_WAITING)
        self._changed = threading.Event()
        self._closing = False
        self._sender = threading.Thread(target=self._send_all, name="live-outbox", daemon=True)
        self._sender.start()

    def put(self, message: Message) -> None:
        """Send it sometime soon. Never waits, and raises nothing."""
        self._waiting.append(message)
        self._changed.set()

    def close(self) -> None:
        """Send what is waiting, as far as the reader takes it at once."""
        self._closing = True
        self._changed.set()
        self._sender.join(LAST_WORDS_SECONDS)

    def _send_all(self) -> None:
        try:
            with open(self._descriptor, "wb", buffering=0) as pipe:
                while not (self._closing and not self._waiting):
                    self._changed.wait()
                    self._changed.clear()
                    self._send_waiting(pipe.fileno())
        except OSError:  # the reader is gone: from now on the queue forgets by itself
            return

    def _send_waiting(self, descriptor: int) -> None:
        while self._waiting:
            line = json.dumps(self._waiting.popleft(), ensure_ascii=False, separators=(",", ":")) + "\n"
            rest = memoryview(line.encode())
            while rest:
                rest = rest[os.write(descriptor, rest) :]
