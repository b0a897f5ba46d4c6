"""Which proxy a request goes through: as the `vault` and `bao` commands have it, and for this machine itself, none.

`[vault] proxy_addr` is for every request. Without it HTTPS_PROXY or HTTP_PROXY is, by the scheme of the address, except
for what NO_PROXY lists. Those three belong to the process, not to Vault: they are read when a session is made, in
capitals or not, as programs in Go read them.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import SplitResult, urlsplit

from ..errors import ConfigurationError

VARIABLES = {"http": "HTTP_PROXY", "https": "HTTPS_PROXY"}
PORTS = {"http": 80, "https": 443}
EXPECTED = "a proxy such as http://proxy.example.com:3128, with http:// or https://"


@dataclass(frozen=True)
class Proxy:
    """Where it is, and how it came to be used."""

    url: str = field(repr=False)  # it may hold a password (P1)
    named_by: str
    remedy: str
    """How not to use it."""

    def __str__(self) -> str:
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]} (from {self.named_by})"


class Proxies:
    """The proxy of each address; how the environment is read, it does not change afterwards."""

    def __init__(self, proxy_addr: str, environ: Mapping[str, str]) -> None:
        """Raises: ConfigurationError, if a variable of the environment names no proxy."""
        self._for_all = Proxy(proxy_addr, "[vault] proxy_addr", "empty that setting") if proxy_addr else None
        self._by_scheme = {} if proxy_addr else proxies_of_process(environ)
        self._exempt = _value(environ, "NO_PROXY")[1].split(",")

    def of(self, url: str) -> Proxy | None:
        """The proxy for a request to this address, if it is to go through one."""
        parts = urlsplit(url)
        host, port = (parts.hostname or "").lower().rstrip("."), parts.port or PORTS.get(parts.scheme, 0)
        if is_loopback(host):
            return None
        if self._for_all:
            return self._for_all
        if any(_is_exempt(host, port, rule.strip().lower()) for rule in self._exempt):
            return None
        return self._by_scheme.get(parts.scheme)


def proxies_of_process(environ: Mapping[str, str]) -> dict[str, Proxy]:
    """What HTTP_PROXY and HTTPS_PROXY say, by scheme. Raises: ConfigurationError."""
    found, problems = {}, []
    for scheme, variable in VARIABLES.items():
        name, value = _value(environ, variable)
        if not value or (name == "HTTP_PROXY" and "REQUEST_METHOD" in environ):
            continue  # under CGI, HTTP_PROXY is what the request's header "Proxy" says, so anybody's
        try:
            found[scheme] = Proxy(a_proxy(value), name, f"unset {name}, or add the server to NO_PROXY")
        except ValueError as error:
            problems.append(f"{name}: found (not shown), expected {error}")
    if problems:
        raise ConfigurationError(problems)
    return found


def _value(environ: Mapping[str, str], variable: str) -> tuple[str, str]:
    """The name as it is set, in capitals or not, and the value; an empty one counts as not set."""
    for name in (variable, variable.lower()):
        if environ.get(name):
            return name, environ[name]
    return variable, ""


def a_proxy(value: str) -> str:
    """The address of a proxy; http:// may be left out, and a user and password may stand in it."""
    parts = _split(value if "://" in value else f"http://{value}")
    if value and (parts is None or parts.scheme not in PORTS or not parts.hostname or not value.isprintable()):
        raise ValueError(EXPECTED)
    return parts.geturl() if value and parts else ""


def _split(url: str) -> SplitResult | None:
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018  # a port that is none raises here
        (parts.hostname or "").encode("idna")  # and here a name with a part that is empty or too long
    except ValueError:
        return None
    return None if " " in url else parts


def is_loopback(host: str) -> bool:
    """Whether it is this machine: no proxy could reach it, and would read a secret_id that was never to leave."""
    address = _address(host)
    if address is None:
        return host == "localhost"
    return address.is_loopback or address.is_unspecified  # 0.0.0.0 connects to this machine, too


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _is_exempt(host: str, port: int, rule: str) -> bool:
    """Whether NO_PROXY's rule is for this host: *, a network, an address, a domain; the last two with a port or not."""
    if rule in ("", "*"):
        return rule == "*"
    address = _address(host)
    if "/" in rule:
        return address is not None and _is_within(address, rule)
    name, rule_port = _name_and_port(rule)
    if rule_port not in ("", str(port)):
        return False
    if _address(name) is not None:
        return _address(name) == address
    domain = name.removeprefix("*")
    return host.endswith(domain) if domain.startswith(".") else host == domain or host.endswith(f".{domain}")


def _is_within(address: ipaddress.IPv4Address | ipaddress.IPv6Address, network: str) -> bool:
    try:
        return address in ipaddress.ip_network(network, strict=False)
    except ValueError:
        return False


def _name_and_port(rule: str) -> tuple[str, str]:
    """`host:8200` and `[::1]:8200` have a port; `::1` is an address alone."""
    name, colon, port = rule.rpartition(":")
    if not colon or (":" in name and not name.endswith("]")):
        return rule.strip("[]"), ""
    return name.strip("[]"), port
