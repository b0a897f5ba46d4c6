"""A reader of the live page: its token, its stream of events, its buttons, over plain HTTP."""

from __future__ import annotations

import http.client
import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any

PATIENCE_SECONDS = 60.0
TIMEOUT_SECONDS = 30.0


class Answer:
    """What came back."""

    def __init__(self, answer: http.client.HTTPResponse) -> None:
        self.status = answer.status
        self.headers = answer.headers
        self.text = answer.read().decode()


class Reader:
    """Reads the page at this port of 127.0.0.1. `watching` keeps all that its stream says."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.state: dict[str, Any] = {}
        self.happened: list[dict[str, Any]] = []
        self.requests: list[dict[str, Any]] = []
        self.raw: list[str] = []
        self._changed = threading.Condition()

    def ask(self, method: str, path: str, host: str | None = None, **headers: str) -> Answer:
        """One request; `Host` may be another's."""
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=TIMEOUT_SECONDS)) as connection:
            connection.putrequest(method, path, skip_host=True)
            connection.putheader("Host", host or f"127.0.0.1:{self.port}")
            for name, value in headers.items():
                connection.putheader(name.replace("_", "-"), value)
            connection.endheaders()
            return Answer(connection.getresponse())

    @property
    def token(self) -> str:
        found = re.search(r'name="live-token" content="([^"]+)"', self.ask("GET", "/").text)
        assert found is not None
        return found[1]

    def press(self, fault: str) -> Answer:
        return self.ask("POST", f"/faults/{fault}", X_Live_Token=self.token)

    @contextmanager
    def watching(self) -> Iterator[Reader]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port)
        connection.request("GET", "/events")
        stream = connection.getresponse()
        if stream.status != 200:
            stream.close()
            connection.close()
            raise ConnectionRefusedError(stream.status)
        thread = threading.Thread(target=self._read, args=(stream,), daemon=True)
        thread.start()
        try:
            yield self
        finally:
            if connection.sock is not None:
                connection.sock.shutdown(2)
            thread.join(PATIENCE_SECONDS)
            stream.close()
            connection.close()

    def _read(self, stream: http.client.HTTPResponse) -> None:
        event = ""
        try:
            for line in (raw.decode().rstrip("\n") for raw in stream):
                if line.startswith("event: "):
                    event = line.removeprefix("event: ")
                elif line.startswith("data: "):
                    self._hear(event, line.removeprefix("data: "))
        except (OSError, ValueError, http.client.HTTPException):
            return

    def _hear(self, event: str, text: str) -> None:
        data = json.loads(text)
        with self._changed:
            self.raw.append(text)
            if event == "state":
                self.state = data
            else:
                (self.happened if event == "happened" else self.requests).append(data)
            self._changed.notify_all()

    def wait_for(self, condition: Callable[[Reader], Any]) -> Any:
        """Wait until it is true of what was read; what it returned."""
        with self._changed:
            result = self._changed.wait_for(lambda: self.state and condition(self), PATIENCE_SECONDS)
            assert result, f"it did not come true; of late {self.happened[-10:]}; the state is {self.state}"
        return result

    def kinds(self) -> list[str]:
        return [each["kind"] for each in self.happened]
