"""The log as JSON, an object a line: for a machine that collects the logs of many.

    {"time": "2026-11-25T12:04:14.123Z", "level": "INFO", "event": "LoggedIn", "generation": 1, "ttl": 20.0}

An event is told field by field, and of its fields those alone that are named here; of a secret, its facts and no value
(P1). Whatever else is logged is told by its text.
"""

from __future__ import annotations

import json
import logging
import math
from datetime import datetime, timezone
from typing import Any

from vaultkit.events import Event, Health
from vaultkit.secret import Secret

FIELDS_OF_EVENTS = (
    "error", "generation", "health", "kept", "last", "previous", "read", "reason", "retry_in", "secret", "secrets",
    "ttl", "worker",
)  # fmt: skip
FIELDS_OF_SECRETS = ("engine", "name", "version", "revision", "stale", "ttl")


class JsonFormatter(logging.Formatter):
    """Formats a record as one line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        time = datetime.fromtimestamp(record.created, timezone.utc).isoformat(timespec="milliseconds")
        line: dict[str, Any] = {"time": time.replace("+00:00", "Z"), "level": record.levelname}
        event = record.args[0] if isinstance(record.args, tuple) and len(record.args) == 1 else None
        if isinstance(event, Event):
            line |= {"event": type(event).__name__} | fields(event, FIELDS_OF_EVENTS)
        else:
            line |= {"logger": record.name, "thread": record.threadName, "message": record.getMessage()}
        if record.exc_info:
            line["trace"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


def fields(thing: object, names: tuple[str, ...]) -> dict[str, Any]:
    """Those of its attributes that are named and set, as JSON has them."""
    found = {name: getattr(thing, name, None) for name in names}
    return {name: plain(value) for name, value in found.items() if value is not None}


def plain(value: object) -> Any:
    if isinstance(value, Secret):
        return fields(value, FIELDS_OF_SECRETS)
    if isinstance(value, Health):
        return vars(value)
    if isinstance(value, (list, tuple)):
        return len(value)
    if isinstance(value, float):
        return round(value, 3) if math.isfinite(value) else None  # JSON knows no infinity
    return value if isinstance(value, (bool, int, str)) else str(value)
