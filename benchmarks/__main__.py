"""python -m benchmarks: run every section, print one table, write docs/BENCHMARKS.md and its plots.

A section is a module with a function `measure(bench)` that returns a `Section`; a new one is a line in SECTIONS.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks import freshness, gateway, issuing, processes, reads, scale, steady_hour
from benchmarks.bench import PROGRESS, Bench, tell
from benchmarks.report import Section, facts, page, table
from devserver import DevServer, DevServerError
from devserver.__main__ import Interrupted, Signals
from listeners.usage import CommandLine

SECTIONS: dict[str, Callable[[Bench], Section]] = {
    "reads": reads.measure,
    "steady_hour": steady_hour.measure,
    "freshness": freshness.measure,
    "processes": processes.measure,
    "scale": scale.measure,
    "issuing": issuing.measure,
    "gateway": gateway.measure,
}
DOCS = Path(__file__).parents[1] / "docs"
PAGE = "BENCHMARKS.md"


def main() -> int:
    options = parse_arguments()
    signals = Signals()
    try:
        tell("starting OpenBao and PostgreSQL")
        with DevServer(check=signals.check) as server:
            run(Bench(server, options.quick, signals.check), options.only or list(SECTIONS), options.docs)
    except Interrupted:
        PROGRESS.end(f"stopped by {signal.Signals(signals.received or 0).name}")
        return 1
    except (DevServerError, TimeoutError) as error:
        PROGRESS.end(str(error))
        return 1
    return 0


def run(bench: Bench, names: list[str], docs: Path | None) -> None:
    """Measure, print the table, and write the page if there is a folder for it."""
    began, load = time.monotonic(), os.getloadavg()[0]
    sections = []
    for number, name in enumerate(names, start=1):
        PROGRESS.part = f"{number} of {len(names)}, {name}: "
        tell("making ready")
        sections.append(SECTIONS[name](bench))
    PROGRESS.end()
    print(table(sections))
    if docs is None:
        return
    (docs / PAGE).write_text(page(sections, facts(bench, load), time.monotonic() - began), encoding="utf-8")
    for section in sections:
        for name, draw in section.plots.items():
            draw(docs / name)


def parse_arguments() -> argparse.Namespace:
    parser = CommandLine(
        prog="python -m benchmarks",
        example="python -m benchmarks --quick --only reads",
        description=str(__doc__).splitlines()[0].partition(": ")[2],
    )
    parser.add_argument("--quick", action="store_true", help="tiny counts: shows that all works, not how fast it is")
    parser.add_argument("--only", choices=SECTIONS, action="append", metavar="SECTION", help=", ".join(SECTIONS))
    parser.add_argument(
        "--docs", type=Path, metavar="FOLDER", help="where the page goes [docs; nowhere with the above]"
    )
    options = parser.parse_args()
    if options.docs is None and not (options.quick or options.only):
        options.docs = DOCS
    return options


if __name__ == "__main__":
    sys.exit(main())
