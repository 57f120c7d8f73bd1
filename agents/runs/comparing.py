"""Runs beside each other: settings that differ, final figures, texts, and their curves in one picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import ScalarFormatter

from ...envs.text import write_atomically
from ...envs.text.reading import read_lines
from ..evaluation.confusion import label_font
from .listing import FoundRun, differing, setting
from .plotting import STYLE, line_of
from .report import figures_of, shown
from .table import beside, table

SAMPLES = "samples.txt"
_TITLES = ("before training", "after training", "maximum likelihood")


def comparison(runs: Sequence[FoundRun], width: int) -> str:
    """What `tokenlm compare` prints.

    Args:
        runs: two or more.
        width: of the terminal.
    """
    names = names_of_runs(runs)
    parts = [("settings that differ", _settings(runs, names)), ("figures", _figures(runs, names))]
    parts += [(title, beside(columns, width)) for title, columns in texts_of(runs, names)]
    return "\n\n".join("\n".join([f"{title}:", *lines]) for title, lines in parts)


def names_of_runs(runs: Sequence[FoundRun]) -> list[str]:
    """The shortest ends of the folders' paths that tell the runs apart."""
    paths = [run.folder.absolute().parts for run in runs]
    for length in range(1, max(map(len, paths)) + 1):
        names = [str(Path(*path[-length:])) for path in paths]
        if len(set(names)) == len(names):
            return names
    raise ValueError(f"{runs[0].folder} is given twice; compare it with another run")


def plot_runs(runs: Sequence[FoundRun], path: Path) -> None:
    """Plot greedy return and held-out perplexity of several runs over seconds of training.

    Args:
        runs: with their evaluations.
        path: the PNG file to write.
    """
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(11, 4.2), layout="constrained")
        draw_runs(figure, runs)
        write_atomically(path, lambda p: figure.savefig(p, dpi=130, format="png"))


def draw_runs(figure: Figure, runs: Sequence[FoundRun]) -> None:
    """Draw what `plot_runs` plots."""
    labels, font = labels_of(runs)
    returns, perplexity = figure.subplots(1, 2)
    best = []
    for number, (run, label) in enumerate(zip(runs, labels, strict=True)):
        line = line_of(number)
        seconds, steps, greedy, own, target = (
            np.array([row.get(name) for row in run.rows], float)
            for name in ("wall_seconds", "num_steps", "greedy_return", "perplexity", "target_perplexity")
        )
        x = seconds if np.isfinite(seconds).all() else steps
        returns.plot(x, greedy, label=label, **line)
        perplexity.plot(x, own, label=label, **line)
        if np.isfinite(target).any():
            best.append(target[np.isfinite(target)][-1])
            perplexity.axhline(best[-1], color=line["color"], linestyle="--", linewidth=1)
    returns.set(xlabel="seconds of training", ylabel="return of an episode (nats)", title="Greedy return")
    returns.set_yscale("symlog", linthresh=10)
    returns.yaxis.set_major_formatter(ScalarFormatter())
    if best:
        perplexity.set_yscale("log")
        perplexity.set_ylim(0.9 * min(best), 10 * max(best))
        perplexity.yaxis.set_major_formatter(ScalarFormatter())
        perplexity.yaxis.set_minor_formatter(ScalarFormatter())
    perplexity.set(xlabel="seconds of training", ylabel="perplexity", title="Held-out perplexity (dashed: p* itself)")
    for axes in (returns, perplexity):
        axes.legend(frameon=False, prop=font)


def labels_of(runs: Sequence[FoundRun]) -> tuple[list[str], Any]:
    """Names of the runs for a picture, and the font to write them in; numbers and None where no font has them."""
    names = names_of_runs(runs)
    font = label_font(names)
    return (names if font else [f"run {number}" for number in range(1, len(names) + 1)]), font


def settings_rows(runs: Sequence[FoundRun], names: Sequence[str]) -> list[list[str]]:
    """A table of the settings that differ, with a row of titles; empty if none do."""
    rows = [[name, *(setting(run.settings.get(name)) for run in runs)] for name in differing(runs)]
    return [["", *names], *rows] if rows else []


def figures_rows(runs: Sequence[FoundRun], names: Sequence[str]) -> list[list[str]]:
    """A table of the final figures, with a row of titles."""
    known = [_titled(run) for run in runs]
    titles = dict.fromkeys(title for figures in known for title in figures)
    rows = [["", *names], ["state", *(run.state for run in runs)]]
    return rows + [[title[-1], *(shown(figures.get(title)) for figures in known)] for title in titles]


def _settings(runs: Sequence[FoundRun], names: Sequence[str]) -> list[str]:
    rows = settings_rows(runs, names)
    return ["  " + line for line in table(rows)] if rows else ["  none"]


def _figures(runs: Sequence[FoundRun], names: Sequence[str]) -> list[str]:
    return ["  " + line for line in table(figures_rows(runs, names), right=range(1, len(runs) + 1))]


def _titled(run: FoundRun) -> dict[tuple[str, ...], Any]:
    """Figures by their title, those that are indented by the one above too: several are "  of p* itself"."""
    found: dict[tuple[str, ...], Any] = {}
    above = ""
    for title, value in figures_of(run.summary or (run.rows[-1] if run.rows else {})):
        above = above if title.startswith(" ") else title
        found[above, title] = value
    return {title: value for title, value in found.items() if value is not None}


def texts_of(runs: Sequence[FoundRun], names: Sequence[str]) -> list[tuple[str, list[list[str]]]]:
    """Titles of the texts of all runs, each with a column of a run's texts."""
    written = [_samples(run.folder / SAMPLES) for run in runs]
    titles = dict.fromkeys(title for texts in written for title in texts if title != "before training")
    return [
        (title, [[f"[{name}]", *texts.get(title, ["-"])] for name, texts in zip(names, written, strict=True)])
        for title in titles
    ]


def _samples(path: Path) -> dict[str, list[str]]:
    """The texts of samples.txt below their titles."""
    groups: dict[str, list[str]] = {}
    for line in read_lines(path, "json_bytes") if path.exists() else ():
        if line.startswith(_TITLES):
            groups[line] = []
        elif groups:
            groups[next(reversed(groups))].append(line)
    for texts in groups.values():
        if texts and not texts[-1]:  # the blank line between two groups
            texts.pop()
    return groups
