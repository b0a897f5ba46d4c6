"""What readings, versions and problems look like in HTTP: headers of caching and JSON, nothing else."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from starlette.responses import Response

from ..cache import Reading
from ..problems import Problem
from ..store import Written

CACHE_STATUS = {
    "hit": "gateway; hit",
    "miss": "gateway; fwd=miss; stored",
    "revalidated": "gateway; fwd=stale; fwd-status=304",
    "stale": "gateway; hit; detail=stale",
    "bypass": "gateway; fwd=bypass",
}
"""RFC 9211."""


def answer(content: Mapping[str, Any], status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """JSON, which nobody on the way may keep; it ends a line, for those who read it on a terminal."""
    body = json.dumps(content, separators=(",", ":")).encode() + b"\n"
    return Response(body, status, {"Content-Type": "application/json", "Cache-Control": "no-store", **(headers or {})})


def no_content(status: int = 204, headers: Mapping[str, str] | None = None) -> Response:
    return Response(None, status, {"Cache-Control": "no-store", **(headers or {})})


def problem(found: Problem, request_id: str) -> Response:
    return Response(found.body(request_id), found.status, found.headers)


def what_was_read(reading: Reading) -> dict[str, Any]:
    return {
        "data": reading.data,
        "version": reading.version,
        "created": reading.created,
        "stale": reading.stale,
    }


def headers_of(reading: Reading, refresh_interval: float) -> dict[str, str]:
    status = CACHE_STATUS[reading.outcome]
    if reading.outcome == "hit":
        status += f"; ttl={max(0, int(refresh_interval - reading.age))}"
    return {"ETag": reading.etag, "Age": str(int(reading.age)), "Cache-Status": status}


def what_was_written(written: Written) -> dict[str, Any]:
    return {"version": written.version, "created": written.created}
