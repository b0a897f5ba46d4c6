"""A server that tells the live page a story of the test's own; the real one is `python -m devserver.live`.

A fake, where a moment has to be made to order: a state that is rare, a silence, values that try to be markup. It sends
what live/board.py makes, and does nothing when a button is pressed but remember it.
"""

from __future__ import annotations

import asyncio
import copy
import json
import socket
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from devserver.openbao import HOST, free_port

PAGE = Path(__file__).parents[3] / "live" / "page.html"
NONCE, TOKEN = "a-nonce", "a-token-of-this-run"
POLICY = (
    f"default-src 'none'; script-src 'nonce-{NONCE}'; style-src 'nonce-{NONCE}'; img-src data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
STATE_SECONDS = 0.1
STARTING_SECONDS = 30.0
MASK = "••••••••"
FAULTS = (
    ("kv-write", "Write a new version", "The version goes up, and within 5 s the application has the new value.", "K1"),
    ("kv-delete", "Delete the secret", "The card shows an error and no value until a new version is written.", "K3"),
    ("rotate", "Rotate the password", "The static password changes; the application notices at the next turn.", "S1"),
    ("revoke-token", "Revoke the token", "A 403, one look at the token, a login: a new generation.", "T9"),
    ("revoke-lease", "Revoke the lease", "The pool opens connections with new credentials; no query is lost.", "D2"),
    ("seal", "Seal Vault", "All serve on, marked stale, until it is unsealed by itself after 10 s.", "K4"),
    ("kill", "Kill Vault", "kill -9; it is started again with its data, and nothing of the application ends.", "T6"),
    ("cut", "Cut the network", "No answer for 15 s: stale secrets, back-off, and no storm afterwards.", "C2"),
    ("stop-database", "Stop the database", "Queries wait or fail while it is down; the pool recovers by itself.", "D3"),
    ("spend-secret-id", "Spend the secret_id", "The login is refused for good: the application ends, status 1.", "T7"),
    ("restart", "Restart the application", "This page shows the past until the new process reports.", "X1"),
)  # fmt: skip


def state() -> dict[str, Any]:
    """A moment in which all is well, of now."""
    now = time.time()
    by = {"token": 5, "kv": 20, "dynamic": 9, "static": 8, "other": 0}
    return {
        "at": now,
        "show_secrets": False,
        "application": {"running": True, "pid": 4711, "since": now - 60, "starts": 1, "past": False, "heard": now},
        "vault": {"url": "http://127.0.0.1:8200", "state": "active", "version": "2.7.2"},
        "token": {
            "state": "valid", "generation": 2, "ttl": 14.0, "granted": 20.0, "renewed": 3, "renewable": True,
            "last": False,
        },
        "secrets": [
            secret("kv_secret", "database", None, None, 3, {"api_key": MASK, "database_url": MASK}),
            secret("database_dynamic", "db-demo-dynamic", 18.0, 25.0, None, {"username": MASK, "password": MASK}),
            secret("database_static", "db-demo-static", 7.0, 20.0, None, {"username": MASK, "password": MASK}),
        ],
        "secrets_beyond": 0,
        "threads": [
            {"name": "token-watcher", "doing": "looks every 2.0 s; next step in 10.2 s", "next": 10.2},
            {"name": "kv-secret", "doing": "waits 3.1 s", "next": 3.1},
            {"name": "database-dynamic", "doing": "asks Vault", "next": None},
            {"name": "database-static", "doing": "waits 7.0 s", "next": 7.0},
        ],
        "pool": {
            "generations": [
                {"user": "v-approle-db-demo--WK7A", "connections": 4, "busy": 2, "current": True},
                {"user": "v-approle-db-demo--9xQb", "connections": 2, "busy": 1, "current": False},
            ],
            "queries": 1234,
            "lost": 0,
        },
        "requests": {"total": 42, "least": 40, "by": by, "since": now - 60},
        "faults": [
            {"name": name, "label": label, "tells": tells, "rule": rule, "link": f"/rules#{rule}", "running": False,
             "left": None}
            for name, label, tells, rule in FAULTS
        ],
    }  # fmt: skip


def secret(
    engine: str, name: str, ttl: float | None, granted: float | None, version: int | None, values: dict[str, str]
) -> dict[str, Any]:
    return {
        "engine": engine, "name": name, "ttl": ttl, "granted": granted, "version": version, "revision": 2,
        "stale": False, "error": None, "values": values,
    }  # fmt: skip


def fault(state: dict[str, Any], name: str) -> dict[str, Any]:
    """Of this state, the fault of this name."""
    found: dict[str, Any] = next(each for each in state["faults"] if each["name"] == name)
    return found


def happened(number: int, text: str, **more: Any) -> dict[str, Any]:
    return {
        "id": number, "at": time.time(), "kind": "Told", "level": "info", "text": text, "rule": None, "fault": None,
        **more,
    }  # fmt: skip


def requested(number: int, path: str, **more: Any) -> dict[str, Any]:
    return {
        "id": number, "at": time.time(), "method": "read", "path": path, "kind": "kv", "status": "ok", "ours": True,
        **more,
    }  # fmt: skip


class LiveScript:
    """The server. What it shows is `state`; a test changes it in place."""

    def __init__(self) -> None:
        self.state = state()
        self.token = TOKEN
        self.pressed: list[str] = []
        """The buttons, with the token that came with them."""
        self.status = 202
        """What is answered to a button."""
        self.full = False
        """Whether a stream is refused."""
        self.silent = False
        """Whether the stream is open and says nothing."""
        self.asked_for_page = 0
        """How often."""
        self.port = free_port(0)
        self._told: list[tuple[str, dict[str, Any]]] = []

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}/"

    def tell(self, kind: str, about: dict[str, Any]) -> None:
        """Send one line to a log: `happened` or `request`; who connects later hears it, too."""
        self._told.append((kind, about))

    def start(self) -> None:
        """Listen, or listen again; the port stays the same. Returns when it answers."""
        config = uvicorn.Config(self._app(), log_level="error", timeout_graceful_shutdown=1, lifespan="off", ws="none")
        self._server = uvicorn.Server(config)
        self._socket = socket.create_server((HOST, self.port))
        self._thread = threading.Thread(target=self._server.run, args=([self._socket],), name="live-script")
        self._thread.start()
        deadline = time.monotonic() + STARTING_SECONDS
        while not self._server.started:
            assert time.monotonic() < deadline, "it did not start"
            time.sleep(0.01)

    def stop(self) -> None:
        """End the streams, and listen no more. Safe to call again."""
        self._server.should_exit = True
        self._thread.join(STARTING_SECONDS)
        self._socket.close()

    def _app(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/", self._page),
                Route("/events", self._events),
                Route("/faults/{name}", self._fault, methods=["POST"]),
                Route("/rules", self._rules),
            ]
        )

    async def _page(self, _request: Request) -> Response:
        self.asked_for_page += 1
        page = PAGE.read_text(encoding="utf-8").replace("{{nonce}}", NONCE).replace("{{token}}", self.token)
        return HTMLResponse(page, headers={"Content-Security-Policy": POLICY, "Cache-Control": "no-store"})

    async def _events(self, _request: Request) -> Response:
        if self.full:
            return Response(status_code=503)
        return StreamingResponse(self._stream(), media_type="text/event-stream")

    async def _stream(self) -> AsyncIterator[str]:
        sent = 0
        while not self._server.should_exit:
            for kind, about in self._told[sent:]:
                yield message(kind, about)
                sent += 1
            if not self.silent:
                yield message("state", copy.deepcopy(self.state))
            await asyncio.sleep(STATE_SECONDS)

    async def _fault(self, request: Request) -> Response:
        name = request.path_params["name"]
        self.pressed.append(f"{name} {request.headers.get('x-live-token')}")
        return JSONResponse({"name": name, "started": self.status == 202}, self.status)

    async def _rules(self, _request: Request) -> Response:
        return HTMLResponse("<title>Rules</title><p id='K1'>K1 …")


def message(kind: str, about: dict[str, Any]) -> str:
    return f"event: {kind}\ndata: {json.dumps(about)}\n\n"
