"""Lab 6: tells when Vault went away and when it was back, from the client's events alone. Ctrl+C ends it.

python workshop/solutions/06_outage.py
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress

from config_loader import VaultConfig
from vault_client import VaultClient
from vaultkit.errors import NoAnswer, VaultError
from vaultkit.events import Event, LoggedIn, SecretChanged, TokenRenewed

ANSWERS = (LoggedIn, TokenRenewed, SecretChanged)
"""What happens only when Vault has answered. A KV version that has not moved is an answer, too, and no event: so the
end of an outage is noticed at the next renewal, or when the next credentials come."""


class OutageWatch:
    """A listener, which the threads of a client may call at the same time."""

    def __init__(self, tell: Callable[[str], object]) -> None:
        self._tell = tell
        self._since: float | None = None
        self._lock = threading.Lock()

    def __call__(self, event: Event) -> None:
        with self._lock:
            if isinstance(getattr(event, "error", None), NoAnswer):
                self._is_away()
            elif isinstance(event, ANSWERS):
                self._is_back()

    def _is_away(self) -> None:
        if self._since is None:
            self._since = time.monotonic()
            self._tell("Vault gives no answer")

    def _is_back(self) -> None:
        if self._since is not None:
            self._tell(f"Vault is back, after {time.monotonic() - self._since:.0f} s")
            self._since = None


def tell(text: str) -> None:
    """At once, also where the output is a file."""
    print(text, flush=True)


def main() -> None:
    with VaultClient(VaultConfig.load(), listeners=[OutageWatch(tell)]) as vault:
        vault.keep_alive()
        vault.get_kv_secret("database")
        tell("reading a secret five times a second")
        while True:
            with suppress(VaultError):  # the listener has heard of it
                vault.get_kv_secret("database")
            time.sleep(0.2)


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        main()
