"""The report of a race: a table in Markdown, a plot of learning curves, and a JSON file with all results."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import ScalarFormatter

from ....envs.text import write_atomically, write_json, write_text_atomically
from .config import EntryConfig, RaceConfig, plain_race

LEVELS = (0.5, 0.9, 0.98)
CLASSES = {"rewards": "From rewards alone", "corpus": "With corpus episodes", "p*": "Knowing p*, without learning"}
Runs = list[dict[str, Any]]


def report(
    config: RaceConfig,
    chosen: dict[str, dict[str, Any]],
    at_steps: dict[str, Runs],
    at_seconds: dict[str, Runs],
    references: dict[str, Any],
    folder: Path,
) -> dict[str, Any]:
    """Write table.md, curves.png and result.json into `folder`; returns the content of result.json.

    Args:
        config: the race.
        chosen: for each entry its settings and the trials of the search.
        at_steps: for each entry the results at equal environment steps, in the order of seeds.
        at_seconds: the same at equal time.
        references: see `references.references`.
        folder: folder of the race.
    """
    rows = {name: _row(entry, at_steps[name], at_seconds[name], len(chosen[name]["tried"]))
            for name, entry in config.entries.items()}  # fmt: skip
    result = {
        "race": plain_race(config), "rows": rows, "references": references["rows"], "chosen": chosen,
        "runs": {name: {"steps": at_steps[name], "seconds": at_seconds[name]} for name in rows},
    }  # fmt: skip
    write_json(folder / "result.json", result)
    write_text_atomically(folder / "table.md", table(result))
    _plot(config, at_steps, at_seconds, references["rows"], folder / "curves.png")
    return result


def _row(entry: EntryConfig, at_steps: Runs, at_seconds: Runs, trials: int) -> dict[str, Any]:
    """Statistics of one entry over its seeds."""
    row: dict[str, Any] = {"class": CLASSES[entry.source], "algorithm": entry.algorithm, "trials": trials}
    failed = [run["error"] for run in (*at_steps, *at_seconds) if run["error"]]
    row["error"] = failed[0] if failed else None
    for leg, runs in (("steps", at_steps), ("seconds", at_seconds)):
        done = [run for run in runs if run["rows"]]
        last = [run["rows"][-1] for run in done]
        row[leg] = {
            "seeds": len(done),
            "score": interquartile_mean([r["score"] for r in last]),
            "regret": interquartile_mean([r["regret"] for r in last]),
            "return": interquartile_mean([r["greedy_return"] for r in last]),
            "kl": _median([r["kl"] for r in last]),
            "perplexity": _median([run["perplexity"] for run in done]),
            "env_steps": _median([r["env_steps"] for r in last]),
            "seconds": _median([r["seconds"] for r in last]),
        }
        for level in LEVELS:
            for unit in ("seconds", "env_steps"):
                row[leg][f"{unit} to {level}"] = _reached(done, level, unit)
    return row


def _reached(runs: Runs, level: float, unit: str) -> float | None:
    """Median over seeds of the `unit` at which a run first reaches `level`; None if most runs do not."""
    found = [_first(run["rows"], level) for run in runs if run["rows"]]
    middle = float(np.median([np.inf if f is None else f[unit] for f in found])) if found else np.inf
    return middle if np.isfinite(middle) else None


def _first(rows: list[dict[str, Any]], level: float) -> dict[str, Any] | None:
    return next((row for row in rows if row["score"] is not None and row["score"] >= level), None)


def _median(values: list[float | None]) -> float | None:
    known = [v for v in values if v is not None and np.isfinite(v)]
    return float(np.median(known)) if known else None


def interquartile_mean(values: list[float | None]) -> list[float] | None:
    """Interquartile mean over seeds and its 95 % bootstrap interval [mean, low, high]; None without values.

    Source: Agarwal et al. 2021, "Deep reinforcement learning at the edge of the statistical precipice". Their bootstrap
    is stratified by environment; here there is only one.
    """
    try:
        from scipy import stats
    except ModuleNotFoundError:
        raise ImportError('the report of a race needs the library scipy; pip install "tokenlm[compare]"') from None
    known = np.array([v for v in values if v is not None], np.float64)
    if not len(known):
        return None

    def middle(sample: Any, axis: int = -1) -> Any:
        return stats.trim_mean(sample, 0.25, axis=axis)

    mean = float(middle(known))
    if len(known) < 2 or np.ptp(known) == 0.0:
        return [mean, mean, mean]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scipy warns about intervals from few seeds
        found = stats.bootstrap(
            (known,), middle, method="percentile", n_resamples=2_000, rng=np.random.default_rng(0)
        ).confidence_interval
    return [mean, float(found.low), float(found.high)]


def table(result: dict[str, Any]) -> str:
    """The race as Markdown: one table for each class of entries, and one for the references."""
    race, parts = result["race"], []
    for title in CLASSES.values():
        rows = {name: row for name, row in result["rows"].items() if row["class"] == title}
        if not rows:
            continue
        order = sorted(rows, key=lambda name: -((rows[name]["seconds"]["score"] or [-np.inf])[0]))
        seconds, steps = f"{race['max_seconds']:g} s", f"{race['total_steps']:,} steps"
        head = [
            "", f"score after {seconds}", f"after {steps}", "regret (nats)", "KL", "perplexity",
            *(f"s to {level:g}" for level in LEVELS), *(f"steps to {level:g}" for level in LEVELS), "trials",
        ]  # fmt: skip
        lines = [_line(head), _line(["---"] * len(head))]
        for name in order:
            timed, stepped = rows[name]["seconds"], rows[name]["steps"]
            cells = [
                name, _score(timed["score"]), _score(stepped["score"]) + _short(stepped, race["total_steps"]),
                _figure((timed.get("regret") or [None])[0]), _figure(timed["kl"]),
                _figure(timed["perplexity"]),
                *(_figure(timed[f"seconds to {level}"]) for level in LEVELS),
                *(_figure(stepped[f"env_steps to {level}"]) for level in LEVELS), str(rows[name]["trials"] or "-"),
            ]  # fmt: skip
            if rows[name]["error"]:
                cells[1] += f" (failed: {rows[name]['error']})"
            lines.append(_line(cells))
        parts.append(f"**{title}**\n\n" + "\n".join(lines) + _lead(result, order))
    lines = [_line(["reference", "score", "regret (nats)", "return (nats)", "perplexity"]), _line(["---"] * 5)]
    for name, row in result["references"].items():
        lines.append(
            _line([name, *(_figure(row.get(key)) for key in ("score", "regret", "return", "perplexity"))]).replace(
                "*", "\\*"
            )
        )
    parts.append("\n".join(lines))
    parts.append(
        f"{_scale(race)} Interquartile mean over {race['seeds']} seeds with its 95 % bootstrap interval. Seconds are "
        f"those of learning, on {race['threads']} thread(s), {race['processes']} runs side by side; perplexity, KL and "
        "regret after equal time."
    )
    return "\n\n".join(parts) + "\n"


def _scale(race: dict[str, Any]) -> str:
    if "temperature" not in race:  # of an earlier version
        return "Score: (greedy return - random)/(optimum - random)."
    tau = race["temperature"]
    what = f"of the policy at temperature {tau:g}, E[return] + {tau:g}·entropy" if tau else "of the greedy text"
    return (
        f"Score {what}: 0 is the best trivial policy, which learns nothing, 1 the optimum. Regret: nats a text below "
        "the optimum."
    )


def _lead(result: dict[str, Any], order: list[str]) -> str:
    """One sentence: when the first entry in `order` reached the final score of the second."""
    scores = [result["rows"][name]["seconds"]["score"] for name in order[:2]]
    if len(order) < 2 or None in scores:
        return ""
    (first, second), level = order[:2], scores[1][0]
    runs, whole = result["runs"][first]["seconds"], result["race"]["max_seconds"]
    seconds, steps = (_reached(runs, level, unit) for unit in ("seconds", "env_steps"))
    if not seconds or not steps:
        return ""
    taken = result["rows"][second]["seconds"]["env_steps"]
    share = f"1/{whole / seconds:.0f}" if whole >= 2.0 * seconds else f"{seconds / whole:.2g}"
    return (
        f"\n\n{first} first had the {level:.3f} that {second} ends with after {seconds:.3g} s, "
        f"{share} of the time, and {steps:,.0f} steps, where {second} took {taken:,.0f}."
    )


def _line(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _score(value: list[float] | None) -> str:
    return "-" if value is None else f"{value[0]:.3f} [{value[1]:.3f}, {value[2]:.3f}]"


def _short(leg: dict[str, Any], total: int) -> str:
    """A note with the steps of a run that ended by time before `total` steps."""
    reached = leg["env_steps"]
    return f" (time ended at {reached:,.0f})" if reached and reached < 0.95 * total else ""


def _figure(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if 1000 <= abs(value) < 1e6 else f"{value:.3g}"


def _plot(
    config: RaceConfig, at_steps: dict[str, Runs], at_seconds: dict[str, Runs], references: dict[str, Any], path: Path
) -> None:
    """Plot learning curves, median and range over seeds, with one row of panels for each class of entries."""
    present = {entry.source for entry in config.entries.values()}
    classes = [source for source in CLASSES if source in present]
    style: Any = {"axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.alpha": 0.25}
    with matplotlib.rc_context(style):
        figure = Figure(figsize=(13, 4.6 * len(classes)), layout="constrained")
        grid = figure.subplots(len(classes), 2, squeeze=False)
        for line, source in enumerate(classes):
            names = [name for name, entry in config.entries.items() if entry.source == source]
            for axes, unit, legs in zip(grid[line], ("seconds", "env_steps"), (at_seconds, at_steps), strict=True):
                for number, name in enumerate(names):
                    _curve(axes, [run["rows"] for run in legs[name] if run["rows"]], unit, name, number)
                for name in ("optimum", "p* sampled", "same text for every prompt"):
                    value = references.get(name, {}).get("score")
                    if value is not None:
                        axes.axhline(value, color="0.4", linestyle=":", linewidth=1)
                        axes.annotate(name, (1.0, value), xycoords=("axes fraction", "data"), fontsize=7, ha="right")
                label = "seconds of learning" if unit == "seconds" else "environment steps"
                axes.set(xlabel=label, ylabel="normalized score", title=CLASSES[source], xscale="log")
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
    colour = matplotlib.colormaps["tab20"](number % 20)
    places = np.geomspace(max(p[0][0] for p in points), min(p[-1][0] for p in points), 60)
    heights = np.array([np.interp(places, *np.transpose(p)) for p in points])
    axes.plot(places, np.median(heights, axis=0), color=colour, label=name, linewidth=1.6)
    axes.fill_between(places, heights.min(0), heights.max(0), color=colour, alpha=0.15, linewidth=0)
