"""Which of a run's evaluations was the best: its weights are the ones that are kept."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from ...envs import EnvConfig

_OF_THE_TASK = {"qa": "token_f1", "translation": "bleu", "classification": "accuracy"}


def merit(row: Mapping[str, Any], env: EnvConfig, temperature: float) -> tuple[float, float]:
    """How good an evaluation on validation documents is; of two, the larger one is better.

    Tasks of pairs are compared by their own metric, and where it is equal by perplexity. At τ = 1 with log-likelihood
    rewards it is perplexity, at τ = 0 the greedy return, at other temperatures the soft regret; where the optimum is
    unknown, all rows are equal there.

    Args:
        row: of results.jsonl.
        env: the environment's arguments.
        temperature: τ at the end of training.
    """
    fit = _number(row.get("perplexity"), lower=True)
    if env.has_pairs:
        return _number(row.get(_OF_THE_TASK[env.task])), fit
    if temperature == 1.0 and env.pays_log_likelihood:
        return fit, 0.0
    if temperature == 0.0:
        return _number(row.get("greedy_return")), fit
    return _number(row.get("regret"), lower=True), 0.0


def best_row(rows: list[dict[str, Any]], env: EnvConfig, temperature: float) -> int:
    """Place of the best row in `rows`, the last of equals; `rows` is not empty."""
    return max(range(len(rows)), key=lambda place: (merit(rows[place], env, temperature), place))


def _number(value: float | None, lower: bool = False) -> float:
    if value is None or math.isnan(value):
        return -math.inf
    return -value if lower else value
