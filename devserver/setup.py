"""Runs setup-vault.sh against a server, whether that came from a wheel or from a container."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

from devserver.process import Process

SCRIPT = Path(__file__).parent.parent / "setup-vault.sh"
SECONDS = 60.0


def run_setup(folder: Path, variables: Mapping[str, str], check: Callable[[], None] = lambda: None) -> str:
    """Run the script with these variables, its log in `folder`; return the secret_id that it issued.

    SETUP_ROOMS names the rooms that it is to prepare as well. Raises: DevServerError, with what the script said.
    """
    log = folder / "setup-vault.log"
    log.unlink(missing_ok=True)
    environment = {**without_vault(os.environ), **variables, "HOME": str(folder)}
    rooms = environment.get("SETUP_ROOMS", "").split()
    process = Process("setup-vault.sh", ["bash", SCRIPT, *rooms], log=log, env=environment)
    try:
        process.wait_for_success(SECONDS, check)
    finally:
        process.stop()
    return log.read_text().rpartition("export VAULT_SECRET_ID=")[2].strip()


def without_vault(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment without what points `vault`, `bao` or the application at another server."""
    return {name: value for name, value in environment.items() if not name.startswith(("VAULT_", "BAO_"))}
