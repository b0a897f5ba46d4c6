"""The errors for a request that got no answer of Vault's: which hop failed, what it said, what to do (E1).

Texts of requests, urllib3 and http.client may quote a header, and so a token: only what the operating system, OpenSSL
and a proxy say is passed on (P1).
"""

from __future__ import annotations

import http.client
import ssl
from urllib.parse import urljoin, urlsplit

import requests

from ..errors import UnexpectedResponse, VaultTimeout, VaultUnavailable, VaultUnreachable
from .answers import printable
from .proxies import Proxy

HOSTNAME_MISMATCH, IP_MISMATCH, EXPIRED = 62, 64, 10
"""OpenSSL's numbers for what is wrong with a certificate."""
CERTIFICATE_ALERTS = ("CERTIFICATE", "UNKNOWN_CA", "HANDSHAKE_FAILURE", "ACCESS_DENIED")
"""What a server says that wants a client certificate, or another one."""
HUNG_UP = (ssl.SSLEOFError, ConnectionResetError, BrokenPipeError)
"""What comes of it that a server closes the connection in the middle of a request that it does not want to read."""
KEEP_METHOD = (307, 308)
PROXY_WANTS_PASSWORD = 407


# ── No connection ────────────────────────────────────────────────────────────────────────────────────────────────────


def connection_error(error: Exception, url: str) -> VaultUnavailable:
    """The error for a request that got no answer."""
    if isinstance(error, requests.Timeout):
        return VaultTimeout(f"Vault at {url} did not answer in time")
    cause = root_cause(error)
    said = _what_it_says(cause)
    if isinstance(cause, ssl.SSLCertVerificationError):
        return VaultUnreachable(f"no trusted TLS connection to {url}: {said}; {_hint_on_certificate(cause)}")
    if isinstance(cause, HUNG_UP) and not isinstance(cause, http.client.RemoteDisconnected):
        return VaultUnreachable(f"the server at {url} hung up: {said}; {_hint_on_hanging_up(url)}")
    if isinstance(cause, ssl.SSLError):
        return VaultUnreachable(f"no TLS connection to {url}: {said}; {_hint_on_handshake(cause)}")
    return VaultUnreachable(f"cannot reach Vault at {url}: {said}")


def os_cause(error: BaseException) -> BaseException | None:
    """What may stand as the cause of an error of ours: what the operating system or OpenSSL raised, or nothing (P1)."""
    cause = root_cause(error)
    is_said = isinstance(cause, OSError) and not isinstance(cause, requests.RequestException)
    return cause.with_traceback(None) if is_said else None  # its frames hold headers and bodies


def root_cause(error: BaseException) -> BaseException:
    """What the operating system raised, behind the libraries that wrapped it; what the caller handles lies beyond."""
    while isinstance(error, requests.RequestException) or not isinstance(error, OSError):
        inner = error.__cause__ or error.__context__ or _wrapped(error)
        if inner is None:
            break
        error = inner
    return error


def _wrapped(error: BaseException) -> BaseException | None:
    """urllib3 hands some errors on as an argument alone."""
    return next((inner for inner in error.args if isinstance(inner, BaseException)), None)


def _what_it_says(error: BaseException) -> str:
    if isinstance(error, requests.TooManyRedirects):
        return "redirected again and again"
    if not isinstance(error, OSError) or isinstance(error, requests.RequestException):
        return type(error).__name__
    said = getattr(error, "verify_message", None) or error.strerror or next(iter(error.args), "no reason given")
    return printable(str(said))


def _hint_on_certificate(error: ssl.SSLCertVerificationError) -> str:
    if error.verify_code in (HOSTNAME_MISMATCH, IP_MISMATCH):
        return "[vault] tls_server_name is the name to expect, if it is not that of the address"
    if error.verify_code == EXPIRED:
        return "the server needs a new one, or this machine the right time"
    return "[vault] ca_file names the CA to trust"


def _hint_on_hanging_up(url: str) -> str:
    if url.lower().startswith("https:"):
        return "does it want a client certificate ([vault] client_cert)?"
    return "does it speak TLS? [vault] url begins with https:// then"


def _hint_on_handshake(error: ssl.SSLError) -> str:
    reason = error.reason or ""
    if "CERTIFICATE_REQUIRED" in reason:
        return "the server wants a client certificate: [vault] client_cert names it"
    if "ALERT" in reason and any(alert in reason for alert in CERTIFICATE_ALERTS):
        return "that is the server's answer; does it want a client certificate, or another ([vault] client_cert)?"
    return "is it an http:// address?"


# ── A proxy ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def proxy_error(error: OSError, proxy: Proxy, url: str) -> VaultUnavailable:
    """The proxy could not be reached, or let nothing through."""
    if isinstance(error, requests.Timeout):
        return VaultTimeout(f"Vault at {address_of(url)} did not answer in time through the proxy {proxy}")
    said = _what_it_says(root_cause(error))
    return _of_proxy(said, proxy, url, str(PROXY_WANTS_PASSWORD) in said)


def proxy_refusal(proxy: Proxy, url: str) -> VaultUnreachable:
    """The proxy wants to know who we are."""
    return _of_proxy("status 407, Proxy Authentication Required", proxy, url, wants_password=True)


def _of_proxy(said: str, proxy: Proxy, url: str, wants_password: bool) -> VaultUnreachable:
    remedy = "write it as http://user:password@host:port there" if wants_password else proxy.remedy
    return VaultUnreachable(f"cannot reach Vault at {address_of(url)}: the proxy {proxy}: {said}; {remedy}")


# ── A redirect ───────────────────────────────────────────────────────────────────────────────────────────────────────


def check_redirect(response: requests.Response, location: str) -> None:
    """A standby's redirect repeats the request elsewhere; any other is no answer. Raises: UnexpectedResponse."""
    asked, method = str(response.url), str(response.request.method)
    path = urlsplit(asked).path.rpartition("/v1/")[2]
    try:
        target = urljoin(asked, location)
        scheme, where = urlsplit(target).scheme, address_of(target)
    except ValueError:
        raise UnexpectedResponse(f"{path} was answered with a redirect to no address") from None
    if scheme != urlsplit(asked).scheme:
        warning = "; that is not encrypted, so nothing was sent there" if scheme == "http" else ""
        raise UnexpectedResponse(f"{address_of(asked)} redirects to {where}; set [vault] url to that{warning}")
    if response.status_code not in KEEP_METHOD and method not in ("GET", "HEAD"):
        raise UnexpectedResponse(
            f"{path} was answered with status {response.status_code}, a redirect to {where} that would make a GET of"
            f" {method}; set [vault] url to where Vault itself answers"
        )


def address_of(url: str) -> str:
    """What [vault] url would be for this address: without user, query and API path. Raises: ValueError."""
    parts = urlsplit(url)
    parts.port  # noqa: B018  # a port that is none raises here
    path = parts.path.partition("/v1/")[0].rstrip("/")
    return printable(f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{path}")
