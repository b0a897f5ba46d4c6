"""What is asked of KV v2: each function is one or two requests with an hvac client, made in a thread.

No request is repeated here, least of all a write that may have arrived (C2). The errors are the kit's, and two more.
https://developer.hashicorp.com/vault/api-docs/secret/kv/kv-v2
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import hvac

from vaultkit.engines.kv import Version, current_version, values_of
from vaultkit.errors import (
    PermissionDenied,
    RequestRejected,
    ResponseTooLarge,
    SecretDeleted,
    SecretNotFound,
    UnexpectedResponse,
)
from vaultkit.frozen import frozen
from vaultkit.lifetime import Clock
from vaultkit.transport.answers import expect
from vaultkit.transport.limits import answers_up_to

from .asking import watched
from .places import Place

LARGEST_ANSWER_BYTES = 2_097_152
"""Twice what Vault's storage takes by default (max_entry_size), since JSON may escape every other character."""
MISMATCH = "check-and-set parameter did not match"
REQUIRED = "check-and-set parameter required"
"""Vault's words, both with status 400."""
OPERATIONS = {
    ("get", "data"): "read",
    ("get", "metadata"): "metadata",
    ("list", "metadata"): "list",
    ("post", "data"): "write",
    ("delete", "data"): "delete",
    ("post", "delete"): "delete",
}
"""What each request is for, as metrics call it."""


ANY = "*"
"""The ETag of whatever there is."""


class VersionConflict(RequestRejected):
    """The current version is not the one that was to be replaced; nothing was written."""


class PreconditionNeeded(RequestRejected):
    """This mount or secret takes writes with check-and-set alone; nothing was written."""


def etag_of(version: int, created: str) -> str:
    """What tells this version from all others, as HTTP's ETag: a secret that was made anew is version 1 again (K1).

    Never of the value, which could be guessed from it.
    """
    return f'"{version}-{hashlib.sha256(created.encode()).hexdigest()[:12]}"'


@dataclass(frozen=True, slots=True)
class Found:
    """A version of a secret, as it was read."""

    data: Mapping[str, Any] = field(repr=False)
    """Read-only at every depth: all who read it share it."""
    version: int
    created: str
    by_version: bool = True
    """Whether its version may be asked for alone, as far as is known (K2)."""


class Written(NamedTuple):
    """The version that a write has made."""

    version: int
    created: str

    @property
    def etag(self) -> str:
        return etag_of(self.version, self.created)


class VersionInfo(NamedTuple):
    """What is known of one version, without its values."""

    version: int
    created: str
    """As Vault gives it, such as 2026-11-23T19:12:51.156781979Z."""
    deleted: str
    """When it was deleted, or is to be; empty: it is not."""
    destroyed: bool


class Facts(NamedTuple):
    """What the metadata of a secret say."""

    last: int
    """The number of its last version, whatever became of that; 0 if there never was one."""
    current: Version | None
    """What a read gives; None if that was deleted or destroyed."""
    versions: list[VersionInfo]


class Page(NamedTuple):
    """Some of the names below a prefix, in order; those that end with a slash have others below them."""

    names: list[str]
    next: str
    """What to give as `after` for the names that follow; empty: there are none."""


# ── Reading ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def read(api: hvac.Client, place: Place, version: int | None = None) -> Found:
    """The values of the current version, or of another. Raises: SecretDeleted, SecretNotFound, PermissionDenied, …"""
    params = {} if version is None else {"version": version}
    try:
        body = expect(_request(api, "get", place, "data", params=params), "data", dict)
        metadata = expect(body, "metadata", dict)
        found = frozen(values_of(body))
    except SecretDeleted:
        which = "the current version" if version is None else f"version {version}"
        raise SecretDeleted(f"{which} of {place} was deleted or destroyed") from None
    except RecursionError:
        raise UnexpectedResponse(f"{place} is nested too deeply") from None
    return Found(found, expect(metadata, "version", int), expect(metadata, "created_time", str))


def refreshed(api: hvac.Client, place: Place, known: Found | None, clock: Clock) -> Found:
    """`known` itself if it still is the current version, else what was read anew (K1). Raises: as `read`."""
    if known is None:
        return read(api, place)
    if known.by_version:
        try:
            current = facts(api, place, clock).current
        except (PermissionDenied, ResponseTooLarge):  # K2; too large: with dozens of versions kept
            pass
        else:
            return known if current == Version(known.version, known.created) else read(api, place)
    return replace(read(api, place), by_version=False)


def facts(api: hvac.Client, place: Place, clock: Clock) -> Facts:
    """The metadata of a secret. Raises: SecretNotFound, if it never was or was deleted with all its versions."""
    body = expect(_request(api, "get", place, "metadata"), "data", dict)
    found = expect(body, "versions", dict)
    versions = [_version_info(number, found[number]) for number in sorted(found, key=_number)]
    return Facts(expect(body, "current_version", int), current_version(body, clock.time()), versions)


def _number(text: str) -> int:
    if not (text.isascii() and text.isdecimal()):
        raise UnexpectedResponse("the metadata hold a version that is no number")
    return int(text)


def _version_info(number: str, about: Any) -> VersionInfo:
    if not isinstance(about, dict):
        raise UnexpectedResponse("the metadata say nothing of a version")
    deleted, destroyed = expect(about, "deletion_time", str), expect(about, "destroyed", bool)
    return VersionInfo(_number(number), expect(about, "created_time", str), deleted, destroyed)


def names_below(api: hvac.Client, place: Place, after: str, limit: int) -> Page:
    """So many names below a prefix that come after this one. A prefix with nothing below it is an empty page."""
    try:
        answer = _request(api, "list", place, "metadata", params={"after": after, "limit": limit + 1})
    except SecretNotFound:
        return Page([], "")
    # OpenBao gives the page; Vault knows no pages, and gives all that there is.
    names = sorted(str(name) for name in expect(expect(answer, "data", dict), "keys", list))
    page = [name for name in names if name > after][: limit + 1]
    return Page(page[:limit], page[limit - 1] if len(page) > limit else "")


# ── Writing ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def write(api: hvac.Client, place: Place, data: Mapping[str, Any], cas: int | None = None) -> Written:
    """A new version; with `cas`, only if that is the number of the last one, or 0 and there is none.

    Raises: VersionConflict, PreconditionNeeded, PermissionDenied, …; after NoAnswer it may have been written.
    """
    options = {} if cas is None else {"cas": cas}
    body = {"data": dict(data), "options": options}
    metadata = expect(_request(api, "post", place, "data", json=body), "data", dict)
    return Written(expect(metadata, "version", int), expect(metadata, "created_time", str))


def write_matching(api: hvac.Client, place: Place, data: Mapping[str, Any], match: str, clock: Clock) -> Written:
    """A new version in place of the one with this ETag. Raises: VersionConflict, if that is not the current one."""
    return write(api, place, data, _number_of(api, place, match, clock))


def _number_of(api: hvac.Client, place: Place, match: str, clock: Clock) -> int:
    """The number of the current version, if that has this ETag; "*" is any. Raises: VersionConflict."""
    try:
        current = facts(api, place, clock).current
    except SecretNotFound:
        current = None
    if current is None or current.number is None:
        raise VersionConflict(f"there is no secret at {place}")
    if match not in (ANY, etag_of(current.number, current.created_time or "")):
        raise VersionConflict(f"the current version of {place} is another")
    return current.number


def create(api: hvac.Client, place: Place, data: Mapping[str, Any], clock: Clock) -> Written:
    """The secret, if there is none; one whose current version was deleted or destroyed is none.

    Vault takes cas=0 only where there never was a version, so what is gone has the number of its last one replaced.
    Raises: VersionConflict, if there is one.
    """
    try:
        return write(api, place, data, 0)
    except VersionConflict:
        found = facts(api, place, clock)
    if found.current is not None:
        raise VersionConflict(f"there is a secret at {place}")
    return write(api, place, data, found.last)


def delete(api: hvac.Client, place: Place) -> None:
    """Delete the current version, and no other; one that is not there is no error."""
    _request(api, "delete", place, "data")


def delete_matching(api: hvac.Client, place: Place, match: str, clock: Clock) -> None:
    """Delete the version with this ETag, and none that was written since. Raises: VersionConflict."""
    number = _number_of(api, place, match, clock)
    _request(api, "post", place, "delete", json={"versions": [number]})


# ── One request ──────────────────────────────────────────────────────────────────────────────────────────────────────


def _request(api: hvac.Client, method: str, place: Place, kind: str, **options: Any) -> dict[str, Any]:
    adapter = copy.copy(api.adapter)
    adapter.namespace = place.namespace or None  # of the place, and never of whoever asks: it is part of the key
    bound = answers_up_to(LARGEST_ANSWER_BYTES, "LARGEST_ANSWER_BYTES in gateway/store.py")
    with _own_errors(place), bound, watched(OPERATIONS[method, kind]) as headers:
        answer: dict[str, Any] = adapter.request(method, place.url(kind), headers=dict(headers), **options)
    return answer


@contextmanager
def _own_errors(place: Place) -> Iterator[None]:
    try:
        yield
    except RequestRejected as error:
        said = str(error)
        if MISMATCH in said:
            raise VersionConflict(f"the current version of {place} is another") from None
        if REQUIRED in said:
            raise PreconditionNeeded(f"{place} takes writes with check-and-set alone") from None
        raise
