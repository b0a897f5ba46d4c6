"""What is known of the token: from the events, for to ask the client may be to log in."""

from __future__ import annotations

import math
import time
from contextlib import suppress
from typing import Any

from vault_client import VaultClient
from vaultkit.errors import VaultError
from vaultkit.events import Event, LoggedIn, TokenLeft, TokenLost, TokenRenewed, TokenRevoked
from vaultkit.lifetime import LONG_AGO, Moment


class TokenFacts:
    """The token's life, from which the page draws the ring."""

    def __init__(self) -> None:
        self.client: VaultClient | None = None
        self._ends = LONG_AGO
        self._granted = 0.0
        self._generation = 0
        self._renewed = 0
        self._renewable = True
        self._last = False

    def hear(self, event: Event) -> None:
        if isinstance(event, LoggedIn):
            self._generation, self._renewed, self._last = event.generation, 0, False
            self._grant(event.ttl)
        elif isinstance(event, TokenRenewed):
            self._renewed, self._last = self._renewed + 1, event.last
            self._grant(event.ttl)
        elif isinstance(event, (TokenLost, TokenRevoked, TokenLeft)):
            self._ends = LONG_AGO

    def _grant(self, ttl: float) -> None:
        """It counts from before the request (T1), which the client knows: to ask it of a token just granted is free."""
        self._granted, left = ttl, ttl
        if self.client is not None and self.client.logged_in:
            with suppress(VaultError):
                info = self.client.get_token_info()
                left, self._renewable = info.ttl, info.renewable
        self._ends = Moment.now(time).after(left)

    def facts(self) -> dict[str, Any]:
        left = self._ends.left(time)
        endless = math.isinf(left)
        return {
            "state": "valid" if left > 0 else "none",
            "generation": self._generation,
            "ttl": None if endless else round(left, 2),
            "granted": None if endless or math.isinf(self._granted) else self._granted,
            "renewed": self._renewed,
            "renewable": self._renewable,
            "last": self._last,
        }
