"""Certificates good and bad, and a resolver that forgets."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import trustme

from devserver.openbao import HOST


class Authority:
    """A CA that the application trusts, and one that it does not."""

    def __init__(self, folder: Path) -> None:
        self._trusted, self._other = trustme.CA(), trustme.CA()
        self.file = folder / "ca.pem"
        self._trusted.cert_pem.write_to_path(str(self.file))

    def good(self) -> ssl.SSLContext:
        return self._context(self._trusted.issue_cert(HOST))

    def expired(self) -> ssl.SSLContext:
        yesterday = datetime.now(timezone.utc) - timedelta(days=1)
        month_before = yesterday - timedelta(days=30)
        return self._context(self._trusted.issue_cert(HOST, not_before=month_before, not_after=yesterday))

    def foreign(self) -> ssl.SSLContext:
        return self._context(self._other.issue_cert(HOST))

    def misnamed(self) -> ssl.SSLContext:
        return self._context(self._trusted.issue_cert("vault.example.com"))

    def _context(self, certificate: trustme.LeafCert) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        certificate.configure_cert(context)
        return context


@contextmanager
def forgetful_resolver() -> Iterator[set[str]]:
    """A stand-in for the resolver: every name that ends in .test is this machine, but for those in the set."""
    real, unknown = socket.getaddrinfo, set[str]()

    def look_up(host: Any, *args: Any, **kwargs: Any) -> Any:
        if host in unknown:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return real(HOST if str(host).endswith(".test") else host, *args, **kwargs)

    socket.getaddrinfo = look_up
    try:
        yield unknown
    finally:
        socket.getaddrinfo = real
