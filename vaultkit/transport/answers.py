"""What stands in an answer of Vault's, and how its words are passed on: on one line, bounded, harmless to a screen."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from ..errors import UnexpectedResponse
from ..lifetime import Moment

if TYPE_CHECKING:
    import hvac
    import requests

RETRY_STATUSES = (412, 429, 500, 502, 503, 504)
LARGEST_NUMBER = 10**10
"""In seconds, three centuries: what is above is no TTL, and would overflow."""
ERROR_TEXT_LENGTH = 300
LEASE_ID = re.compile(rb'"lease_id": ?"([\w./-]+)"')
TLS_WANTED = (b"to an HTTPS server", b"to HTTPS port")
"""What servers in Go, and nginx, say to plain HTTP where they speak TLS."""
T = TypeVar("T")


@dataclass(frozen=True, repr=False)
class Answer:
    """What Vault said, when it was asked, and the token generation that asked (T8)."""

    body: dict[str, Any]
    asked: Moment
    token_generation: int


class Ask(Protocol):
    """Makes a request with a valid token; what the engines are given."""

    def __call__(self, request: Callable[[hvac.Client], Any], *, for_lease_of: float = 0.0) -> Answer: ...


def expect(body: dict[str, Any], key: str, kind: type[T]) -> T:
    """The value at `key`, which must be of this type. Raises: UnexpectedResponse, which names the key alone."""
    value = body.get(key)
    a_number = isinstance(value, int) and not isinstance(value, bool) and abs(value) <= LARGEST_NUMBER
    if not isinstance(value, kind) or (kind is int and not a_number):
        raise UnexpectedResponse(f'the answer holds no usable "{key}" ({kind.__name__} expected)')
    return value


def json_object(response: requests.Response, path: str) -> dict[str, Any]:
    """The JSON object in a response. Raises: UnexpectedResponse, which tells the type and the length, not the text."""
    try:
        body = response.json()
    except (ValueError, RecursionError):
        unexpected = UnexpectedResponse(
            f"{path} was answered with status {response.status_code} and {len(response.content)} bytes that are not"
            f" JSON; {_whose_answer(response)}"
        )
        unexpected.lease_id = lease_id_in(response.content)  # of an answer that was cut off
        raise unexpected from None  # the cause would hold the text (P1)
    if not isinstance(body, dict):
        raise UnexpectedResponse(f"{path} was answered with JSON that is not an object")
    return body


def _whose_answer(response: requests.Response) -> str:
    """Who may have sent what Vault never sends."""
    url = str(response.url)
    if any(said in response.content for said in TLS_WANTED):
        return "the server speaks TLS: [vault] url begins with https:// then"
    proxy_of = getattr(getattr(response, "connection", None), "proxy_of", None)  # of our session; tests have others
    proxy = proxy_of(url) if proxy_of else None
    if proxy:
        return f"is that the answer of the proxy {proxy}? {proxy.remedy} if Vault is reached without"
    return "is there a proxy or another web server at this address?"


def lease_id_in(body: bytes | bytearray) -> str:
    """The lease of an answer of which only the beginning was read, where Vault puts it; "" if there is none."""
    found = LEASE_ID.search(body)
    return found[1].decode() if found else ""


def retry_after_of(headers: Any) -> float:
    """The seconds that a Retry-After header asks for; 0 without one, or with a date, which Vault never sends."""
    value = headers.get("Retry-After", "").strip()
    return float(value) if value.isdecimal() and len(value) < 6 else 0.0


def warnings_of(body: dict[str, Any]) -> str:
    """What Vault says beside an answer, to be put behind a message (E1)."""
    warnings = body.get("warnings")
    words = in_words([each for each in warnings if isinstance(each, str)]) if isinstance(warnings, list) else ""
    return f" (Vault adds: {words})" if words else ""


def quoted(texts: Sequence[str]) -> str:
    words = in_words(texts)
    return f": {words}" if words else ""


def in_words(texts: Sequence[str]) -> str:
    """Vault's own messages, on one line and of bounded length."""
    text = " ".join(" ".join(texts).split()).removeprefix("1 error occurred: * ")
    return printable(text[:ERROR_TEXT_LENGTH])


def printable(text: str) -> str:
    """`text` without characters that could steer a terminal."""
    return "".join(character if character.isprintable() else "?" for character in text)
