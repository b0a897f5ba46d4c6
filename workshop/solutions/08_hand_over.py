"""Lab 8: deploys a program: wraps a secret_id for it into a file, starts it, and ends with its status.

python workshop/solutions/08_hand_over.py workshop/mine/wrapped python vault_app.py --once
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from vault_client import VaultClient

ROLE = "my-vault-app"
GOOD_FOR = "60s"
"""Time enough for a start, and for little else."""
OURS = ("VAULT_TOKEN", "BAO_TOKEN", "VAULT_SECRET_ID")
"""What the administrator's shell may hold, and the program must not have."""


def main(file: str, command: Sequence[str]) -> int:
    with VaultClient.of(url=os.environ["VAULT_ADDR"], token=os.environ["VAULT_TOKEN"]) as vault:
        write_privately(Path(file), wrapped_secret_id(vault))
    environment = {name: value for name, value in os.environ.items() if name not in OURS}
    return subprocess.run(command, env={**environment, "VAULT_WRAPPED_SECRET_ID_FILE": file}, check=False).returncode


def wrapped_secret_id(vault: VaultClient) -> str:
    """A token by which the secret_id can be had once; it is never here itself."""
    answer = vault.ask(lambda api: api.auth.approle.generate_secret_id(ROLE, wrap_ttl=GOOD_FOR))
    return str(answer["wrap_info"]["token"])


def write_privately(path: Path, text: str) -> None:
    """For nobody else to read, not even for the moment between writing and a chmod."""
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(text)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
