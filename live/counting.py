"""The requests that the application made, beside the least that the rules permit for what has happened.

The least, since the application was started:

    token      a login (T7); one more for each token that was lost or revoked, with the 403 that told of it and the
               question whether the token is good (T9); a renewal each 4/5 of the TTL (T3)
    kv         for each secret a read, and then a request each `refresh_interval`, for its version (K1);
               one more, for the values, whenever that has moved, be it that they were deleted
    dynamic    for each role a request, and the next when `ttl_threshold` seconds are left of the lease, or a fifth of
               it if that is less (D1); another after each login (T8), and where a lease was revoked
    static     for each role a request, and then one each `cache_time`, or when the password rotates; one each second
               while a rotation is overdue (S1)

Time in which Vault gave no answer does not count: nothing could be asked. What falls due at the edge of such a time is
in it or not, so the least is right within a few requests.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from config_loader import VaultConfig
from vaultkit.auth.grant import RENEW_AT_SHARE_OF_TTL
from vaultkit.engines.cache import ASK_AGAIN_SECONDS
from vaultkit.engines.database import LEASE_SHARE_LEFT

KINDS = ("token", "kv", "dynamic", "static", "other")
KIND_OF_ENGINE = {"kv_secret": "kv", "database_dynamic": "dynamic", "database_static": "static"}
LATE = 0.1
"""What comes so much of an interval too late was still due."""
DOUBT = 2
"""Requests by which one learns that a token was revoked: the one that is refused, and lookup-self (T9)."""
RAN_OUT, DELETED = "T1", "K3"
"""The rules by which `words` tells of a token that has run out, and of a secret that was deleted."""


@dataclass
class Pace:
    """Something that is asked for once, and then again whenever an interval has passed."""

    asked: int = 0
    passed: float = 0.0
    """Of the interval, since it was last asked for out of turn: 2.5 is two intervals and a half."""

    def advance(self, seconds: float, interval: float) -> None:
        if self.asked and interval > 0:
            self.passed += seconds / interval

    def anew(self) -> None:
        """It is asked for now; that may be just when it was due."""
        self.asked += max(1, math.ceil(self.passed - LATE))
        self.passed = 0.0

    @property
    def requests(self) -> int:
        return self.asked + int(self.passed)


class Counting:
    """Counts both. Not for several threads at once: the board has a lock."""

    def __init__(self, config: VaultConfig) -> None:
        self._config = config
        self.start()

    def start(self) -> None:
        """The application is started: count from here."""
        self._made: Counter[str] = Counter()
        self._paces = {kind: Pace() for kind in ("token", *KIND_OF_ENGINE.values())}
        self._extra = 0
        self._is_deleted = False
        self._at = time.monotonic()

    def requested(self, kind: str) -> None:
        self._made[kind] += 1

    def hear(self, happened: Mapping[str, Any]) -> None:
        """Something happened in the application: what does it cost?"""
        kind, engine = happened["kind"], happened.get("engine")
        if kind == "LoggedIn":
            self._paces["token"].anew()
        elif kind == "TokenLost" and happened["rule"] != RAN_OUT:
            self._extra += DOUBT
        elif kind == "TurnFailed" and happened["rule"] == DELETED:
            self._extra += not self._is_deleted
            self._is_deleted = True
        elif kind == "SecretChanged" and engine == "kv_secret" and self._paces["kv"].asked:
            self._extra += not happened["first"]
            self._is_deleted = False
        elif kind == "SecretChanged" and engine in KIND_OF_ENGINE:
            self._paces[KIND_OF_ENGINE[engine]].anew()

    def advance(self, snapshot: Mapping[str, Any], *, answering: bool) -> None:
        """Time has passed, in which Vault answered or did not."""
        now = time.monotonic()
        seconds, self._at = now - self._at, now
        if answering:
            for kind, interval in self._intervals(snapshot).items():
                self._paces[kind].advance(seconds, interval)

    def _intervals(self, snapshot: Mapping[str, Any]) -> dict[str, float]:
        """Seconds from one request to the next; 0 where nothing is held, so that nothing is due."""
        dynamic, static = self._config.database_dynamic, self._config.database_static
        of = {secret["engine"]: secret for secret in snapshot["secrets"]}
        lease = of.get("database_dynamic", {}).get("granted") or 0.0
        overdue = of.get("database_static", {}).get("ttl") == 0
        return {
            "token": (snapshot["token"]["granted"] or 0.0) * RENEW_AT_SHARE_OF_TTL,
            "kv": self._config.kv_secret.refresh_interval,
            "dynamic": lease - min(dynamic.ttl_threshold, lease * LEASE_SHARE_LEFT),
            "static": ASK_AGAIN_SECONDS if overdue else static.cache_time,
        }

    def least(self) -> int:
        """As the head of this file says."""
        return sum(pace.requests for pace in self._paces.values()) + self._extra

    def facts(self, since: float) -> dict[str, Any]:
        by = {kind: self._made[kind] for kind in KINDS}
        return {"total": sum(by.values()), "least": self.least(), "by": by, "since": since}
