"""One request and its answer, as far as they are known: for the log, the audit trail and the metrics.

A request id comes from the caller if it is a decent one, and goes to Vault, into both logs and back to the caller; so
does the `traceparent` of whoever traces (https://www.w3.org/TR/trace-context/).
"""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from starlette.types import Scope

from ..audit import CHANGES, Deed
from ..fields import REQUEST_ID
from ..gateway import Gateway
from ..identity import Caller
from ..problems import Problem

TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}", re.ASCII)
OUTCOMES = {
    401: "unauthenticated", 403: "forbidden", 404: "missing", 412: "conflict", 428: "conflict",
    500: "failed", 502: "unavailable", 503: "unavailable", 504: "unavailable",
}  # fmt: skip


@dataclass(slots=True)
class Exchange:
    """What is known of a request. It is filled in on the way."""

    gateway: Gateway
    request_id: str
    traceparent: str
    route: str = ""
    verb: str | None = None
    path: str | None = None
    version: int | None = None
    cache: str | None = None
    status: int = 0
    _caller: Caller | None = None
    began: float = field(default_factory=time.monotonic)

    @property
    def caller(self) -> Caller:
        """Who asks. The gate lets nobody through of whom this is not known."""
        if self._caller is None:
            raise Problem("token-missing")
        return self._caller

    def is_of(self, caller: Caller) -> None:
        self._caller = caller

    @property
    def known_caller(self) -> Caller | None:
        return self._caller

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.began

    def passed_on(self) -> dict[str, str]:
        """The headers for Vault."""
        trace = {"traceparent": self.traceparent} if self.traceparent else {}
        return {"X-Request-Id": self.request_id, **trace}

    def demand(self, verb: str, path: str) -> None:
        """See whether the caller may; a change is written down before it is asked for. Raises: Problem."""
        self.verb, self.path = verb, path
        self.gateway.demand(self.caller, verb, path)
        if verb in CHANGES:
            self.gateway.note(self.deed("asked"))

    def deed(self, outcome: str = "") -> Deed:
        caller = self._caller
        return Deed(
            request_id=self.request_id,
            verb=self.verb or "",
            outcome=outcome or OUTCOMES.get(self.status, "ok" if self.status < 400 else "refused"),
            sub=caller.subject if caller else None,
            username=caller.username if caller else None,
            tenant=caller.tenant if caller else None,
            path=self.path,
            status=self.status or None,
            version=self.version,
        )


def begin(gateway: Gateway, scope: Scope) -> Exchange:
    """The exchange of a request that has just come; it stands in the state of the scope."""
    request_id = sent(scope, b"x-request-id")
    traceparent = sent(scope, b"traceparent")
    exchange = Exchange(
        gateway,
        request_id if REQUEST_ID.fullmatch(request_id) else secrets.token_hex(16),
        traceparent if TRACEPARENT.fullmatch(traceparent) else "",
    )
    scope["state"] = {**scope.get("state", {}), "exchange": exchange}
    return exchange


def values(scope: Scope, name: bytes) -> Iterator[bytes]:
    """All values of a header, as they came."""
    return (value for found, value in scope["headers"] if found == name)


def taken(scope: Scope, name: bytes) -> list[bytes]:
    """All values of a header, which the scope holds no longer."""
    found = list(values(scope, name))
    scope["headers"] = [header for header in scope["headers"] if header[0] != name]
    return found


def sent(scope: Scope, name: bytes) -> str:
    """The one value of a header; nothing, if there are several or none."""
    found = list(values(scope, name))
    return found[0].decode("latin-1") if len(found) == 1 else ""
