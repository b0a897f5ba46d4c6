"""The fields that a log line and an audit line may have, and what may stand in each.

A line is made of what is listed here and of nothing else, so nothing gets into it by accident: a field that does not
look as it should is replaced by NOT_SHOWN, and so is what looks like a token anywhere. (A short secret in the place of
a path looks like a path: no list can tell. Hence lines are made of typed objects, and values are in none of these.)
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Collection, Mapping
from datetime import datetime, timezone
from functools import lru_cache
from typing import Any

NOT_SHOWN = "(not shown)"
REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)
KEY_ID = re.compile(r"[A-Za-z0-9._:+/=-]{1,128}", re.ASCII)
NAME = re.compile(r"[a-z0-9-]{1,40}", re.ASCII)
LONGEST_SUBJECT, LONGEST_PATH, LONGEST_SEGMENT = 255, 512, 128
LOOKS_LIKE_TOKEN = re.compile(r"\beyJ[\w-]{8,}\.|\b(?:hv[sbr]|[sbr])\.[\w-]{20,}|\b[Bb]earer\s", re.ASCII)
"""A JWT, and Vault's own (hvs., s. and their like)."""

REMEMBERED = 10_000
"""So many texts are not looked at anew."""

Check = Callable[[Any], bool]
"""Whether something may stand in a field."""


def is_like(pattern: re.Pattern[str]) -> Check:
    return lambda value: isinstance(value, str) and pattern.fullmatch(value) is not None


def is_one_of(known: Collection[str]) -> Check:
    return lambda value: isinstance(value, str) and value in known


def is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def is_subject(value: Any) -> bool:
    """Who a JWT is of: any text, as the identity provider has it."""
    return isinstance(value, str) and 0 < len(value) <= LONGEST_SUBJECT


def is_canonical_path(value: Any) -> bool:
    return (
        isinstance(value, str)
        and len(value) <= LONGEST_PATH
        and all(len(segment) <= LONGEST_SEGMENT for segment in value.split("/"))
    )


def field(name: str, value: Any, check: Check) -> str:
    """What is written of a value, with its name, as JSON."""
    if isinstance(value, (str, int)):  # most of them come again and again
        return _remembered_field(name, value, check)
    return f'"{name}": {json.dumps(value if check(value) else NOT_SHOWN)}'


@lru_cache(REMEMBERED, typed=True)  # True is no 1
def _remembered_field(name: str, value: str | int, check: Check) -> str:
    is_shown = check(value) and not LOOKS_LIKE_TOKEN.search(str(value))
    return f'"{name}": {json.dumps(value if is_shown else NOT_SHOWN)}'


def json_line(thing: object, checks: Mapping[str, Check], now: float) -> str:
    """A line of JSON, without its end: the time, and those of the listed fields that are set.

    ASCII alone: what a terminal or a log reader takes for an end of line (CR, LF, U+2028) or chokes on (a lone
    surrogate) is escaped.
    """
    time = datetime.fromtimestamp(now, timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    found = [(name, getattr(thing, name), check) for name, check in checks.items()]
    told = [field(name, value, check) for name, value, check in found if value is not None]
    return "{" + ", ".join([f'"time": "{time}"', *told]) + "}"
