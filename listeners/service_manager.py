"""Tells systemd when the application is ready, and when it is about to end (`Type=notify`).

https://www.freedesktop.org/software/systemd/man/latest/sd_notify.html
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from contextlib import suppress

from vaultkit.events import Event, LoggedIn, Stopping

STATES: dict[type[Event], bytes] = {LoggedIn: b"READY=1", Stopping: b"STOPPING=1"}


class ServiceManager:
    """Hears of the first login, with which the application is ready, and of the end."""

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        address = environ.get("NOTIFY_SOCKET", "")
        self._address = "\0" + address[1:] if address.startswith("@") else address

    def __call__(self, event: Event) -> None:
        state = STATES.get(type(event))
        if state is None or not self._address:
            return
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
            manager.sendto(state, self._address)
