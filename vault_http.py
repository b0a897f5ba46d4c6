"""One request to Vault, as hvac sends it: bounded in time and size, repeated a little, and told in our own errors.

`new_session` makes the HTTP session (H1, C2); `VaultAdapter` goes between hvac and that session and turns everything
that is no success into the errors of `vault_errors`. hvac's own exceptions carry response bodies; these do not (P1).
"""

from __future__ import annotations

import http.client
import io
import math
import random
import socket
import ssl
import time
from collections.abc import Sequence
from typing import Any, TypeVar
from urllib.parse import urlsplit

import requests
import urllib3
from hvac.adapters import RawAdapter
from requests.adapters import HTTPAdapter

from vault_errors import (
    PermissionDenied,
    RequestRejected,
    ResponseTooLarge,
    SecretDeleted,
    SecretNotFound,
    UnexpectedResponse,
    VaultError,
    VaultOverloaded,
    VaultSealed,
    VaultStandby,
    VaultTimeout,
    VaultUnavailable,
    VaultUnreachable,
)

RETRIES = 2
RETRY_PAUSE_SECONDS = (0.1, 0.5)
"""The shortest and the longest pause before a retry, so two of them stay within a second (C2, X1)."""
RETRY_STATUSES = (412, 429, 500, 502, 503, 504)
PAST_MAX_TTL = "past the max TTL"
"""Comes with status 500, and is Vault's answer all the same: this token is not renewed any more (T7)."""
CHUNK_BYTES = 65_536
ERROR_TEXT_LENGTH = 300
LARGEST_NUMBER = 10**10
"""In seconds, three centuries: what is above is no TTL, and would overflow."""

CAPABILITY_OF_METHOD = {"get": "read", "post": "update", "put": "update", "delete": "delete"}
"""Those that have another name than the method; `list` and OpenBao's `scan` are both."""
LISTING_METHODS = ("LIST", "SCAN")
UNAVAILABLE_STATUSES: dict[int, type[VaultUnavailable]] = {
    429: VaultOverloaded,
    472: VaultStandby,  # a disaster-recovery secondary
    473: VaultStandby,  # a performance standby that cannot reach the active node
    501: VaultSealed,  # not initialised
    503: VaultSealed,
}

T = TypeVar("T")


class BriefRetry(urllib3.Retry):
    """urllib3's Retry, kept short: whoever waits longer than a second does so where a shutdown can interrupt it."""

    def get_backoff_time(self) -> float:
        return random.uniform(*RETRY_PAUSE_SECONDS)

    def increment(self, *args: Any, **kwargs: Any) -> BriefRetry:
        response, error = kwargs.get("response"), kwargs.get("error")
        too_long = response is not None and retry_after_of(response.headers) > max(RETRY_PAUSE_SECONDS)
        # Not isinstance: a refused connection, which is tried again, is a subclass of this time-out, which is not.
        timed_out = type(error) is urllib3.exceptions.ConnectTimeoutError
        # A renewal that ends so is past max TTL, or tried again by the token watcher (T6, T7).
        failed_renewal = response is not None and response.status == 500 and args[1].endswith("/renew-self")
        if too_long or timed_out or failed_renewal:
            # No more tries. With raise_on_status=False a response is returned as it is.
            raise urllib3.exceptions.MaxRetryError(kwargs["_pool"], "", error)
        retry = super().increment(*args, **kwargs)
        if response is not None:
            response.close()  # or urllib3 would read the rest of it, however long, to use the connection again
        return retry


def brief_retry(times: int) -> BriefRetry:
    """A status of RETRY_STATUSES is retried for every method. So is a connection that cannot be made.

    A connection that breaks after the request was sent is not: the server may have issued a lease or used up a
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


def retry_after_of(headers: Any) -> float:
    """The seconds that a Retry-After header asks for; 0 without one, or with a date, which Vault never sends."""
    value = headers.get("Retry-After", "").strip()
    return float(value) if value.isdecimal() and len(value) < 6 else 0.0


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


class PunctualPool(urllib3.HTTPConnectionPool):
    ConnectionCls = PunctualConnection


class PunctualTLSPool(urllib3.HTTPSConnectionPool):
    ConnectionCls = PunctualTLSConnection


PUNCTUAL_POOLS = {"http": PunctualPool, "https": PunctualTLSPool}


class BoundedHTTPAdapter(HTTPAdapter):
    """Reads a response no further than `limit` bytes, and no longer than the timeout (H1).

    Retries bridge a moment. In an outage that they have not bridged, requests are tried once each, until one succeeds:
    the back-off of whoever asks is enough (C2).
    """

    def __init__(self, limit: int, listing_limit: int) -> None:
        super().__init__(max_retries=RETRIED)
        self._limit = limit
        self._listing_limit = listing_limit

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = PUNCTUAL_POOLS

    def proxy_manager_for(self, *args: Any, **kwargs: Any) -> urllib3.ProxyManager:
        manager: urllib3.ProxyManager = super().proxy_manager_for(*args, **kwargs)
        manager.pool_classes_by_scheme = PUNCTUAL_POOLS
        return manager

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
        kwargs["timeout"] = urllib3.Timeout(total=kwargs["timeout"])  # for connecting and waiting together
        kwargs["stream"] = True  # or requests would read the whole body, whatever its length
        bridged = False
        try:
            response = super().send(request, *args, **kwargs)
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

    def _read(self, raw: urllib3.HTTPResponse, *, a_listing: bool) -> bytes:
        limit = self._listing_limit if a_listing else self._limit
        body = bytearray()
        while chunk := raw.read1(min(CHUNK_BYTES, limit + 1 - len(body)), decode_content=True):
            body += chunk
            if len(body) > limit:
                raw.close()  # the connection cannot be used again: the rest is still on its way
                setting = "max_listing_size" if a_listing else "max_response_size"
                raise ResponseTooLarge(
                    f"the response is longer than {limit} bytes; if that is right, raise [http] {setting}"
                )
        raw.release_conn()
        return bytes(body)


def new_session(url: str, *, verify: str | bool, max_response_size: int, max_listing_size: int) -> requests.Session:
    """A session with Vault's limits and retries."""
    session = requests.Session()
    # Proxies and certificates that the environment names, looked up here: requests would search it for each request.
    environment = session.merge_environment_settings(url, {}, None, verify, None)
    session.trust_env = False
    session.proxies = environment["proxies"]
    session.verify = environment["verify"]  # given a session, hvac goes by this rather than by its own parameter
    # Only the scheme of the address itself: no redirect can lead the token from https to http.
    session.adapters.clear()
    session.mount(f"{urlsplit(url).scheme}://", BoundedHTTPAdapter(max_response_size, max_listing_size))
    return session


class VaultAdapter(RawAdapter):  # type: ignore[misc]  # hvac is not typed
    """hvac's adapter, with JSON objects for answers and the errors of this project for everything else."""

    def request(
        self, method: str, url: str, headers: Any = None, raise_exception: bool = True, **kwargs: Any
    ) -> dict[str, Any]:
        """Send one request; return the JSON object of the answer, {} if it is empty.

        Raises: an error of `vault_errors`. With `raise_exception=False` (hvac's health check) any status is an answer.
        """
        try:
            response = super().request(method, url, headers, raise_exception=False, **kwargs)
        except requests.RequestException as error:
            # Of its causes only what the operating system said: http.client's quote what they could not read (P1).
            cause = _root_cause(error)
            raise connection_error(error, self.base_uri) from (cause if isinstance(cause, OSError) else None)
        except ValueError:  # requests follows redirects, and lets this one pass
            raise UnexpectedResponse(f"{url.removeprefix('/v1/')} was answered with a redirect to no address") from None
        if raise_exception and not response.ok:
            raise status_error(response, method, url.removeprefix("/v1/"))
        return json_object(response, url.removeprefix("/v1/")) if response.content else {}


def json_object(response: requests.Response, path: str) -> dict[str, Any]:
    """The JSON object in a response. Raises: UnexpectedResponse, which tells the type and the length, not the text."""
    try:
        body = response.json()
    except (ValueError, RecursionError) as error:
        raise UnexpectedResponse(
            f"{path} was answered with status {response.status_code} and {len(response.content)} bytes that are not"
            f" JSON; is there a proxy or another web server at this address?"
        ) from error
    if not isinstance(body, dict):
        raise UnexpectedResponse(f"{path} was answered with JSON that is not an object")
    return body


def checked(body: dict[str, Any], key: str, kind: type[T]) -> T:
    """The value at `key`, which must be of this type. Raises: UnexpectedResponse, which names the key alone."""
    value = body.get(key)
    a_number = isinstance(value, int) and not isinstance(value, bool) and abs(value) <= LARGEST_NUMBER
    if not isinstance(value, kind) or (kind is int and not a_number):
        raise UnexpectedResponse(f'the answer holds no usable "{key}" ({kind.__name__} expected)')
    return value


def status_error(response: requests.Response, method: str, path: str) -> VaultError:
    """The error that a status other than success stands for."""
    status = response.status_code
    try:
        body = json_object(response, path)
    except UnexpectedResponse as unexpected:
        return _unavailable(response, path, []) if status in RETRY_STATUSES else unexpected
    errors = body.get("errors")
    texts = [text for text in errors if isinstance(text, str)] if isinstance(errors, list) else []
    if status == 404 and (isinstance(errors, list) or "data" in body):
        return _missing(body, path)
    if not isinstance(errors, list) and status < 500:
        return UnexpectedResponse(f"{path} was answered with status {status}, but not in the way that Vault does")
    if status == 403:
        capability = CAPABILITY_OF_METHOD.get(method.lower(), method.lower())
        return PermissionDenied(f'permission denied: no policy of this token grants "{capability}" on "{path}"')
    past_max_ttl = any(PAST_MAX_TTL in text for text in texts)
    if (status in UNAVAILABLE_STATUSES or status in RETRY_STATUSES or status >= 500) and not past_max_ttl:
        return _unavailable(response, path, texts)
    return RequestRejected(f"{path} was turned down with status {status}{_quoted(texts)}")


def _missing(body: dict[str, Any], path: str) -> SecretNotFound:
    """A 404: KV v2 sends the metadata of a version that was deleted or destroyed along with it (K3)."""
    data = body.get("data")
    metadata = data.get("metadata") if isinstance(data, dict) else None
    if isinstance(metadata, dict):
        what = "destroyed" if metadata.get("destroyed") is True else "deleted"
        return SecretDeleted(f"the current version of {path} was {what}")
    return SecretNotFound(f"there is nothing at {path}")


def _unavailable(response: requests.Response, path: str, texts: Sequence[str]) -> VaultUnavailable:
    status = response.status_code
    kind = UNAVAILABLE_STATUSES.get(status, VaultUnavailable)
    if status >= 500 and any("standby" in text or "not active" in text for text in texts):
        kind = VaultStandby  # 500: "local node not active but active cluster node not found"
    elif status == 503 and not any("sealed" in text for text in texts):
        kind = VaultUnavailable  # a load balancer without a healthy node answers 503 too
    error = kind(f"{path} was answered with status {status}{_quoted(texts)}")
    error.retry_after = retry_after_of(response.headers)
    return error


def _quoted(texts: Sequence[str]) -> str:
    """Vault's own error messages, on one line and of bounded length."""
    text = " ".join(" ".join(texts).split())[:ERROR_TEXT_LENGTH]
    return f": {printable(text)}" if text else ""


def printable(text: str) -> str:
    """`text` without characters that could steer a terminal."""
    return "".join(character if character.isprintable() else "?" for character in text)


def connection_error(error: requests.RequestException, url: str) -> VaultUnavailable:
    """The error for a request that got no answer."""
    if isinstance(error, requests.Timeout):
        return VaultTimeout(f"Vault at {url} did not answer in time")
    cause = _root_cause(error)
    if isinstance(cause, ssl.SSLCertVerificationError):
        hint = "[vault] ca_file names the CA to trust"
        return VaultUnreachable(f"no trusted TLS connection to {url}: {_what_it_says(cause)}; {hint}")
    if isinstance(cause, ssl.SSLError):
        return VaultUnreachable(f"no TLS connection to {url}: {_what_it_says(cause)}; is it an http:// address?")
    return VaultUnreachable(f"cannot reach Vault at {url}: {_what_it_says(cause)}")


def _root_cause(error: BaseException) -> BaseException:
    """What the operating system raised, behind the libraries that wrapped it; what the caller handles lies beyond."""
    while isinstance(error, requests.RequestException) or not isinstance(error, OSError):
        inner = error.__cause__ or error.__context__
        if inner is None:
            break
        error = inner
    return error


def _what_it_says(error: BaseException) -> str:
    if not isinstance(error, OSError):
        return type(error).__name__
    said = getattr(error, "verify_message", None) or error.strerror or next(iter(error.args), "no reason given")
    return printable(str(said))
