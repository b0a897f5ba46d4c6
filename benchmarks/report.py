"""What the benchmarks print: rows, the one table that they make, and the page around it."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import psutil
import psycopg

from benchmarks.bench import Bench
from vault_app import __version__

Unit = Callable[[float], str]
Plot = Callable[[Path], None]
MEBIBYTE = 2**20


def duration(seconds: float) -> str:
    """Three digits, in the unit that suits: 312 ns, 1.87 ms, 4.92 s."""
    for factor, unit in ((1e9, "ns"), (1e6, "µs"), (1e3, "ms")):
        if abs(seconds) * factor < 999.5:
            return f"{three_digits(seconds * factor)} {unit}"
    return f"{three_digits(seconds)} s"


def mebibytes(size: float) -> str:
    return f"{size / MEBIBYTE:.1f} MiB"


def count(number: float) -> str:
    return f"{number:,.0f}"


def three_digits(number: float) -> str:
    """1.23, 12.3, 123, 1,234."""
    decimals = 2 if abs(number) < 9.995 else 1 if abs(number) < 99.95 else 0
    return f"{number:,.{decimals}f}"


def times(ratio: float) -> str:
    """As `three_digits`, but a small one keeps two that tell something: 0.0010."""
    return f"{ratio:.2g}" if 0 < ratio < 0.0995 else three_digits(ratio)


@dataclass(frozen=True)
class Target:
    """What a row is to reach, whether it does, and, should it not, the reason."""

    text: str
    met: bool
    reason: str

    @property
    def verdict(self) -> str:
        return "met" if self.met else "**missed**"


@dataclass(frozen=True)
class Row:
    """One line of the table: on what work, whose, and the samples, in seconds, bytes or as a plain number."""

    what: str
    whose: str
    samples: Sequence[float]
    unit: Unit = duration
    than: Row | None = None
    """The row that it is compared with: the ratio is this median divided by that one."""
    target: Target | None = None

    @property
    def median(self) -> float:
        return median(self.samples)

    @property
    def p99(self) -> float:
        """Of a single number there is none; of fewer than a hundred samples it is next to the worst one."""
        return quantiles(self.samples, n=100, method="inclusive")[98] if len(self.samples) > 1 else self.median

    @property
    def ratio(self) -> float:
        """How many times the other row's median it is; 1 for a row that is not compared."""
        return self.median / self.than.median if self.than else 1.0

    def cells(self) -> list[str]:
        several = len(self.samples) > 1
        return [
            self.what,
            self.whose,
            self.unit(self.median),
            self.unit(self.p99) if several else "",
            f"{len(self.samples):,}" if several else "",
            f"{times(self.ratio)} times {self.than.whose}" if self.than else "",
            self.target.text if self.target else "",
            self.target.verdict if self.target else "",
        ]


@dataclass(frozen=True)
class Section:
    """What a module of the benchmarks found out: its rows, notes in Markdown, and plots by their file names."""

    title: str
    rows: Sequence[Row]
    notes: str
    plots: Mapping[str, Plot] = field(default_factory=dict)

    def missed(self) -> list[str]:
        """A line for each reason for which a target was missed, with the rows that missed it."""
        rows: dict[str, list[str]] = {}
        for row in self.rows:
            if row.target and not row.target.met:
                rows.setdefault(row.target.reason, []).append(f"{row.what} ({row.whose})")
        return [f"**Missed**: {', '.join(names)}. {reason}" for reason, names in rows.items()]


HEAD = ("On what work", "Whose", "Median", "p99", "Samples", "Ratio", "Target", "Verdict")


def markdown(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """A table of Markdown."""
    rule = ["---"] * len(head)
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, rule, *lines))


def table(sections: Iterable[Section]) -> str:
    """The one table."""
    return markdown(HEAD, [row.cells() for section in sections for row in section.rows])


# ── The page ─────────────────────────────────────────────────────────────────────────────────────────────────────────

PAGE = """\
# Benchmarks

`make bench` writes this page: it starts a real OpenBao and a real PostgreSQL, lets each contender do the same work in
the same run, taking turns, and removes everything again. Read the ratios: the times are those of one machine, on which
the servers and all contenders share the processor.

| | |
|---|---|
{facts}

To repeat it: `make bench`, about {minutes} minutes. It prints the table below; nothing on this page is from elsewhere.

{table}

*Median* and *p99* are over the *samples*; of fewer than a hundred samples p99 is next to the worst one. *Ratio* is the
median divided by that of the contender that is named. *Ours* is this repository.

{sections}
"""


def page(sections: Sequence[Section], facts: Mapping[str, str], seconds: float) -> str:
    """docs/BENCHMARKS.md."""
    return PAGE.format(
        facts="\n".join(f"| {name} | {value} |" for name, value in facts.items()),
        minutes=f"{max(1, round(seconds / 60))}",
        table=table(sections),
        sections="\n\n".join(map(section_text, sections)),
    )


def section_text(section: Section) -> str:
    images = [f"![{section.title}]({name})" for name in section.plots]
    return "\n\n".join([f"## {section.title}", section.notes.strip(), *section.missed(), *images])


def facts(bench: Bench, load: float) -> dict[str, str]:
    """When, where, with what and beside what else it was measured; `load` is the system's load average."""
    openbao = bench.root.sys.read_health_status(method="GET")["version"]
    libraries = [f"{name} {importlib.metadata.version(name)}" for name in ("hvac", "requests", "urllib3")]
    return {
        "Date": f"{datetime.now(timezone.utc):%Y-%m-%d}",
        "Machine": f"{processor()}, {os.cpu_count()} cores, {psutil.virtual_memory().total / 2**30:.1f} GiB",
        "System": f"{platform.system()} {platform.release()}",
        "Load": f"{load:.2f} on average in the minute before",
        "Ours": f"vault_app.py {__version__}, Python {platform.python_version()}, {', '.join(libraries)}",
        "Servers": f"OpenBao {openbao} (also the `bao agent` and the `bao proxy`), PostgreSQL {postgres(bench)}",
    }


def processor() -> str:
    """The model, where the system tells."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()


def postgres(bench: Bench) -> str:
    server: Any = bench.server.postgres
    with psycopg.connect(host=server.host, dbname="postgres", user="postgres", password=server.password) as connection:
        return str(connection.info.parameter_status("server_version"))
