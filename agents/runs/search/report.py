"""The report of a search: a table of its trials, importance and slices of the settings, the best configuration."""

from __future__ import annotations

import csv
import dataclasses
import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ....envs.text import write_atomically, write_text_atomically
from ....envs.text.yaml_files import dump_yaml
from ..config import plain
from ..listing import setting
from ..plotting import STYLE
from ..table import table
from .config import TuneConfig, applied
from .space import Choices, Space
from .study import JUDGED_BY, REASON, load_optuna

BEST = "best.yaml"
_SHOWN = 10  # trials in the table that is printed


def best_trial(study: Any) -> Any:
    """The complete trial with the largest value, the first of equals; None without one."""
    complete = _complete(study)
    return max(complete, key=lambda trial: trial.value, default=None)


def write_report(study: Any, config: TuneConfig, folder: Path) -> tuple[str, dict[str, Any]]:
    """Write trials.csv, importance.png, slices.png and best.yaml into `folder`.

    Returns: the table to print, and the best settings.
    """
    best = best_trial(study)
    figure, lower = best.user_attrs[JUDGED_BY]
    sign = -1.0 if lower else 1.0
    chosen = config.space.settings(best.params)
    tuned = dataclasses.replace(applied(config.run, chosen), name=f"{config.run.name}-tuned")
    head = (
        f"# The best of {len(study.trials)} trials of `tokenlm tune`: {figure} {sign * best.value:.5g} "
        f"(trial {best.number}), on tuning worlds and {config.share:.3g} of the steps.\n"
    )
    write_text_atomically(folder / BEST, head + dump_yaml(plain(tuned)))
    write_text_atomically(folder / "trials.csv", _csv(study, config, figure, sign))
    plot_importance(importance(study), figure, folder / "importance.png")
    plot_slices(study, config.space, figure, sign, folder / "slices.png")
    return _printed(study, config, figure, sign, folder), chosen


def importance(study: Any) -> dict[str, float]:
    """How much each setting matters, adding up to 1, by PED-ANOVA (Watanabe et al. 2023); empty for few trials.

    It asks how the values of a setting among the better half of the trials differ from those of all.
    """
    optuna = load_optuna()
    complete = _complete(study)
    names = list(dict.fromkeys(name for trial in complete for name in trial.params))
    varied = [name for name in names if len({trial.params.get(name) for trial in complete}) > 1]
    if len(complete) < 4 or not varied:
        return {}
    evaluator = optuna.importance.PedAnovaImportanceEvaluator(target_quantile=0.5, evaluate_on_local=True)
    found = optuna.importance.get_param_importances(study, evaluator=evaluator, params=varied)
    return {name: float(value) for name, value in found.items()}


def plot_importance(found: dict[str, float], figure: str, path: Path) -> None:
    """Plot bars of importance into the PNG file `path`."""
    with matplotlib.rc_context(STYLE):
        picture = Figure(figsize=(7, 1.2 + 0.35 * max(1, len(found))), layout="constrained")
        axes = picture.subplots()
        names = sorted(found, key=lambda name: found[name])
        axes.barh(names, [found[name] for name in names], color="#0072B2")
        axes.set(xlabel="importance (PED-ANOVA, adds up to 1)", title=f"What moves {figure}")
        if not found:
            axes.annotate("at least four complete trials are needed", (0.5, 0.5), xycoords="axes fraction", ha="center")
        write_atomically(path, lambda p: picture.savefig(p, dpi=130, format="png"))


def plot_slices(study: Any, space: Space, figure: str, sign: float, path: Path) -> None:
    """Plot the value of every complete trial against each setting, later trials darker, into the PNG file `path`."""
    complete = _complete(study)
    heights = [sign * trial.value for trial in complete]
    columns = min(4, len(space.parts))
    lines = math.ceil(len(space.parts) / columns)
    with matplotlib.rc_context(STYLE):
        picture = Figure(figsize=(3.6 * columns, 3.2 * lines), layout="constrained")
        grid = picture.subplots(lines, columns, squeeze=False, sharey=True).ravel()
        for axes, name in zip(grid, space.parts, strict=False):
            _slice(axes, [t.params.get(name) for t in complete], heights, [t.number for t in complete], space, name)
        for axes in grid[len(space.parts) :]:
            axes.set_visible(False)
        for axes in grid[::columns]:
            axes.set_ylabel(figure)
            if min(heights) > 0 and max(heights) > 20 * min(heights):
                axes.set_yscale("log")
        write_atomically(path, lambda p: picture.savefig(p, dpi=130, format="png"))


def _slice(
    axes: Axes, values: Sequence[Any], heights: Sequence[float], numbers: Sequence[int], space: Space, name: str
) -> None:
    part = space.parts[name]
    if isinstance(part, Choices):
        labels = part.labels
        places: list[float] = [labels.index(value) for value in values]
        axes.set_xticks(range(len(labels)), [_short(v) for v in part.values], fontsize=7, rotation=30, ha="right")
        axes.set_xlim(-0.5, len(labels) - 0.5)
    else:
        places = list(values)
        low, high = part.low, part.high
        if part.log:
            axes.set_xscale("log")
            axes.set_xticks(np.geomspace(low, high, 4), [f"{tick:.2g}" for tick in np.geomspace(low, high, 4)])
            axes.minorticks_off()
            axes.set_xlim(low / (high / low) ** 0.05, high * (high / low) ** 0.05)
        else:
            axes.set_xlim(low - 0.05 * (high - low), high + 0.05 * (high - low))
    axes.scatter(
        places, heights, c=numbers, cmap="Blues", vmin=min(numbers) - 5, edgecolors="0.3", linewidths=0.5, s=28
    )
    axes.set_title(name, fontsize=9)


def _complete(study: Any) -> list[Any]:
    state = load_optuna().trial.TrialState.COMPLETE
    return [trial for trial in study.trials if trial.state == state]


def _rows(study: Any, config: TuneConfig, sign: float) -> list[tuple[Any, ...]]:
    """Number, state, figure, seconds, reason and settings of every trial that ran."""
    rows = []
    for trial in study.trials:
        if trial.datetime_start is None:
            continue
        value = None if trial.value is None or trial.state.name != "COMPLETE" else sign * trial.value
        seconds = trial.duration.total_seconds() if trial.duration else None
        chosen = config.space.settings(trial.params)
        state = trial.state.name.lower()
        reason = trial.user_attrs.get(REASON, "interrupted, and tried again" if state == "fail" else "")
        rows.append((trial.number, state, value, seconds, reason, chosen))
    return rows


def _csv(study: Any, config: TuneConfig, figure: str, sign: float) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["trial", "state", figure, "seconds", *config.space.parts, "reason"])
    for number, state, value, seconds, reason, chosen in _rows(study, config, sign):
        cells = [chosen.get(name, "") for name in config.space.parts]
        writer.writerow([number, state, "" if value is None else value, seconds, *cells, reason])
    return text.getvalue()


def _printed(study: Any, config: TuneConfig, figure: str, sign: float, folder: Path) -> str:
    rows = _rows(study, config, sign)
    complete = sorted((row for row in rows if row[2] is not None), key=lambda row: -sign * row[2])
    names = list(config.space.parts)
    lines = [("trial", figure, *names)]
    for number, _, value, _, _, chosen in complete[:_SHOWN]:
        lines.append((str(number), f"{value:.5g}", *(_short(chosen.get(name)) for name in names)))
    states = [row[1] for row in rows]
    counts = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
    matters = ", ".join(f"{name} {share:.2f}" for name, share in list(importance(study).items())[:4])
    return "\n".join(
        [
            *table(lines, right=(0, 1)),
            "",
            f"trials: {counts}",
            *([f"importance: {matters}"] if matters else []),
            f"best configuration: tokenlm train {folder / BEST}",
        ]
    )


def _short(value: Any) -> str:
    """A setting in a few letters: a mapping by its values."""
    if isinstance(value, dict):
        return " ".join(setting(inner) for inner in value.values())
    return setting(float(np.format_float_positional(value, 3, fractional=False)) if isinstance(value, float) else value)
