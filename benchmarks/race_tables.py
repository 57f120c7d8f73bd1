"""Tables of the committed races, for docs/results/races.md."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from result_tables import best_text, load, source

RACES = {
    "factored": "race_factored",
    "factored-seconds": "race_factored_seconds",
    "factored-120": "race_factored_120",
    "factored-soft": "race_factored_soft",
    "factored-model": "race_factored_model",
    "factored-corpus": "race_factored_corpus",
    "markov": "race",
    "markov-soft": "race_markov_soft",
    "markov-model": "race_markov_model",
    "markov-defaults": "race_markov_defaults",
}
_BEST = "What the score 1 looks like: after `{prompt}` in world 0 the best text is `{text}`, {nats} nats."
_TEMPERATURES = {0.0: "0", 0.5: "½", 1.0: "1"}
_REWARDS = "From rewards alone"
_PLANNER = "reward model with planning"


def race_table(name: str) -> str:
    """The tables of a race's own report."""
    result = load(f"race-{name}.json")
    world = f"TokenLM-{name.split('-')[0].capitalize()}-v0"
    parts = [_without_zero(result).rstrip()]
    if result["settings"]["temperature"] == 0.0 and (best := best_text(world, _BEST)):
        parts.append(best)
    return "\n\n".join(parts) + source(result, "Settings, trials and spread are in the JSON beside")


def _without_zero(result: dict[str, Any]) -> str:
    """The table without the KL of policies at temperature 0, which races of earlier versions have as 0."""
    leg = result["settings"]["legs"][0]
    never = {row["entry"] for row in result["rows"] if row[leg]["kl"] == 0.0}
    lines = [line.split(" | ") for line in result["settings"]["table"].split("\n")]
    column = next(cells.index("KL") for cells in lines if "KL" in cells)
    for cells in lines:
        if cells[0].removeprefix("| ") in never:
            cells[column] = "-"
    return "\n".join(" | ".join(cells) for cells in lines)


def cells_table() -> str:
    """Who is first in every world and class, our two entries, the best of the others, and what may be said."""
    lines = [
        "| world | τ | learns from | each has | first | reward model with planning | our DQN | best of the others "
        "| first against the other side |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name in RACES:
        result = load(f"race-{name}.json")
        settings, world = result["settings"], name.split("-")[0]
        leg, tau = settings["legs"][0], _TEMPERATURES[settings["temperature"]]
        budget = f"{settings['total_steps']:,} steps" if leg == "steps" else f"{settings['max_seconds']:g} s"
        if name.endswith("-defaults"):
            budget += ", defaults"
        for source_of in dict.fromkeys(row["class"] for row in result["rows"]):
            rows = {row["entry"]: row for row in result["rows"] if row["class"] == source_of}
            ours = [entry for entry in rows if entry.startswith((_PLANNER, "TokenLM"))]
            others = {entry: rows[entry] for entry in rows if entry not in ours}
            first, best = _best(rows, leg), _best(others, leg)
            planners = [entry for entry in ours if entry.startswith(_PLANNER)]
            planner = _cell(rows[planners[0]], leg) if planners else "-"
            dqn = _best({entry: rows[entry] for entry in ours if entry not in planners}, leg)
            against = best if first in ours else _best({entry: rows[entry] for entry in ours}, leg)
            source = "rewards" if source_of == _REWARDS else "rewards and corpus"
            lines.append(
                f"| {world.capitalize()} | {tau} | {source} | {budget} | {first} | {planner} | {_cell(rows[dqn], leg)} "
                f"| {best}, {_cell(others[best], leg)} | {_verdict(result, leg, first, against)} |"
            )
    return "\n".join(lines)


def _verdict(result: dict[str, Any], leg: str, first: str, second: str) -> str:
    """Whether the first of two entries is ahead, by the race's own comparison."""
    for compared in result["settings"]["comparisons"][leg]:
        if {compared["first"], compared["second"]} == {first, second}:
            p = "unknown" if compared["p"] is None else f"{compared['p']:.2g}"
            ahead = compared["ahead"] and compared["first"] == first
            return f"ahead, p = {p}" if ahead else f"not told apart, p = {p}"
    return "-"


def _best(rows: dict[str, Any], leg: str) -> str:
    return max(rows, key=lambda entry: (rows[entry][leg]["score"] or [float("-inf")])[0])


def _cell(row: dict[str, Any], leg: str) -> str:
    score = row[leg]["score"]
    return "-" if score is None else f"{score[0]:.3f} [{score[1]:.3f}, {score[2]:.3f}]"


RACE: dict[str, Callable[[], str]] = {
    "race_cells": cells_table,
    **{marker: partial(race_table, name) for name, marker in RACES.items()},
}
