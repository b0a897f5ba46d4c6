"""The way to the server: the name, the connection, the proxy, TLS."""

from __future__ import annotations

import http.client
import socket
import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

import urllib3

from vaultkit.transport.connection import ConnectionSettings, HttpSettings
from vaultkit.transport.proxies import PORTS, Proxies, Proxy, is_loopback

from .findings import Findings
from .tls import look_at_tls


@dataclass(frozen=True)
class Place:
    """A host and a port that one connects to."""

    host: str
    port: int

    @classmethod
    def of(cls, url: str) -> Place:
        parts = urlsplit(url)
        return cls(parts.hostname or "", parts.port or PORTS[parts.scheme])

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def look_at_way(
    connection: ConnectionSettings, bounds: HttpSettings, environ: Mapping[str, str], findings: Findings
) -> bool:
    """Whether a request would get as far as the server."""
    server = Place.of(connection.url)
    proxy = Proxies(connection.proxy_addr, environ).of(connection.url)
    hop = Place.of(proxy.url) if proxy else server
    remedy = proxy.remedy if proxy else "export VAULT_ADDR=https://vault.example.com:8200    # if it is another"
    if not (look_up(hop, remedy, findings) and connect(hop, bounds.timeout, connection.url, proxy, findings)):
        return False
    if proxy is None:
        findings.ok("proxy", f"none: {why_none(server, environ)}")
    else:
        findings.ok("proxy", f"{proxy}; {proxy.remedy} if the server is to be reached without")
    if urlsplit(connection.url).scheme != "https":
        warn_of_plain_http(server, findings)
        return True
    try:
        sock = tunnel(proxy, server, bounds.timeout) if proxy else plain(hop, bounds.timeout)
    except (OSError, http.client.HTTPException) as error:
        findings.fault("proxy", f"{proxy} does not let us through: {said(error)}", command_for(proxy, connection.url))
        return False
    if sock is None:
        findings.warn("TLS", "not looked at: behind a proxy that speaks TLS itself; the next step goes through it")
        return True
    with closing(sock):
        return look_at_tls(sock, connection, str(server), environ, findings)


def look_up(place: Place, remedy: str, findings: Findings) -> bool:
    """Whether the name has an address."""
    try:
        found = socket.getaddrinfo(place.host, place.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        findings.fault("name", f"{place.host} has no address: {said(error)}", f"getent hosts {place.host}; {remedy}")
        return False
    addresses = ", ".join(dict.fromkeys(str(each[4][0]) for each in found))
    is_number = addresses == place.host
    findings.ok("name", f"{place.host} is an address itself" if is_number else f"{place.host} is {addresses}")
    return True


def connect(place: Place, timeout: float, url: str, proxy: Proxy | None, findings: Findings) -> bool:
    """Whether somebody listens there."""
    started = time.monotonic()
    try:
        plain(place, timeout).close()
    except OSError as error:
        whose = f"the proxy {proxy}" if proxy else str(place)
        findings.fault("connection", f"{whose}: {said(error)}", command_for(proxy, url))
        return False
    findings.ok("connection", f"{place} takes it, in {1000 * (time.monotonic() - started):.0f} ms")
    return True


def plain(place: Place, timeout: float) -> socket.socket:
    return socket.create_connection((place.host, place.port), timeout)


def tunnel(proxy: Proxy, server: Place, timeout: float) -> socket.socket | None:
    """A connection to the server through a proxy; None, where the proxy speaks TLS. Raises: OSError."""
    parts = urlsplit(proxy.url)
    if parts.scheme != "http":
        return None
    place = Place.of(proxy.url)
    user, password = unquote(parts.username or ""), unquote(parts.password or "")
    headers = urllib3.make_headers(proxy_basic_auth=f"{user}:{password}") if user else {}
    connection = http.client.HTTPConnection(place.host, place.port, timeout=timeout)
    connection.set_tunnel(server.host, server.port, headers)
    connection.connect()
    sock: socket.socket = connection.sock
    return sock


def why_none(server: Place, environ: Mapping[str, str]) -> str:
    if is_loopback(server.host):
        return "this machine is never reached through one"
    named = any(environ.get(name) for scheme in ("HTTP_PROXY", "HTTPS_PROXY") for name in (scheme, scheme.lower()))
    return "NO_PROXY lists the server, or it is for another scheme" if named else "neither [vault] nor the environment"


def warn_of_plain_http(server: Place, findings: Findings) -> None:
    if is_loopback(server.host):
        findings.ok("TLS", "none: http:// on this machine")
    else:
        findings.warn(
            "TLS", "none: with http:// whoever is on the way reads the secrets", "export VAULT_ADDR=https://…"
        )


def command_for(proxy: Proxy | None, url: str) -> str:
    return proxy.remedy if proxy else f"curl -sS {url}/v1/sys/health    # is it started there? [vault] url, VAULT_ADDR"


def said(error: Exception) -> str:
    """What the operating system says, or the proxy; nothing of what was sent stands in that (P1)."""
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, OSError):
        return error.strerror or str(error)
    return type(error).__name__
