"""Which of a run's evaluations was the best: its weights are the ones that are kept."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from ...envs import EnvConfig

_OF_THE_TASK = {"qa": "token_f1", "translation": "bleu", "classification": "accuracy"}


def judged_by(env: EnvConfig, temperature: float) -> tuple[str, bool]:
    """The figure of an evaluation that says how good it is, and whether less of it is better.

    Tasks of pairs have their own metric. At τ = 1 with log-likelihood rewards it is perplexity, at τ = 0 the greedy
    return, at other temperatures the soft regret.

    Args:
        env: the environment's arguments.
        temperature: τ at the end of training.
    """
    if env.has_pairs:
        return _OF_THE_TASK[env.task], False
    if temperature == 1.0 and env.pays_log_likelihood:
        return "perplexity", True
    return ("greedy_return", False) if temperature == 0.0 else ("regret", True)


def merit(row: Mapping[str, Any], env: EnvConfig, temperature: float) -> tuple[float, float]:
    """How good an evaluation on validation documents is; of two, the larger one is better.

    It is the figure that `judged_by` names, and where that is equal perplexity. Where the optimum is unknown, all rows
    have the same regret.

    Args:
        row: of results.jsonl.
        env: the environment's arguments.
        temperature: τ at the end of training.
    """
    name, lower = judged_by(env, temperature)
    fit = _number(row.get("perplexity"), lower=True)
    return _number(row.get(name), lower), fit if name != "regret" else 0.0


def best_row(rows: list[dict[str, Any]], env: EnvConfig, temperature: float) -> int:
    """Place of the best row in `rows`, the last of equals; `rows` is not empty."""
    return max(range(len(rows)), key=lambda place: (merit(rows[place], env, temperature), place))


def _number(value: float | None, lower: bool = False) -> float:
    if value is None or math.isnan(value):
        return -math.inf
    return -value if lower else value
