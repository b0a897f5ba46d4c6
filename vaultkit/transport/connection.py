"""What can be set of a connection: where the server is, whom to trust, and the bounds of a request."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from ..errors import ConfigurationError
from ..settings import HOST, a_boolean, a_number, an_address, its_opposite, setting
from .proxies import a_proxy, proxies_of_process
from .tls_files import a_certificate_file, a_file, pair_problem


def a_namespace(value: str) -> str:
    """It is sent as an HTTP header."""
    if not (value.isascii() and value.isprintable()) or " " in value:
        raise ValueError("a path such as team/shop, in ASCII and without spaces")
    return value


def a_host_name(value: str) -> str:
    if value and (not HOST.fullmatch(value) or value.startswith(".") or ".." in value):
        raise ValueError("the name of a host, such as vault.example.com")
    return value


@dataclass(frozen=True, kw_only=True)
class ConnectionSettings:
    """Of [vault]: where the server is, and how to get there."""

    url: str = setting(an_address, "http://127.0.0.1:8200", also={"VAULT_ADDR": an_address})
    namespace: str = setting(a_namespace, "")
    ca_file: str = setting(a_certificate_file, "", also={"VAULT_CACERT": a_certificate_file})
    client_cert: str = setting(a_certificate_file, "")
    client_key: str = setting(a_file, "")
    tls_server_name: str = setting(a_host_name, "")
    tls_verify: bool = setting(a_boolean, True, also={"VAULT_SKIP_VERIFY": its_opposite})
    proxy_addr: str = setting(a_proxy, "", also={"VAULT_HTTP_PROXY": a_proxy}, secret=True)

    @property
    def where(self) -> str:
        """What to call the server in a message."""
        return f'{self.url} in the namespace "{self.namespace}"' if self.namespace else self.url


def connection_of(vault: ConnectionSettings) -> ConnectionSettings:
    """These settings and nothing else of [vault]: its secret_id is to be gone when the client is closed (P1)."""
    return ConnectionSettings(**{each.name: getattr(vault, each.name) for each in fields(ConnectionSettings)})


@dataclass(frozen=True, kw_only=True)
class HttpSettings:
    """[http]: the bounds of one request: seconds and bytes."""

    timeout: float = setting(a_number(0.1, 3600), 30.0)
    max_response_size: int = setting(a_number(256, 2**30, int), 4096)
    max_listing_size: int = setting(a_number(256, 2**30, int), 16_777_216)


def connection_problems(values: Mapping[str, Any], environ: Mapping[str, str]) -> list[str]:
    """What is wrong with settings that are right each by itself, and with what the environment says beside them."""
    problems = []
    if problem := pair_problem(values.get("client_cert", ""), values.get("client_key", "")):
        problems.append(problem)
    trusts_others = values.get("ca_file") or not values.get("tls_verify", True)
    for name in ("VAULT_CAPATH", "BAO_CAPATH"):
        if environ.get(name) and not trusts_others and values.get("url", "").lower().startswith("https:"):
            problems.append(f"{name}: a directory of CAs, expected one file that holds them: VAULT_CACERT, or ca_file")
    if not values.get("proxy_addr"):
        try:
            proxies_of_process(environ)
        except ConfigurationError as error:
            problems.extend(error.problems)
    return problems
