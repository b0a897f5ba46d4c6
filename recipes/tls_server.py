"""TLS for a server whose certificate Vault signs: it follows the certificate, and drops no connection.

When to use it: in a server that takes an SSLContext of Python's. Tried with http.server.

    with server_context(vault, "pki-demo") as context:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        server.serve_forever()

A context that is in use is never changed: another certificate that was loaded into it, while handshakes went on in
other threads, has crashed the process (CPython 3.11, OpenSSL 3.0). Instead each handshake is handed to the context of
the newest certificate, which was complete before anybody saw it.
"""

from __future__ import annotations

import logging
import os
import ssl
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

from vault_client import VaultClient
from vaultkit.errors import VaultError
from vaultkit.events import Event, SecretChanged
from vaultkit.fork import start_anew_in_children
from vaultkit.secret import Secret
from vaultkit.worker import Worker

LOOKS_PER_TTL = 10
SHORTEST_LOOK_SECONDS, LONGEST_LOOK_SECONDS = 0.1, 10.0
STOP_SECONDS = 1.0
ENGINE = "pki"

log = logging.getLogger(__name__)


Configure = Callable[[ssl.SSLContext], object]


@contextmanager
def server_context(
    vault: VaultClient, role: str, configure: Configure = lambda context: None
) -> Iterator[ssl.SSLContext]:
    """An SSLContext for the server side, with the certificate of this role. Raises: an error of `vaultkit.errors`.

    `configure` is called with each context that is made, to set what is to hold for all: ALPN, the CAs of clients.
    """
    follower = CertificateFollower(vault, role, configure)
    start_anew_in_children(follower)
    follower.start()
    leave = vault.listen(follower.hear)
    try:
        yield follower.context
    finally:
        leave()
        follower.stop()


class CertificateFollower:
    """Keeps one `context` on the certificate that Vault gives now.

    A thread asks the client for it, often enough that it is replaced in time whoever else asks. If there is no other,
    the one that there is goes on.
    """

    def __init__(self, vault: VaultClient, role: str, configure: Configure) -> None:
        self._vault = vault
        self._role = role
        self._configure = configure
        self._secret = vault.get_certificate(role)
        self._newest = self._context_with(self._secret)
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        configure(self.context)
        self.context.sni_callback = self._hand_over  # called at each handshake, whether a name was sent or not
        self._set_up()

    def _set_up(self) -> None:
        self._lock = threading.Lock()  # held to change the two above
        self._stop = threading.Event()
        self._keeper = Worker("certificate-keeper", self._look, interval=self._pause, stop=self._stop, on_error=report)

    def start_anew(self) -> None:
        """In the child of a fork: the certificate of the parent, until the first handshake has a thread look (T10)."""
        self._secret = replace(self._secret, revision=0)  # they are counted anew here
        self._set_up()

    def start(self) -> None:
        with self._lock:
            self._keeper.start()

    def stop(self) -> None:
        self._stop.set()
        self._keeper.join(STOP_SECONDS)

    def hear(self, event: Event) -> None:
        """By the time that all listeners have heard, the certificate before may be revoked."""
        if isinstance(event, SecretChanged) and (event.secret.engine, event.secret.name) == (ENGINE, self._role):
            self._use(event.secret)

    def _hand_over(self, connection: ssl.SSLObject, *_: object) -> None:
        self.start()  # in a child; elsewhere it runs
        connection.context = self._newest

    def _look(self) -> None:
        self._use(self._vault.get_certificate(self._role))

    def _pause(self) -> float:
        ttl = self._secret.ttl or 0.0
        return min(LONGEST_LOOK_SECONDS, max(SHORTEST_LOOK_SECONDS, ttl / LOOKS_PER_TTL))

    def _use(self, secret: Secret) -> None:
        """Hand what comes from now on to a context with this certificate, unless there is one as new."""
        with self._lock:
            if secret.revision > self._secret.revision:
                self._newest = self._context_with(secret)
                self._secret = secret

    def _context_with(self, secret: Secret) -> ssl.SSLContext:
        """Raises: ssl.SSLError, if the key is not that of the certificate; what there is goes on then."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._configure(context)
        with file_of("\n".join(secret.data[each] for each in ("private_key", "certificate", "ca_chain"))) as path:
            context.load_cert_chain(path)
        return context


@contextmanager
def file_of(text: str) -> Iterator[str]:
    """The path of a file that holds this, since ssl reads no string: in memory alone where the system can do that."""
    if hasattr(os, "memfd_create") and os.path.isdir("/proc/self/fd"):
        number = os.memfd_create("certificate")
        with os.fdopen(number, "w") as file:
            file.write(text)
            file.flush()
            yield f"/proc/self/fd/{number}"
    else:
        with tempfile.NamedTemporaryFile("w", prefix="certificate-") as file:  # for us alone to read, and gone at once
            file.write(text)
            file.flush()
            yield file.name


def report(error: Exception) -> None:
    log.warning("certificate-keeper: %s", error if isinstance(error, VaultError) else type(error).__name__)
