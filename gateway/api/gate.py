"""What every request passes, whatever its route: who is calling, how much may be under way, and how it is told of.

Nobody learns anything without a token, not even which routes there are. What is not written down is not answered. What
goes wrong becomes a problem here, and nowhere else.
"""

from __future__ import annotations

import asyncio

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from vaultkit.errors import NoAnswer, VaultError
from vaultkit.shield import log_unexpected

from ..access_log import AccessLog, Answered
from ..asking import ASKING, Asking
from ..gateway import Gateway
from ..problems import Problem, problem_of
from .answers import problem
from .exchange import Exchange, begin, taken

CLIENT_IS_GONE = 499
"""For the log alone: nobody is there to be answered."""


class Gate:
    """An ASGI application around that of the routes."""

    def __init__(self, gateway: Gateway, routes: ASGIApp, access_log: AccessLog | None = None) -> None:
        self._gateway = gateway
        self._access_log = access_log
        self._routes = routes
        self._under_way = 0
        self._watch = self._hear
        self.ending = False
        """Whether the gateway is being shut down: what comes now goes to another replica."""

    def open(self) -> None:
        """From now on requests come: /readyz may send them here."""
        self._gateway.listens = True

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return  # no WebSocket is answered
        exchange = begin(self._gateway, scope)
        answering = Answering(exchange, send)
        self._under_way += 1
        try:
            await self._pass(exchange, scope, receive, answering)
        except ClientDisconnect:
            exchange.status = CLIENT_IS_GONE
        except asyncio.CancelledError:
            if not self.ending:
                raise
            # It has taken longer than the end allows. (Of a change nobody knows now whether Vault has made it.)
            await self._apologise(Problem("gateway-ending"), answering, scope, receive)
        except Exception as error:  # noqa: BLE001  # whatever it is, it is answered, and without its text
            await self._apologise(error, answering, scope, receive)
        finally:
            self._under_way -= 1
            # After the turn in which the answer is sent: nobody waits for what is told of it.
            asyncio.get_running_loop().call_soon(self._tell, exchange, scope["method"], exchange.seconds)

    async def _pass(self, exchange: Exchange, scope: Scope, receive: Receive, send: Answering) -> None:
        size = sum(len(name) + len(value) for name, value in scope["headers"])
        authorization = taken(scope, b"authorization")
        try:
            self._admit(size)
            exchange.is_of(self._gateway.caller_at_hand(authorization) or await self._gateway.caller_of(authorization))
        finally:
            authorization.clear()  # from here on no variable of a frame holds the token (P1)
        ASKING.set(Asking(exchange.passed_on(), self._watch))
        await self._routes(scope, receive, send)

    def _admit(self, size: int) -> None:
        """Raises: Problem, for who comes when no more can be taken, or brings too much."""
        limits = self._gateway.settings.limits
        if self.ending:
            raise Problem("gateway-ending", headers={"Connection": "close"})
        if self._under_way > limits.connections:
            raise Problem("gateway-busy")
        if size > limits.header_size:
            raise Problem("headers-too-large")

    async def _apologise(self, error: Exception, answering: Answering, scope: Scope, receive: Receive) -> None:
        found = problem_of(error)
        if found.status == 500:
            log_unexpected("the gateway", error)
        if found.kind == "forbidden-by-vault":
            self._gateway.metrics.authz("deny", "vault")
        if answering.has_begun:
            return  # the status is out; the connection ends in the middle
        try:
            await problem(found, answering.exchange.request_id)(scope, receive, answering)
        except Problem as unwritten:
            await problem(unwritten, answering.exchange.request_id)(scope, receive, answering.unaudited)

    def _hear(self, operation: str, seconds: float, error: VaultError | None) -> None:
        self._gateway.metrics.upstream(operation, seconds)
        if isinstance(error, NoAnswer):  # a refusal is an answer
            self._gateway.metrics.upstream_error(error)

    def _tell(self, exchange: Exchange, method: str, seconds: float) -> None:
        caller = exchange.known_caller
        self._gateway.metrics.request(exchange.route, method, exchange.status, seconds)
        if exchange.cache is not None:
            self._gateway.metrics.cache(exchange.cache)
        if self._access_log is None:
            return
        self._access_log.write(
            Answered(
                request_id=exchange.request_id,
                status=exchange.status,
                ms=round(seconds * 1000, 3),
                tenant=caller.tenant if caller else None,
                verb=exchange.verb,
                path=exchange.path,
                version=exchange.version,
                cache=exchange.cache,
                sub=caller.subject if caller else None,
                kid=caller.kid if caller else None,
            )
        )


class Answering:
    """Sends an answer, once it has been written down."""

    def __init__(self, exchange: Exchange, send: Send) -> None:
        self.exchange = exchange
        self._send = send
        self.has_begun = False

    async def __call__(self, message: Message) -> None:
        """Raises: Problem, where it cannot be written down; nothing was sent then."""
        if message["type"] == "http.response.start":
            self.exchange.status = message["status"]
            if self.exchange.verb is not None:
                self.exchange.gateway.note(self.exchange.deed())
        await self.unaudited(message)

    async def unaudited(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.has_begun = True
            self.exchange.status = message["status"]
            message["headers"].append((b"x-request-id", self.exchange.request_id.encode()))
        await self._send(message)
