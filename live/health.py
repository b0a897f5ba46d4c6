"""How the server is, asked for without a token, in a process that is not the application."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from functools import partial

from config_loader import VaultConfig
from live.board import Board
from live.repeating import repeated
from vault_client import VaultClient
from vaultkit.errors import VaultError, VaultTimeout, VaultUnreachable

LOOK_SECONDS = 0.5
TIMEOUT_SECONDS = 1.0
END_SECONDS = 2.0


@contextmanager
def watched(config: VaultConfig, board: Board) -> Iterator[None]:
    """While this lasts, the board is told whether the server answers, and whether it is sealed."""
    client = VaultClient(replace(config, http=replace(config.http, timeout=TIMEOUT_SECONDS)))
    look = partial(tell_state, client, board)
    with closing(client), repeated("live-health", look, every=LOOK_SECONDS, end=END_SECONDS):
        yield


def tell_state(client: VaultClient, board: Board) -> None:
    board.vault_is(*state_of(client))


def state_of(client: VaultClient) -> tuple[str, str]:
    """The state as the page names it, and the version, if it is told."""
    try:
        health = client.health_check()
    except VaultTimeout:
        return "hangs", ""
    except VaultUnreachable:
        return "away", ""
    except VaultError:
        return "unusable", ""
    if health.sealed or not health.initialized:
        return "sealed", health.version
    return "standby" if health.standby else "active", health.version
