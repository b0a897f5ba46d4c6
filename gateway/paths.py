"""One spelling for each path: by it a right is decided, a value is kept, a line is logged, and Vault is asked.

    canonical(b"team/caf%C3%A9")  →  "team/café"

What has a second spelling is refused, not repaired: between two programs that repair differently lies the way into
another tenant's secrets. Servers of Python hand on `..`, `//` and `%2f` as they come; hvac and Vault collapse them.
"""

from __future__ import annotations

import re
import unicodedata

MOST_BYTES = 512
MOST_SEGMENTS = 16
MOST_CHARACTERS = 128
"""Of one segment."""
ESCAPE = re.compile(rb"%[0-9A-Fa-f]{2}")
HIDDEN_SEPARATORS = (b"%2f", b"%5c", b"%00")
FORBIDDEN = frozenset("\\;?#*+{}%")
"""Characters with a meaning to somebody on the way: URLs, Vault's policies, templates. A % would be a second escape."""


class PathRefused(ValueError):
    """The path is none, or has a second spelling; the text says which rule it breaks, and quotes none of it."""


def canonical(raw: bytes) -> str:
    """The path of a secret, from what stands percent-encoded in the URL behind the route. Raises: PathRefused."""
    if not raw:
        raise PathRefused("the path of a secret is required")
    return checked(_decoded(raw))


def canonical_prefix(raw: bytes) -> str:
    """The path below which to list; nothing is the tenant's root, and one slash may end it. Raises: PathRefused."""
    return canonical(raw[:-1] if raw.endswith(b"/") else raw) if raw else ""


def checked(path: str) -> str:
    """The path itself, if it is a canonical one. Raises: PathRefused."""
    if len(path.encode("utf-8", "surrogatepass")) > MOST_BYTES:  # a lone surrogate is none of the printable ones, below
        raise PathRefused(f"a path has at most {MOST_BYTES} bytes")
    # Vault tells full-width dots from dots; but who knows what does not.
    if unicodedata.normalize("NFKC", path) != path:
        raise PathRefused("characters must be in Unicode's normal form KC: composed, and no compatibility forms")
    if not path.isprintable():  # control, format, private and unassigned characters; of the spaces only the usual one
        raise PathRefused("control characters, invisible ones and unusual spaces are not allowed")
    if not FORBIDDEN.isdisjoint(path):
        raise PathRefused("none of the characters \\ ; ? # * + { } % is allowed")
    segments = path.split("/")
    if len(segments) > MOST_SEGMENTS:
        raise PathRefused(f"a path has at most {MOST_SEGMENTS} segments")
    for segment in segments:
        _check_segment(segment)
    return path


def _decoded(raw: bytes) -> str:
    """Percent-encoding undone, once and strictly: what is no UTF-8 would become the same U+FFFD in many paths."""
    if len(raw) > 3 * MOST_BYTES:
        raise PathRefused(f"a path has at most {MOST_BYTES} bytes")
    if any(separator in raw.lower() for separator in HIDDEN_SEPARATORS):
        raise PathRefused("no slash, backslash or NUL may be percent-encoded")
    if any(byte <= 0x20 or byte >= 0x7F for byte in raw):
        raise PathRefused("spaces, control characters and what is not ASCII must be percent-encoded")
    if b"%" in ESCAPE.sub(b"", raw):
        raise PathRefused("a percent sign must be followed by two hexadecimal digits")
    try:
        return ESCAPE.sub(lambda found: bytes([int(found[0][1:], 16)]), raw).decode("utf-8")
    except UnicodeDecodeError:
        pass  # and raised out here: the error holds the bytes
    raise PathRefused("percent-encoded characters must be UTF-8")


def _check_segment(segment: str) -> None:
    if not segment:
        raise PathRefused("no slash may begin or end a path, or follow another")
    if segment in (".", ".."):
        raise PathRefused('no segment may be "." or ".."')
    if len(segment) > MOST_CHARACTERS:
        raise PathRefused(f"a segment has at most {MOST_CHARACTERS} characters")
    if segment != segment.strip(" "):
        raise PathRefused("no segment may begin or end with a space")
