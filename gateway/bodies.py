"""What may be written: a JSON object within bounds, and nothing that the store would change on the way.

    parse(b'{"data": {"password": "hunter2"}}', limits)  →  {"password": "hunter2"}

Vault and OpenBao answer 200 to all of these, and give back something else: integers beyond 2^53 are rounded, digits
that no double holds are dropped, a lone surrogate becomes U+FFFD, of two equal keys the last wins, and `"data": null`
makes an empty version. What was tried and reads back equal is allowed: null within the data, NUL, empty keys.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from decimal import Decimal, InvalidOperation
from typing import Any, NoReturn, Protocol, TypedDict

GREATEST_NUMBER = 2**53
"""Up to here each integer has a double of its own. Of what is above, some would survive, and who could say which."""
MOST_ERRORS = 20
LONGEST_IN_POINTER = 64


class Limits(Protocol):
    """The bounds of a body: bytes, levels of nesting, keys in all its objects together."""

    @property
    def body_size(self) -> int: ...
    @property
    def depth(self) -> int: ...
    @property
    def keys(self) -> int: ...


class BodyError(TypedDict):
    """What is wrong, and where as a JSON pointer (RFC 6901); never a value."""

    pointer: str
    detail: str


class BodyRefused(Exception):
    """The body cannot be written as it is: `errors` says why, `status` is 400, 413 or 422."""

    def __init__(self, status: int, errors: list[BodyError]) -> None:
        super().__init__(status)
        self.status, self.errors = status, errors


class _Number(str):
    """A number as it was written."""


class _Object(list[tuple[str, Any]]):
    """An object as it was written: keys may stand twice."""


def parse(raw: bytes, limits: Limits) -> dict[str, Any]:
    """What stands in "data" of the body. Raises: BodyRefused."""
    if len(raw) > limits.body_size:
        raise BodyRefused(413, [_error("", f"the body has more than {limits.body_size} bytes")])
    document = _read(raw, limits.depth)
    if not isinstance(document, _Object) or [key for key, _ in document] != ["data"]:
        raise BodyRefused(422, [_error("", 'expected an object with the one key "data"')])
    data = document[0][1]
    if not isinstance(data, _Object):
        raise BodyRefused(422, [_error("/data", "expected an object")])
    check = _Check(limits)
    secret = check.value(data, "/data", 1)
    if check.errors:
        raise BodyRefused(422, check.errors)
    return dict(secret)


def _read(raw: bytes, depth: int) -> Any:
    """The JSON, with numbers and objects as they were written."""
    refused = BodyRefused(400, [_error("", "the body is not JSON in UTF-8")])
    try:
        return json.loads(
            raw.decode("utf-8"),
            object_pairs_hook=_Object,
            parse_int=_Number,
            parse_float=_Number,
            parse_constant=_no_json,
        )
    except ValueError:
        pass
    except RecursionError:
        refused = BodyRefused(422, [_error("", _too_deep(depth))])
    raise refused  # out here: the error that was caught holds the body


class _Check:
    """Makes the values of what was read, and collects what is wrong with them."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._keys = 0
        self.errors: list[BodyError] = []

    def value(self, read: Any, pointer: str, level: int) -> Any:
        if isinstance(read, (_Object, list)):
            return self._nested(read, pointer, level)
        if isinstance(read, _Number):
            return self._number(read, pointer)
        if isinstance(read, str) and not _is_unicode(read):
            self._refuse(pointer, "a lone surrogate is no character")
        return read

    def _nested(self, read: list[Any], pointer: str, level: int) -> Any:
        if level > self._limits.depth:
            self._refuse(pointer, _too_deep(self._limits.depth))
            return None
        if isinstance(read, _Object):
            return dict(self._items(read, pointer, level))
        return [self.value(each, f"{pointer}/{place}", level + 1) for place, each in enumerate(read)]

    def _items(self, read: _Object, pointer: str, level: int) -> Iterator[tuple[str, Any]]:
        seen = set()
        for key, each in read:
            below = f"{pointer}/{_in_pointer(key)}"
            if key in seen:
                self._refuse(below, "the key stands twice")
            if not _is_unicode(key):
                self._refuse(below, "a lone surrogate is no character")
            seen.add(key)
            self._count_key()
            yield key, self.value(each, below, level + 1)

    def _count_key(self) -> None:
        self._keys += 1
        if self._keys == self._limits.keys + 1:
            self._refuse("/data", f"more than {self._limits.keys} keys")

    def _number(self, written: str, pointer: str) -> int | float:
        value: int | float = float(written)
        if abs(value) <= GREATEST_NUMBER and written.lstrip("-").isdigit() and written != "-0":
            value = int(written)
        if abs(value) > GREATEST_NUMBER:  # of 2^53 + 1 the integer alone is
            self._refuse(pointer, "the store keeps no number beyond 2^53 as it is; send it as a string")
        elif value == 0 and written.startswith("-"):
            self._refuse(pointer, "the store keeps no negative zero")
        elif not _keeps_digits(written, value):
            self._refuse(pointer, "the store would drop digits of the number; send it as a string")
        return value

    def _refuse(self, pointer: str, detail: str) -> None:
        if len(self.errors) < MOST_ERRORS:
            self.errors.append(_error(pointer, detail))


def _error(pointer: str, detail: str) -> BodyError:
    return {"pointer": pointer, "detail": detail}


def _too_deep(depth: int) -> str:
    return f"objects and lists are nested deeper than {depth} levels"


def _in_pointer(key: str) -> str:
    """A key as JSON pointers have it, cut short, and in ASCII whatever it holds."""
    short = key if len(key) <= LONGEST_IN_POINTER else key[:LONGEST_IN_POINTER] + "…"
    return short.encode("ascii", "backslashreplace").decode().replace("~", "~0").replace("/", "~1")


def _is_unicode(text: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in text)


def _keeps_digits(written: str, value: float) -> bool:
    """Whether the shortest text that means this double means the number that was written."""
    try:
        return Decimal(written) == Decimal(repr(value))
    except InvalidOperation:  # an exponent that not even Decimal has
        return False


def _no_json(_: str) -> NoReturn:
    raise ValueError("NaN and Infinity are no JSON")
