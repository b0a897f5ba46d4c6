"""The routes: each says what it asks of the caller's roles, and then of the gateway.

/vault/secrets/{path}    GET   PUT   DELETE
/vault/versions/{path}   GET           POST /vault/rollback/{path}
/vault/list/{prefix}     GET           POST /vault/batch
/vault/token/renew       POST          GET  /openapi.json
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Generator
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

from starlette.convertors import PathConvertor, register_url_convertor
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, Router
from starlette.types import Receive, Scope, Send

from ..cache import Reading
from ..gateway import Gateway
from ..paths import canonical, canonical_prefix, checked
from ..problems import Problem, problem_of
from . import asked
from .answers import answer, headers_of, no_content, what_was_read, what_was_written
from .exchange import Exchange

OPENAPI = Path(__file__).with_name("openapi.json")
METHODS = ("GET", "PUT", "POST", "DELETE")
Method = Callable[["Any", Request], Awaitable[Response]]
NAMES_ON_A_PAGE, MOST_NAMES_ON_A_PAGE = 100, 1000
decided: Callable[[bytes], str] = lru_cache(10_000)(canonical)
"""The canonical path of a raw one; the same for ever."""


class Whatever(PathConvertor):
    """Also a line feed: it is refused as a path, and its route is one all the same."""

    regex = r"[\s\S]*"


register_url_convertor("whatever", Whatever())


class Endpoint:
    """One route. Its path is cut out of the raw target: what a server has decoded has lost what it was."""

    template: ClassVar[str]
    methods: ClassVar[dict[str, Method]]
    """By the name that HTTP has for each. (Starlette's HTTPEndpoint looks for them anew at each request.)"""

    def __init_subclass__(cls) -> None:
        cls.methods = {name: getattr(cls, name.lower()) for name in METHODS if hasattr(cls, name.lower())}
        if "GET" in cls.methods:
            cls.methods["HEAD"] = cls.methods["GET"]

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scope, self._receive, self._send = scope, receive, send
        self.exchange: Exchange = scope["state"]["exchange"]
        self.gateway: Gateway = self.exchange.gateway
        self.caller = self.exchange.caller
        self.limits = self.gateway.settings.limits
        self.exchange.route = self.template
        self.raw_path = self._behind_the_route()

    def __await__(self) -> Generator[Any, None, None]:
        """Starlette takes a class for an ASGI application: what it makes is awaited."""
        return self._answer().__await__()

    async def _answer(self) -> None:
        method = self.methods.get(self.scope["method"])
        if method is None:
            raise Problem("method-not-allowed", headers={"Allow": ", ".join(self.methods)})
        response = await method(self, Request(self.scope, self._receive))
        await response(self.scope, self._receive, self._send)

    @classmethod
    def route(cls) -> Route:
        return Route(cls.template.replace("path}", "path:whatever}").replace("prefix}", "prefix:whatever}"), cls)

    def _behind_the_route(self) -> bytes:
        """What stands there, as it came. Raises: Problem, if the route itself came in another spelling."""
        begins, has_path, _ = self.template.partition("{")
        raw: bytes = self.scope["raw_path"]
        if not raw.startswith(begins.encode()) or not (has_path or raw == begins.encode()):
            raise Problem("path-refused", "the route itself must not be percent-encoded")
        return raw[len(begins) :]

    def path(self) -> str:
        return decided(self.raw_path)


class Secret(Endpoint):
    """The current version of a secret, or with ?version an older one."""

    template = "/vault/secrets/{path}"

    async def get(self, request: Request) -> Response:
        path = self.path()
        query = asked.query(request, "version", "min_version") if self.scope["query_string"] else {}
        version, least = asked.number(query, "version", 1), asked.number(query, "min_version", 0) or 0
        self.exchange.demand("read", path)
        reading = await self._read(path, version, least)
        self.exchange.version, self.exchange.cache = reading.version, reading.outcome
        headers = headers_of(reading, self.gateway.settings.cache.refresh_interval)
        if asked.is_known_already(request, headers["ETag"]):
            return no_content(304, headers)
        return answer(what_was_read(reading), headers=headers)

    async def _read(self, path: str, version: int | None, least: int) -> Reading:
        if version is not None:
            return await self.gateway.read_version(self.caller, path, version)
        at_hand = self.gateway.read_at_hand(self.caller, path, least)
        return at_hand or await self.gateway.read(self.caller, path, least)

    async def put(self, request: Request) -> Response:
        path = self.path()
        asked.query(request)
        self.exchange.demand("write", path)
        must = not self.gateway.settings.gateway.unconditional_writes
        condition = asked.condition(request, needed=must, may_create=True)
        # No variable here holds the values: a traceback that shows variables would show them (P1).
        written = await self.gateway.write(self.caller, path, await asked.secret(request, self.limits), *condition)
        self.exchange.version = written.version
        headers = {"ETag": written.etag}
        if written.version > 1:
            return answer(what_was_written(written), headers=headers)
        location = self.scope["raw_path"].decode("ascii")
        return answer(what_was_written(written), 201, {**headers, "Location": location})

    async def delete(self, request: Request) -> Response:
        path = self.path()
        asked.query(request)
        self.exchange.demand("delete", path)
        condition = asked.condition(request, needed=False)
        await self.gateway.delete(self.caller, path, condition.match)
        return no_content()


class Versions(Endpoint):
    """What versions there are, without their values."""

    template = "/vault/versions/{path}"

    async def get(self, request: Request) -> Response:
        path = self.path()
        asked.query(request)
        self.exchange.demand("versions", path)
        versions = await self.gateway.history(self.caller, path)
        return answer({"versions": [version._asdict() for version in versions]})


class Rollback(Endpoint):
    """An old version's values as a new version, also for who may not read them."""

    template = "/vault/rollback/{path}"

    async def post(self, request: Request) -> Response:
        path = self.path()
        asked.query(request)
        self.exchange.demand("rollback", path)
        condition = asked.condition(request, needed=False)
        version = await asked.version_to_put_back(request, self.limits)
        written = await self.gateway.roll_back(self.caller, path, version, condition.match)
        self.exchange.version = written.version
        return answer(what_was_written(written), headers={"ETag": written.etag})


class Names(Endpoint):
    """The names below a prefix, a page at a time; those that end with a slash have others below them."""

    template = "/vault/list/{prefix}"

    async def get(self, request: Request) -> Response:
        prefix = canonical_prefix(self.raw_path)
        query = asked.query(request, "after", "limit")
        limit = asked.number(query, "limit", 1, MOST_NAMES_ON_A_PAGE) or NAMES_ON_A_PAGE
        after = asked.name_at(query)
        self.exchange.demand("list", prefix)
        page = await self.gateway.names(self.caller, prefix, after, limit)
        following = {"next": asked.cursor(page.next)} if page.next else {}
        return answer({"names": page.names, **following})


class Batch(Endpoint):
    """Several secrets at once, each with a status of its own: one that is missing harms no other."""

    template = "/vault/batch"

    async def post(self, request: Request) -> Response:
        asked.query(request)
        self.exchange.verb = "read"
        paths = await asked.paths(request, self.limits)
        return answer({"secrets": await asyncio.gather(*(self._one(path) for path in paths))})

    async def _one(self, path: str) -> dict[str, Any]:
        part = Exchange(self.gateway, self.exchange.request_id, self.exchange.traceparent, _caller=self.caller)
        found: Reading | Problem
        try:
            part.demand("read", checked(path))
            found = self.gateway.read_at_hand(self.caller, path) or await self.gateway.read(self.caller, path)
            part.status, part.version = 200, found.version
        except Exception as error:  # noqa: BLE001  # each of them is that one's answer
            found = problem_of(error)
            part.status, part.verb = found.status, "read"
        self.gateway.note(part.deed())
        if isinstance(found, Problem):
            return {"path": path, "status": found.status, "problem": found.as_dict(part.request_id)}
        return {"path": path, "status": 200, **what_was_read(found), "etag": found.etag}


class Renewal(Endpoint):
    """The token by which the gateway reads the secrets of the caller's tenant."""

    template = "/vault/token/renew"

    async def post(self, request: Request) -> Response:
        asked.query(request)
        self.exchange.demand("renew", "")
        info = await self.gateway.renew_token(self.caller)
        return answer({"ttl": int(info.ttl), "renewable": info.renewable, "policies": len(info.policies)})


class Description(Endpoint):
    """This API, as OpenAPI has it."""

    template = "/openapi.json"

    async def get(self, request: Request) -> Response:
        asked.query(request)
        return Response(OPENAPI.read_bytes(), 200, {"Content-Type": "application/json", "Cache-Control": "no-store"})


ENDPOINTS: tuple[type[Endpoint], ...] = (Secret, Versions, Rollback, Names, Batch, Renewal, Description)
TEMPLATES = tuple(endpoint.template for endpoint in ENDPOINTS)


async def no_route(_scope: Scope, _receive: Receive, _send: Send) -> None:
    raise Problem("route-not-found")


router = Router([endpoint.route() for endpoint in ENDPOINTS], redirect_slashes=False, default=no_route)
