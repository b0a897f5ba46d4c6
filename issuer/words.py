"""What the command line says of what is issued: a table for people, or JSON for programs. Ids, never accessors (P1)."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Sequence
from typing import Any

from issuer.issues import Issue, Service

COLUMNS = ("service", "key", "id", "state", "ends", "policies", "replaces")


def facts(service: Service, issue: Issue) -> dict[str, Any]:
    return {
        "tenant": service.tenant,
        "service": service.service,
        "key": issue.key,
        "id": issue.id,
        "state": issue.state,
        "policies": list(issue.policies),
        "ttl": issue.ttl,
        "asked": issue.asked,
        "ends": issue.ends,
        "replaces": issue.replaces,
    }


def as_json(issued: Iterable[tuple[Service, Issue]], **more: Any) -> str:
    return json.dumps([{**facts(service, issue), **more} for service, issue in issued], indent=2)


def as_table(issued: Iterable[tuple[Service, Issue]], now: float) -> str:
    rows = [row(service, issue, now) for service, issue in issued]
    widths = [max(len(line[number]) for line in (COLUMNS, *rows)) for number in range(len(COLUMNS))]
    return "\n".join(line_of(cells, widths) for cells in (COLUMNS, *rows))


def row(service: Service, issue: Issue, now: float) -> tuple[str, ...]:
    left = f"in {issue.ends - now:.0f} s" if issue.ends > now else time.strftime("%H:%M UTC", time.gmtime(issue.ends))
    return (service.name, issue.key, issue.id, issue.state, left, ",".join(issue.policies), issue.replaces)


def line_of(cells: Sequence[str], widths: Sequence[int]) -> str:
    return "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()
