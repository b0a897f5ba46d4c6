"""Rotators that are killed, for good and without warning, when they have done a step, for test_catalogue_rotation.py.

Reads lines of STEP NAME, and forks for each, so that Python starts once. Answers each with the signal that ended it.
"""

from __future__ import annotations

import json
import os
import signal
import sys

from tests.catalogue_rotating import kv_of, rotated


def die_after(last: str, step: str) -> None:
    if step == last:
        os.kill(os.getpid(), signal.SIGKILL)


def ended(last: str, name: str) -> int:
    """How a rotator ended, in a process of its own."""
    child = os.fork()
    if child == 0:
        kv = kv_of(os.environ["VAULT_URL"], os.environ["VAULT_TOKEN"])
        database, superuser = json.loads(os.environ["DATABASE"]), json.loads(os.environ["SUPERUSER"])
        rotated(kv, name, database, superuser).rotator(on_step=lambda step: die_after(last, step)).rotate()
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    return os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0


if __name__ == "__main__":
    for line in sys.stdin:
        print(ended(*line.split()), flush=True)
