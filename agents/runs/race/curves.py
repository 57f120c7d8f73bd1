"""Learning curves of a race, in colours that colour-blind readers tell apart."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import ScalarFormatter

from ....envs.text import write_atomically
from ..plotting import COLOURS, STYLE

_MOST = len(COLOURS)  # curves in a panel
_UNITS = {"seconds": ("seconds", "seconds of learning"), "steps": ("env_steps", "environment steps")}
Runs = list[dict[str, Any]]


def panels(classes: dict[str, list[str]]) -> list[tuple[str, list[str]]]:
    """Title and entries of each row of panels, at most eight entries each."""
    return [
        (title if len(names) <= _MOST else f"{title}, {first // _MOST + 1}", names[first : first + _MOST])
        for title, names in classes.items()
        for first in range(0, len(names), _MOST)
    ]


def plot_race(
    classes: dict[str, list[str]], results: dict[str, dict[str, Runs]], references: dict[str, Any], path: Path
) -> None:
    """Plot learning curves, median and range over runs, into the PNG file `path`.

    Args:
        classes: the names of the entries of each class.
        results: for each leg the runs of each entry.
        references: rows of `references.references`.
        path: the file.
    """
    rows, legs = panels(classes), [leg for leg in _UNITS if leg in results]
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(6.5 * len(legs), 4.6 * len(rows)), layout="constrained")
        grid = figure.subplots(len(rows), len(legs), squeeze=False)
        for line, (title, names) in enumerate(rows):
            for axes, leg in zip(grid[line], legs, strict=True):
                unit, label = _UNITS[leg]
                for number, name in enumerate(names):
                    _curve(axes, [run["rows"] for run in results[leg][name] if run["rows"]], unit, name, number)
                for name in ("optimum", "p* sampled", "same text for every prompt"):
                    value = references.get(name, {}).get("score")
                    if value is not None:
                        axes.axhline(value, color="0.4", linestyle=":", linewidth=1)
                        axes.annotate(name, (1.0, value), xycoords=("axes fraction", "data"), fontsize=7, ha="right")
                axes.set(xlabel=label, ylabel="normalized score", title=title, xscale="log")
                axes.xaxis.set_major_formatter(ScalarFormatter())
                axes.set_ylim(-0.1, 1.05)
            grid[line][0].legend(frameon=False, fontsize=8)
        write_atomically(path, lambda p: figure.savefig(p, dpi=130, format="png"))


def _curve(axes: Axes, curves: list[list[dict[str, Any]]], unit: str, name: str, number: int) -> None:
    """Plot the curve of one entry, interpolated linearly between evaluations."""
    points = [[(r[unit], r["score"]) for r in rows if r["score"] is not None and r[unit] > 0] for rows in curves]
    points = [p for p in points if p]
    if not points:
        return
    colour = COLOURS[number]
    places = np.geomspace(max(p[0][0] for p in points), min(p[-1][0] for p in points), 60)
    heights = np.array([np.interp(places, *np.transpose(p)) for p in points])
    axes.plot(places, np.median(heights, axis=0), color=colour, label=name, linewidth=1.6)
    axes.fill_between(places, heights.min(0), heights.max(0), color=colour, alpha=0.15, linewidth=0)
