"""Plots, as SVG: the same bytes for the same data, and a light background that reads well in dark mode, too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure

STYLE: dict[Any, Any] = {
    "svg.hashsalt": "benchmarks",
    "svg.fonttype": "none",  # text stays text
    "font.family": "sans-serif",
    "font.size": 10,
    "figure.facecolor": "white",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e5e5e5",
}
COLOURS = ("#0b6bcb", "#c2410c", "#6b7280", "#15803d")
WIDTH, HEIGHT = 8.0, 3.2
"""Inches, as matplotlib wants it."""


def delays(panels: Mapping[str, Mapping[str, Sequence[float]]], path: Path) -> None:
    """One panel each: for every contender, which share of its delays (in seconds) was at most so long."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, HEIGHT), layout="constrained")
        axes = figure.subplots(1, len(panels), sharey=True)
        for axis, (title, samples) in zip(axes, panels.items(), strict=True):
            for colour, (whose, values) in zip(COLOURS, samples.items(), strict=False):
                axis.ecdf(values, label=whose, color=colour, linewidth=1.8)
            axis.set(title=title, xlabel="seconds until it was seen", xlim=(0, None))
        axes[0].set_ylabel("share of the changes")
        axes[0].legend(frameon=False, loc="lower right")
        figure.savefig(path, metadata={"Date": None})


def growth(panels: Mapping[str, Mapping[str, Mapping[int, float]]], number_of: str, path: Path) -> None:
    """One panel each: for every contender, how a figure grows with the number of something, on logarithmic scales."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, HEIGHT), layout="constrained")
        axes = figure.subplots(1, len(panels))
        for axis, (title, lines) in zip(axes, panels.items(), strict=True):
            for colour, (whose, points) in zip(COLOURS, lines.items(), strict=False):
                axis.plot(
                    list(points), list(points.values()), "o-", label=whose, color=colour, linewidth=1.8, alpha=0.8
                )
            axis.set(title=title, xlabel=number_of, xscale="log", yscale="log")
        axes[0].legend(frameon=False, fontsize=8)
        figure.savefig(path, metadata={"Date": None})
