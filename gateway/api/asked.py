"""What a request asks for besides its path: query, preconditions, body. What is not understood is refused."""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import re
from collections.abc import Awaitable, Callable, Coroutine
from functools import wraps
from typing import Any, NamedTuple, ParamSpec, TypeVar

from starlette.requests import Request

from .. import bodies
from ..paths import MOST_BYTES, PathRefused, checked
from ..problems import Problem
from ..settings import LimitsSettings
from .exchange import values

P = ParamSpec("P")
T = TypeVar("T")

NUMBER = re.compile(r"[0-9]{1,15}", re.ASCII)
ETAG = re.compile(r'"[0-9]{1,15}-[0-9a-f]{12}"', re.ASCII)
"""As `store.etag_of` makes them."""
ANY = "*"


# ── Query ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def query(request: Request, *known: str) -> dict[str, str]:
    """What stands in it, each name once. Raises: Problem, for a name that is not known, or stands twice."""
    found = request.query_params.multi_items()
    names = [name for name, _ in found]
    if len(set(names)) < len(names) or not set(names) <= set(known):
        expected = ", each once at most" if known else ""
        raise Problem("query-refused", f"known is {' and '.join(known) or 'no query at all'}{expected}")
    return dict(found)


def number(found: dict[str, str], name: str, least: int, most: int = 2**31) -> int | None:
    """A whole number; None, if it is not there. Raises: Problem."""
    text = found.get(name)
    if text is None:
        return None
    if not NUMBER.fullmatch(text) or not least <= int(text) <= most:
        raise Problem("query-refused", f"{name} must be a whole number from {least} to {most}")
    return int(text)


def cursor(name: str) -> str:
    """What callers give back for the page that follows; what it is made of is our own affair."""
    return base64.urlsafe_b64encode(name.encode()).decode().rstrip("=")


def name_at(found: dict[str, str]) -> str:
    """The name after which a page begins. Raises: Problem."""
    after = found.get("after", "")
    try:
        name = base64.b64decode(after + "=" * (-len(after) % 4), altchars=b"-_", validate=True).decode()
        if name:
            checked(name.removesuffix("/"))
    except (binascii.Error, ValueError, PathRefused):
        raise Problem("query-refused", "after must be the `next` of a page before") from None
    return name


# ── Preconditions ────────────────────────────────────────────────────────────────────────────────────────────────────


class Condition(NamedTuple):
    """On what a change is made."""

    match: str | None = None
    """An ETag, or * for whatever there is."""
    create_only: bool = False


def condition(request: Request, *, needed: bool, may_create: bool = False) -> Condition:
    """If-Match, or If-None-Match: * to create (RFC 9110, 13.1). Raises: Problem."""
    match = _single(request, b"if-match")
    none_match = _single(request, b"if-none-match")
    if match is not None and none_match is not None:
        raise Problem("header-refused", "If-Match and If-None-Match exclude each other")
    if none_match is not None and not (may_create and none_match == ANY):
        raise Problem("header-refused", "If-None-Match with a change can be * alone, to create")
    if match is not None and match != ANY and not ETAG.fullmatch(match):
        raise Problem("header-refused", "If-Match must be * or one ETag, as an answer gave it")
    if needed and match is none_match is None:
        raise Problem("precondition-required", "send If-Match with the ETag of what is replaced, or If-None-Match: *")
    return Condition(match, none_match is not None)


def is_known_already(request: Request, etag: str) -> bool:
    """Whether the caller says they have this version (If-None-Match); what is no ETag of ours is not it."""
    sent = b",".join(values(request.scope, b"if-none-match")).decode("latin-1")
    return etag in (each.strip().removeprefix("W/") for each in sent.split(",")) or sent.strip() == ANY


def _single(request: Request, name: bytes) -> str | None:
    found = list(values(request.scope, name))
    if len(found) > 1:
        raise Problem("header-refused", f"{name.decode().title()} must stand once")
    return found[0].decode("latin-1").strip() if found else None


# ── Body ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def without_body(method: Callable[P, Awaitable[T]]) -> Callable[P, Coroutine[Any, Any, T]]:
    """Let what is wrong with a body leave without the frames below, whose variables hold it (P1)."""

    @wraps(method)
    async def guarded(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return await method(*args, **kwargs)
        except (Problem, bodies.BodyRefused) as error:
            bare = error.with_traceback(None)
            bare.__context__ = None
        raise bare

    return guarded


async def body(request: Request, limits: LimitsSettings) -> bytes:
    """All of it, counted as it comes: Content-Length is but a claim. Raises: Problem."""
    media_type = (_single(request, b"content-type") or "").partition(";")[0].strip().lower()
    encoding = _single(request, b"content-encoding") or "identity"
    if media_type != "application/json" or encoding.lower() != "identity":
        raise Problem("media-type-unsupported")
    try:
        return await asyncio.wait_for(_counted(request, limits.body_size), limits.body_seconds)
    except asyncio.TimeoutError:
        raise Problem("body-too-slow", headers={"Connection": "close"}) from None


async def _counted(request: Request, most: int) -> bytes:
    read = bytearray()
    async for chunk in request.stream():
        read += chunk
        if len(read) > most:
            raise Problem("body-too-large", f"at most {most} bytes", headers={"Connection": "close"})
    return bytes(read)


@without_body
async def secret(request: Request, limits: LimitsSettings) -> dict[str, Any]:
    """What is to be written. Raises: Problem, BodyRefused."""
    return bodies.parse(await body(request, limits), limits)


@without_body
async def version_to_put_back(request: Request, limits: LimitsSettings) -> int:
    """Of {"version": 3}. Raises: Problem."""
    found = await _object(request, limits, "version")
    version = found["version"]
    if not isinstance(version, int) or isinstance(version, bool) or not 1 <= version <= 2**31:
        raise _refused("/version", "expected the number of a version")
    return version


@without_body
async def paths(request: Request, limits: LimitsSettings) -> list[str]:
    """Of {"paths": ["app", "team/db"]}. Raises: Problem, for what is no list; what is no path is each one's affair."""
    found = await _object(request, limits, "paths")
    listed = found["paths"]
    if not isinstance(listed, list) or not 1 <= len(listed) <= limits.batch:
        raise _refused("/paths", f"expected a list of 1 to {limits.batch} paths")
    for place, path in enumerate(listed):
        if not isinstance(path, str) or not 1 <= len(path) <= MOST_BYTES:
            raise _refused(f"/paths/{place}", f"expected a text of 1 to {MOST_BYTES} characters")
    return listed


async def _object(request: Request, limits: LimitsSettings, key: str) -> dict[str, Any]:
    raw = await body(request, limits)
    try:
        found = json.loads(raw)
    except (ValueError, RecursionError):
        found = None
    if found is None:
        raise Problem("body-malformed", "the body is not JSON in UTF-8")
    if not isinstance(found, dict) or list(found) != [key]:
        raise _refused("", f'expected an object with the one key "{key}"')
    return found


def _refused(pointer: str, detail: str) -> Problem:
    return Problem("body-refused", errors=[{"pointer": pointer, "detail": detail}])
