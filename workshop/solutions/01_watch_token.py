"""Lab 1's exercise: says what becomes of a token, until it was renewed so many times.

python workshop/solutions/01_watch_token.py [TIMES]
"""

from __future__ import annotations

import sys
import threading
import time

from config_loader import VaultConfig
from vault_client import VaultClient
from vaultkit.events import Event, LoggedIn, TokenRenewed, TokenRevoked


def main(times: int) -> None:
    renewed = threading.Semaphore(0)
    started = time.monotonic()

    def on_event(event: Event) -> None:
        now = f"{time.monotonic() - started:3.0f} s "
        if isinstance(event, LoggedIn):
            print(now, f"logged in, a token for {event.ttl:.0f} s", flush=True)
        elif isinstance(event, TokenRenewed):
            print(now, f"renewed for {event.ttl:.0f} s", flush=True)
            renewed.release()
        elif isinstance(event, TokenRevoked):
            print(now, "revoked", flush=True)

    with VaultClient(VaultConfig.load(), listeners=[on_event]) as vault:
        vault.login()
        vault.keep_alive()
        for _ in range(times):
            renewed.acquire()


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 2)
