"""Issuers that are killed, for good and without warning, when they have done a step. Run by test_issuer.py.

Reads lines of ACTION STEP NAME, and forks an issuer for each, so that Python starts once. Answers each with the signal
that has ended it, and what it had handed over.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from functools import partial
from typing import IO

from issuer import Service, VaultTokenIssuer
from tests.issuing import client_of, issuer_of, take

HANDED_OVER = "handed_over"


def die_after(last: str, step: str) -> None:
    if step == last:
        os.kill(os.getpid(), signal.SIGKILL)


def act(issuer: VaultTokenIssuer, action: str, service: Service, out: IO[str]) -> None:
    if action == "rotate":
        issuer.rotate(service, partial(take, url=os.environ["VAULT_URL"]))
    elif action == "revoke":
        issuer.revoke(service)
    else:
        print(issuer.issue(service, replace=action == "replace").wrapping_token, file=out, flush=True)


def live(action: str, last: str, name: str, out: IO[str]) -> None:
    issuer = issuer_of(client_of(dict(os.environ)), on_step=partial(die_after, last))
    act(issuer, action, Service.named(name), out)
    die_after(last, HANDED_OVER)


def ended(action: str, last: str, name: str) -> dict[str, object]:
    """How an issuer ended, in a process of its own."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        live(action, last, name, open(writer, "w", encoding="utf-8"))  # noqa: SIM115  # it dies with it open
        os._exit(0)
    os.close(writer)
    with open(reader, encoding="utf-8") as stream:
        handed_over = stream.read().strip()
    status = os.waitpid(child, 0)[1]
    return {"signal": os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0, "handed_over": handed_over}


if __name__ == "__main__":
    for line in sys.stdin:
        print(json.dumps(ended(*line.split())), flush=True)
