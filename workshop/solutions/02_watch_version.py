"""Lab 2's exercise: says when the version of a secret changes, until Ctrl+C.

python workshop/solutions/02_watch_version.py
"""

from __future__ import annotations

import time
from contextlib import suppress

from config_loader import VaultConfig
from vault_client import VaultClient
from vaultkit.errors import SecretDeleted
from vaultkit.events import Event, SecretChanged


def on_event(event: Event) -> None:
    if isinstance(event, SecretChanged):
        before = "nothing" if event.previous is None else f"version {event.previous.version}"
        print(f"{event.secret.name}: {before} → version {event.secret.version}", flush=True)


def main() -> None:
    with VaultClient(VaultConfig.load()) as vault:
        vault.keep_alive()
        vault.listen(on_event)
        while True:
            # The client asks for the version when [kv_secret] refresh_interval has passed; each read before is free.
            with suppress(SecretDeleted):
                vault.get_kv_secret("database")
            time.sleep(1.0)


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        main()
