"""From the issuer to a service: a file that only its owner reads, with a token in it that is good for one unwrapping.

Whoever is not the first to unwrap it finds that out, which is what wrapping is for: a token read on its way is noticed.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import hvac

from issuer.errors import NotReceived
from issuer.issues import Issue, Service
from vaultkit.auth.grant import usable_as_token
from vaultkit.errors import Refused
from vaultkit.shield import without_frames
from vaultkit.transport.adapter import VaultAdapter
from vaultkit.transport.answers import expect, printable
from vaultkit.transport.connection import ConnectionSettings, HttpSettings
from vaultkit.transport.session import new_session

ALARM = "an intruder may have the token: revoke it, and find out who unwrapped it, before another is issued"


@dataclass(frozen=True)
class Delivery:
    """What goes out: a wrapping token, from which its receiver takes the token, once and within `wrap_ttl` seconds."""

    service: Service
    issue: Issue
    wrapping_token: str = field(repr=False)
    wrap_ttl: float
    creation_path: str
    """Where the receiver must find that it was wrapped."""


Deliver = Callable[[Delivery], object]


def write_private(path: Path, text: str) -> None:
    """Write a file that nobody else may read, and that nobody sees half written."""
    number, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # with mode 0600
    try:
        with open(number, "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise


def into_file(path: Path) -> Deliver:
    """Delivers into this file."""
    return lambda delivery: write_private(path, delivery.wrapping_token)


def into_folder(folder: Path) -> Deliver:
    """Delivers into a file for each service and key, TENANT-SERVICE.KEY."""

    def deliver(delivery: Delivery) -> None:
        write_private(folder / f"{delivery.service.name}.{delivery.issue.key}", delivery.wrapping_token)

    return deliver


# ── The other end ────────────────────────────────────────────────────────────────────────────────────────────────────


@without_frames
def receive(wrapping_token: str, role: str, connection: ConnectionSettings) -> str:
    """The token in a wrapping token, which is used up by that. It is renewed, by which the issuer sees that it arrived.

    Raises: NotReceived, with an alarm in words, unless it was Vault that wrapped a new token of this token role.
    """
    usable_as_token(wrapping_token, "no usable wrapping token was handed over")
    with new_session(connection, HttpSettings()) as session:
        api = hvac.Client(
            url=connection.url, namespace=connection.namespace or None, session=session, adapter=VaultAdapter
        )
        try:
            check_creation_path(api, wrapping_token, role)
            api.token = wrapping_token
            api.token = expect(expect(api.sys.unwrap(), "auth", dict), "client_token", str)
        except NotReceived:
            raise
        except Refused as refusal:
            raise NotReceived(
                f"it cannot be unwrapped ({refusal}): its time ran out, or it was unwrapped before; {ALARM}"
            ) from None
        api.auth.token.renew_self()
        return str(api.token)


def check_creation_path(api: hvac.Client, wrapping_token: str, role: str) -> None:
    """Raises: NotReceived, if something else was wrapped in it, as whoever has read the token on its way would do."""
    expected = f"auth/token/create/{role}"
    answer = api.write_data("sys/wrapping/lookup", data={"token": wrapping_token})
    path = expect(expect(answer, "data", dict), "creation_path", str)
    if path != expected:
        raise NotReceived(f"it was wrapped at {printable(path)}, expected {expected}: it is forged; {ALARM}")
