"""What cannot be had for real: a clock that obeys, and a Vault that fails when it is told to."""

from __future__ import annotations

import io
import json
import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from urllib.parse import unquote

import requests
from requests.adapters import BaseAdapter

TOKEN = "hvs.token-of-generation-"
SECRET_ID = "475a6500-f9f8-fdd4-ec30-54fadcad926e"
ROLE_ID = "7fb49dd0-4b87-19cd-7b72-a7e21e5c543e"
PASSWORD = "correct-horse-battery-staple"

LOGIN = "POST auth/approle/login"
RENEW = "POST auth/token/renew-self"
LOOKUP = "GET auth/token/lookup-self"
REVOKE = "POST auth/token/revoke-self"
GIVE_BACK = "PUT sys/leases/revoke"
RENEW_LEASE = "PUT sys/leases/renew"
KV_DATA = "GET my-vault-app-kv/data/database"
KV_METADATA = "GET my-vault-app-kv/metadata/database"
DYNAMIC = "GET my-vault-app-database/creds/db-demo-dynamic"
STATIC = "GET my-vault-app-database/static-creds/db-demo-static"
KV = "my-vault-app-kv"
SCAN = f"SCAN {KV}/detailed-metadata/team"
LIST = f"LIST {KV}/metadata/team"


class FakeClock:
    """Two clocks that move only when they are told to."""

    def __init__(self) -> None:
        self._monotonic = 1_000.0
        self._wall = 1_795_000_000.0

    def monotonic(self) -> float:
        return self._monotonic

    def time(self) -> float:
        return self._wall

    def pass_time(self, seconds: float) -> None:
        self._monotonic += seconds
        self._wall += seconds

    def set_wall_clock(self, by: float) -> None:
        """As NTP or a person does, and as it looks after a laptop slept."""
        self._wall += by


class Refusal(Exception):
    """A status other than 200, with Vault's own way to say why."""

    def __init__(self, status: int, *errors: str, data: Any = None, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(status)
        self.status = status
        self.body: Any = {"errors": list(errors)} if data is None else {"data": data}
        self.headers = dict(headers or {})


@dataclass
class FakeVault(BaseAdapter):
    """Vault as an adapter of requests: hvac and everything above it are the real ones.

    `asked` lists the requests; `instead` replaces an answer: a function that returns a body, or raises. `below` holds
    the versions of the KV secrets below `team/`.
    """

    clock: FakeClock
    token_ttl: int = 60
    renewed_ttl: int = 60
    renewable: bool = True
    lease: int = 60
    version: int = 1
    created: str = "2026-11-23T19:12:51.156781979Z"
    deletion_time: str = ""
    destroyed: bool = False
    rotation: str = "2026-11-23T19:13:41.271233163Z"
    static_ttl: int = 3600
    below: dict[str, int] = field(default_factory=dict)
    latency: float = 0.0
    asked: list[str] = field(default_factory=list)
    tokens: list[str] = field(default_factory=list)
    timeouts: list[float] = field(default_factory=list)
    logins: int = 0
    leases: int = 0
    max_lease: float = math.inf
    issued: dict[str, float] = field(default_factory=dict)
    """The leases that there are, and when they were issued."""
    sent: dict[str, Any] = field(default_factory=dict)
    """What came with the last request."""
    dead: set[str] = field(default_factory=set)
    instead: dict[str, Callable[[], Any]] = field(default_factory=dict)

    def session(self) -> requests.Session:
        session = requests.Session()
        session.mount("http://", self)
        return session

    def count(self) -> Counter[str]:
        return Counter(self.asked)

    def forget(self) -> None:
        self.asked.clear()
        self.tokens.clear()

    def go_down(self) -> None:
        """From now on nobody answers."""

        def unreachable() -> None:
            raise requests.ConnectionError(ConnectionRefusedError(111, "Connection refused"))

        below = [f"GET {KV}/{kind}/{path}" for path in self.below for kind in ("data", "metadata")]
        asked = (LOGIN, RENEW, LOOKUP, KV_DATA, KV_METADATA, SCAN, LIST, *below, DYNAMIC, RENEW_LEASE, STATIC)
        self.instead = dict.fromkeys(asked, unreachable)

    def come_back(self) -> None:
        self.instead = {}

    # ── As requests sees it ──────────────────────────────────────────────────────────────────────────────────────────

    def send(self, request: requests.PreparedRequest, *_: Any, **options: Any) -> requests.Response:
        path = unquote(str(request.path_url).removeprefix("/v1/").partition("?")[0])
        what, token = f"{request.method} {path}", str(request.headers.get("X-Vault-Token", ""))
        self.asked.append(what)
        self.tokens.append(token)
        self.timeouts.append(options["timeout"])
        self.sent = json.loads(request.body or "{}")
        for value in request.headers.values():
            value.encode("latin-1")  # as http.client does
        self.clock.pass_time(self.latency)
        response = requests.Response()
        response.request, response.url = request, str(request.url)
        response.headers["Content-Type"] = "application/json"
        try:
            response.status_code, body = 200, self._answer(what, token)
        except Refusal as refusal:
            response.status_code, body = refusal.status, refusal.body
            response.headers.update(refusal.headers)
        response.raw = io.BytesIO(body if isinstance(body, bytes) else json.dumps(body).encode())
        return response

    def close(self) -> None:
        pass

    def _answer(self, asked: str, token: str) -> Any:
        if asked in self.instead:
            return self.instead[asked]()
        if token in self.dead:
            raise Refusal(403, "permission denied")
        answers: dict[str, Callable[[], Any]] = {
            LOGIN: self._login,
            RENEW: lambda: self._auth(self.renewed_ttl),
            LOOKUP: lambda: {"data": {}},
            REVOKE: lambda: {},
            GIVE_BACK: lambda: {},
            KV_DATA: self._kv_data,
            KV_METADATA: self._kv_metadata,
            SCAN: self._scan,
            LIST: lambda: {"data": {"keys": sorted({path.removeprefix("team/") for path in self.below})}},
            **{f"GET {KV}/data/{path}": partial(self._kv_data, path) for path in self.below},
            **{f"GET {KV}/metadata/{path}": partial(self._kv_metadata, path) for path in self.below},
            DYNAMIC: self._dynamic,
            RENEW_LEASE: self._renew_lease,
            STATIC: self._static,
        }
        if asked not in answers:
            raise Refusal(404)
        return answers[asked]()

    def _login(self) -> Any:
        self.logins += 1
        return self._auth(self.token_ttl)

    def _auth(self, ttl: int) -> Any:
        auth = {"client_token": f"{TOKEN}{self.logins}", "lease_duration": ttl, "renewable": self.renewable}
        return {"auth": {**auth, "policies": ["my-vault-app"]}}

    def _kv_data(self, path: str = "database") -> Any:
        version = self.below.get(path, self.version)
        facts = {"version": version, "created_time": self.created}
        if self.deletion_time or self.destroyed:
            gone = {**facts, "deletion_time": self.deletion_time, "destroyed": self.destroyed}
            raise Refusal(404, data={"data": None, "metadata": gone})
        return {"data": {"data": {"api_key": f"{PASSWORD}-{version}"}, "metadata": facts}}

    def _kv_metadata(self, path: str = "database") -> Any:
        version = str(self.below.get(path, self.version))
        facts = {"created_time": self.created, "deletion_time": self.deletion_time, "destroyed": self.destroyed}
        return {"data": {"current_version": int(version), "versions": {version: facts}}}

    def _scan(self) -> Any:
        return {
            "data": {"key_info": {path.removeprefix("team/"): self._kv_metadata(path)["data"] for path in self.below}}
        }

    def _dynamic(self) -> Any:
        self.leases += 1
        number = self.leases
        data = {"username": f"v-approle-{number}", "password": f"{PASSWORD}-{number}"}
        self.issued[f"creds/{number}"] = self.clock.monotonic()
        return {"lease_id": f"creds/{number}", "lease_duration": self.lease, "renewable": True, "data": data}

    def _renew_lease(self) -> Any:
        lease_id, increment = self.sent["lease_id"], self.sent["increment"]
        if lease_id not in self.issued:
            raise Refusal(400, "lease not found")
        left = self.issued[lease_id] + self.max_lease - self.clock.monotonic()
        return {"lease_id": lease_id, "lease_duration": int(min(increment, left)), "renewable": True}

    def _static(self) -> Any:
        data = {"username": "my-vault-app-static", "password": f"{PASSWORD}-{self.rotation}"}
        return {"data": {**data, "ttl": self.static_ttl, "last_vault_rotation": self.rotation}}
