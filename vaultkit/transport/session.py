"""The HTTP session: each request is bounded in time and size, and repeated a little (H1, C2).

How it leaves is decided here alone: through which proxy, with whose certificates. hvac and requests would look for that
in the environment, too.
"""

from __future__ import annotations

import http.client
import io
import logging
import math
import os
import random
import socket
import time
from typing import Any
from urllib.parse import urlsplit

import requests
import urllib3
from requests.adapters import HTTPAdapter

from ..errors import ResponseTooLarge, VaultUnavailable, VaultUnreachable
from .answers import RETRY_STATUSES, lease_id_in, retry_after_of
from .connection import ConnectionSettings, HttpSettings
from .connection_errors import check_redirect, os_cause, proxy_error, proxy_refusal
from .limits import limit_of
from .proxies import Proxies, Proxy
from .tls_files import TlsFiles, trusted_cas

RETRIES = 2
RETRY_PAUSE_SECONDS = (0.1, 0.5)
"""The shortest and the longest pause before a retry, so two of them stay within a second (C2, X1)."""
CHUNK_BYTES = 65_536
LISTING_METHODS = ("LIST", "SCAN")


log = logging.getLogger(__name__)


def new_session(vault: ConnectionSettings, bounds: HttpSettings) -> requests.Session:
    """A session with Vault's limits and retries. Raises: ConfigurationError, if the environment names no usable proxy.

    What the environment of the process says of proxies and CAs is looked up here, once: requests would do so for each
    request.
    """
    session = VaultSession()
    session.trust_env = False
    scheme = urlsplit(vault.url).scheme
    ca_file, named_by = trusted_cas(vault.ca_file, os.environ) if vault.tls_verify else ("", "")
    files = TlsFiles(ca_file, named_by, vault.client_cert, vault.client_key)
    proxies = Proxies(vault.proxy_addr, os.environ)
    # Only the scheme of the address itself: no redirect can lead the token from https to http.
    session.adapters.clear()
    session.mount(f"{scheme}://", BoundedHTTPAdapter(vault, bounds, proxies, files))
    if scheme == "https" and not vault.tls_verify:
        log.warning("the certificate of %s is not checked, so anybody may answer in its place (tls_verify)", vault.url)
    return session


class VaultSession(requests.Session):
    """A session that follows the redirect of a standby, and no other."""

    def get_redirect_target(self, response: requests.Response) -> str | None:
        target = super().get_redirect_target(response)
        if target is not None:
            check_redirect(response, target)
        return target


class BoundedHTTPAdapter(HTTPAdapter):
    """Sends a request to where the settings say, and reads its response within their bounds (H1).

    Which proxy, which CA, which certificate: hvac and requests look for these in the environment, too. They are decided
    here alone. The response is read no further than the limit, and no longer than the timeout.

    Retries bridge a moment. In an outage that they have not bridged, requests are tried once each, until one succeeds:
    the back-off of whoever asks is enough (C2).
    """

    def __init__(self, vault: ConnectionSettings, bounds: HttpSettings, proxies: Proxies, files: TlsFiles) -> None:
        self._for_pools: dict[str, Any] = {}
        if vault.tls_server_name and urlsplit(vault.url).scheme == "https":
            self._for_pools["server_hostname"] = vault.tls_server_name
        super().__init__(max_retries=RETRIED)
        self._bounds = bounds
        self._proxies = proxies
        self._files = files
        self._verify: str | bool = vault.tls_verify and (files.ca_file or True)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **{**kwargs, **self._for_pools})
        self.poolmanager.pool_classes_by_scheme = PUNCTUAL_POOLS

    def proxy_manager_for(self, *args: Any, **kwargs: Any) -> urllib3.ProxyManager:
        manager: urllib3.ProxyManager = super().proxy_manager_for(*args, **{**kwargs, **self._for_pools})
        manager.pool_classes_by_scheme = PUNCTUAL_POOLS
        return manager

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
        kwargs["timeout"] = urllib3.Timeout(total=kwargs["timeout"])  # for connecting and waiting together
        kwargs["stream"] = True  # or requests would read the whole body, whatever its length
        kwargs["verify"], kwargs["cert"] = self._verify, self._files.certificate
        bridged = False
        try:
            response = self._send_through_proxy(request, *args, **kwargs)
            bridged = response.status_code not in RETRY_STATUSES
        finally:
            self.max_retries = RETRIED if bridged else TRIED_ONCE
        try:
            body = self._read(response.raw, a_listing=request.method in LISTING_METHODS)
        except urllib3.exceptions.ReadTimeoutError as error:
            raise requests.ReadTimeout(error, request=request) from error
        except urllib3.exceptions.HTTPError as error:
            raise requests.ConnectionError(error, request=request) from error
        response.raw = io.BytesIO(body)
        return response

    def proxy_of(self, url: str) -> Proxy | None:
        """The proxy through which a request to this address goes."""
        return self._proxies.of(url)

    def _send_through_proxy(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
        """Send it, if need be through a proxy. Raises: VaultUnavailable, if it is known what is in the way."""
        url = str(request.url)
        proxy = self.proxy_of(url)
        kwargs["proxies"] = {urlsplit(url).scheme: proxy.url} if proxy else {}
        try:
            response = super().send(request, *args, **kwargs)
        except OSError as error:
            known = self._known_trouble(error, proxy, url)
            if known is None:
                raise
            raise known from os_cause(error)
        if proxy and response.status_code == 407:
            response.close()
            raise proxy_refusal(proxy, url)
        return response

    def _known_trouble(self, error: OSError, proxy: Proxy | None, url: str) -> VaultUnavailable | None:
        """The error for what was found to be in the way: the proxy, or a file of TLS."""
        if proxy and isinstance(error, (requests.exceptions.ProxyError, requests.Timeout)):
            return proxy_error(error, proxy, url)
        if isinstance(error, requests.Timeout) or not url.startswith("https:"):
            return None
        problems = self._files.problems()
        return VaultUnreachable("; ".join(problems)) if problems else None

    def _read(self, raw: urllib3.HTTPResponse, *, a_listing: bool) -> bytes:
        limit, setting = limit_of(self._bounds, a_listing=a_listing)
        body = bytearray()
        while chunk := raw.read1(min(CHUNK_BYTES, limit + 1 - len(body)), decode_content=True):
            body += chunk
            if len(body) > limit:
                raw.close()  # the connection cannot be used again: the rest is still on its way
                error = ResponseTooLarge(
                    f"the response is longer than {limit} bytes; if that is right, raise {setting}"
                )
                error.lease_id = lease_id_in(body)
                raise error
        raw.release_conn()
        return bytes(body)


# ── A few, short retries ─────────────────────────────────────────────────────────────────────────────────────────────


class BriefRetry(urllib3.Retry):
    """urllib3's Retry, kept short: whoever waits longer than a second does so where a shutdown can interrupt it."""

    def get_backoff_time(self) -> float:
        return random.uniform(*RETRY_PAUSE_SECONDS)

    def increment(self, *args: Any, **kwargs: Any) -> BriefRetry:
        response, error = kwargs.get("response"), kwargs.get("error")
        too_long = response is not None and retry_after_of(response.headers) > max(RETRY_PAUSE_SECONDS)
        reason = error.original_error if isinstance(error, urllib3.exceptions.ProxyError) else error
        # Not isinstance: a refused connection, which is tried again, is a subclass of this time-out, which is not.
        timed_out = type(reason) is urllib3.exceptions.ConnectTimeoutError
        # A renewal that ends so is past max TTL, or tried again by the token watcher (T6, T7).
        failed_renewal = response is not None and response.status == 500 and args[1].endswith("/renew-self")
        acted = response is not None and may_have_acted(args[0], args[1], response.status)
        if too_long or timed_out or failed_renewal or acted:
            # No more tries. With raise_on_status=False a response is returned as it is.
            raise urllib3.exceptions.MaxRetryError(kwargs["_pool"], "", error)
        retry = super().increment(*args, **kwargs)
        if response is not None:
            response.close()  # or urllib3 would read the rest of it, however long, to use the connection again
        return retry


def may_have_acted(method: str, url: str, status: int) -> bool:
    """Whether what was to be changed may be changed by now: a secret written, a token or a certificate issued.

    Not so with 412, 429 and 503, by which Vault says that it has not begun; and a second login or renewal does no harm.
    """
    is_harmless = method in ("GET", "HEAD", "LIST", "SCAN") or url.endswith(("/login", "/renew-self"))
    return not is_harmless and status in (500, 502, 504)


def brief_retry(times: int) -> BriefRetry:
    """A status of RETRY_STATUSES is retried, if nothing can have come of it; and a connection that cannot be made.

    One that breaks after the request was sent is not: the server may have issued a lease or used up a
    secret_id by then.
    """
    return BriefRetry(
        total=times,
        read=False,
        status_forcelist=RETRY_STATUSES,
        allowed_methods=None,
        raise_on_status=False,
        respect_retry_after_header=False,  # `increment` sees to it
    )


RETRIED, TRIED_ONCE = brief_retry(RETRIES), brief_retry(0)


# ── Sockets with a deadline ──────────────────────────────────────────────────────────────────────────────────────────


class DeadlineReader(io.RawIOBase):
    """Reads from a socket; its timeout is for the whole response, not for each piece of it (H1).

    Or a server that sends a byte a second, be it of a header, could hold a thread for hours.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._file = sock.makefile("rb", buffering=0)  # keeps the socket open until it is closed itself
        self._deadline = time.monotonic() + (sock.gettimeout() or math.inf)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("the response trickles in")
        if math.isfinite(left):
            self._socket.settimeout(left)
        return self._file.readinto(buffer)

    def close(self) -> None:
        self._file.close()
        super().close()


class PunctualResponse(http.client.HTTPResponse):
    """http.client's response, reading against the deadline; what follows brings it to where urllib3 makes one."""

    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        self.fp.close()
        self.fp = io.BufferedReader(DeadlineReader(sock))


class PunctualConnection(urllib3.connection.HTTPConnection):
    response_class = PunctualResponse


class PunctualTLSConnection(urllib3.connection.HTTPSConnection):
    response_class = PunctualResponse

    def connect(self) -> None:
        super().connect()
        self.is_verified = True  # or urllib3 warns at each request, where `new_session` has said it once


class PunctualPool(urllib3.HTTPConnectionPool):
    ConnectionCls = PunctualConnection


class PunctualTLSPool(urllib3.HTTPSConnectionPool):
    ConnectionCls = PunctualTLSConnection


PUNCTUAL_POOLS = {"http": PunctualPool, "https": PunctualTLSPool}
