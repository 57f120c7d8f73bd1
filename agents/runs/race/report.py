"""The report of a race: figures of every entry, comparisons, and the files that hold them."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from ....envs.text import write_json, write_text_atomically
from .config import LEGS, EntryConfig, RaceConfig, plain_race
from .curves import plot_race
from .statistics import interquartile_mean, is_ahead, paired
from .table import CLASSES, LEVELS, reached, table

Runs = list[dict[str, Any]]
_CSV = ("runs", "score", "score_low", "score_high", "regret", "return", "kl", "perplexity", "env_steps", "seconds")
_OF_A_RUN = ("score", "regret", "greedy_return", "sampled_return", "kl", "env_steps", "seconds")


def report(
    config: RaceConfig,
    chosen: dict[str, dict[str, Any]],
    results: dict[str, dict[str, Runs]],
    references: dict[str, Any],
    machine: dict[str, Any],
    folder: Path,
) -> dict[str, Any]:
    """Write table.md, curves.png, result.json, result.csv and runs.csv; returns the content of result.json.

    Args:
        config: the race.
        chosen: for each entry its settings and the trials of the search.
        results: for each leg and entry the runs, world by world, each in the order of seeds.
        references: see `references.references`.
        machine: see `machine.note_start`.
        folder: folder of the race.
    """
    rows = {
        name: _row(entry, {leg: runs[name] for leg, runs in results.items()}, len(chosen[name]["tried"]), config)
        for name, entry in config.entries.items()
    }
    result = {
        "race": plain_race(config), "machine": machine, "rows": rows, "references": references["rows"],
        "comparisons": {leg: _comparisons(rows, runs, config) for leg, runs in results.items()}, "chosen": chosen,
        "runs": {name: {leg: runs[name] for leg, runs in results.items()} for name in rows},
    }  # fmt: skip
    write_json(folder / "result.json", result)
    write_text_atomically(folder / "result.csv", _csv_of_rows(rows, results))
    write_text_atomically(folder / "runs.csv", _csv_of_runs(config, results))
    write_text_atomically(folder / "table.md", table(result))
    classes = {title: [name for name in rows if rows[name]["class"] == title] for title in CLASSES.values()}
    present = {title: names for title, names in classes.items() if names}
    plot_race(present, results, references["rows"], folder / "curves.png")
    return result


def _row(entry: EntryConfig, legs: dict[str, Runs], trials: int, config: RaceConfig) -> dict[str, Any]:
    """Statistics of one entry over its runs."""
    row: dict[str, Any] = {"class": CLASSES[entry.source], "algorithm": entry.algorithm, "trials": trials}
    failed = [run["error"] for runs in legs.values() for run in runs if run["error"]]
    row["error"] = failed[0] if failed else None
    for leg in LEGS:  # one that was not run has no values
        runs = legs.get(leg, [])
        done = [run for run in runs if run["rows"]]
        last = [run["rows"][-1] for run in done]
        row[leg] = {
            "runs": len(done),
            "score": interquartile_mean(_by_world(runs, "score", config)),
            "scores": [run["score"] for run in last],
            "regret": interquartile_mean(_by_world(runs, "regret", config)),
            "return": interquartile_mean(_by_world(runs, "greedy_return", config)),
            "kl": _median([r["kl"] for r in last]),
            "perplexity": _median([run["perplexity"] for run in done]),
            "env_steps": _median([r["env_steps"] for r in last]),
            "seconds": _median([r["seconds"] for r in last]),
        }
        for level in LEVELS:
            for unit in ("seconds", "env_steps"):
                row[leg][f"{unit} to {level}"] = reached(done, level, unit)
    return row


def _by_world(runs: Runs, figure: str, config: RaceConfig) -> list[list[float | None]]:
    """The last figure of every run, for each world in the order of seeds; None for a run without."""
    values = [run["rows"][-1][figure] if run["rows"] else None for run in runs]
    return [values[first : first + config.seeds] for first in range(0, len(values), config.seeds)]


def _comparisons(rows: dict[str, Any], runs: dict[str, Runs], config: RaceConfig) -> list[dict[str, Any]]:
    """Every pair of entries of a class, by regret as on the board, by greedy return where the optimum is unknown.

    Scores are not compared: a world whose best trivial policy is close to the optimum would outweigh all others.
    """
    found = []
    for first, second in combinations(rows, 2):
        if rows[first]["class"] != rows[second]["class"]:
            continue
        known = any(run["rows"] and run["rows"][-1]["regret"] is not None for run in runs[first])
        figure = "regret" if known else "greedy_return"
        values = [_by_world(runs[name], figure, config) for name in (first, second)]
        if figure == "regret":
            values.reverse()  # the difference is how much better the first is
        compared = paired(*values)
        if compared["difference"] is not None and compared["difference"] < 0.0:
            first, second, compared = second, first, paired(*values[::-1])
        found.append({"first": first, "second": second, "figure": figure, **compared, "ahead": is_ahead(compared)})
    return found


def _csv_of_rows(rows: dict[str, Any], results: dict[str, Any]) -> str:
    lines: list[Sequence[Any]] = [("entry", "class", "algorithm", "trials", "leg", *_CSV, "error")]
    for name, row in rows.items():
        for leg in results:
            of = row[leg]
            score = of["score"] or [None] * 3
            middles = [(of[key] or [None])[0] for key in ("regret", "return")]
            rest = [of[key] for key in ("kl", "perplexity", "env_steps", "seconds")]
            named = (name, row["class"], row["algorithm"], row["trials"], leg)
            lines.append((*named, of["runs"], *score, *middles, *rest, row["error"]))
    return _csv(lines)


def _csv_of_runs(config: RaceConfig, results: dict[str, dict[str, Runs]]) -> str:
    lines: list[Sequence[Any]] = [("entry", "leg", "world", "seed", *_OF_A_RUN, "perplexity", "error")]
    places = [(world, seed) for world in config.raced_worlds for seed in range(config.seeds)]
    for leg, entries in results.items():
        for name, runs in entries.items():
            for (world, seed), run in zip(places, runs, strict=True):
                last = run["rows"][-1] if run["rows"] else {}
                figures = [last.get(key) for key in _OF_A_RUN]
                lines.append((name, leg, world, seed, *figures, run.get("perplexity"), run["error"]))
    return _csv(lines)


def _csv(lines: list[Sequence[Any]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(lines)  # None becomes an empty cell
    return text.getvalue()


def _median(values: list[float | None]) -> float | None:
    known = [v for v in values if v is not None and np.isfinite(v)]
    return float(np.median(known)) if known else None
