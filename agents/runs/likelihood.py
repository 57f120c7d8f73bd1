"""Maximum likelihood beside a run: trained on the same network, judged by its likelihood, kept in the run's folder."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..dqn.config import AgentConfig
from ..evaluation.evaluate import score_text
from ..protocol import BaseAgent
from .algorithms import load, make
from .config import RunConfig
from .figures import pair_figures
from .output import progress_line
from .selection import best_row

FOLDER = "maximum-likelihood"  # in the folder of the run
_NAME = "maximum-likelihood"
_CHECKS = 12  # evaluations while it learns
_OVERFITTED = 1.2  # perplexity over the best one before


def wants_baseline(config: RunConfig) -> bool:
    """Whether a run trains maximum likelihood to compare with."""
    return config.baseline_seconds != 0 and not config.agent.rule.maximum_likelihood


def train_baseline(
    config: RunConfig, seconds: float, rows: list[dict[str, Any]], stop_if_asked: Callable[[], None], quiet: bool
) -> BaseAgent:
    """Maximum likelihood on the network of a run, with its best weights on the validation documents.

    Args:
        config: of the run.
        seconds: of learning, where `baseline_seconds` does not say.
        rows: takes its evaluations.
        stop_if_asked: called after every step; what it raises ends the training.
        quiet: show no progress.
    """
    limit = seconds if config.baseline_seconds is None else config.baseline_seconds
    learner = config.agent
    if "network" in config.algorithm_settings:
        learner = AgentConfig.of(learner, {"network": config.algorithm_settings["network"]})
    baseline: Any = make(_NAME, config.env, config.seed, config.device, config=learner)
    best, best_weights = -1, None
    # What it is judged by: the likelihood alone.
    judged = dataclasses.replace(config.env, sequence_reward="", log_prob_weight=1.0, form_bonus=0.0)
    with progress_line(quiet, total=round(limit), unit="s", desc="maximum likelihood") as bar:

        def after_step(agent: Any) -> bool:
            nonlocal best, best_weights
            stop_if_asked()
            if agent.learning_seconds < len(rows) * limit / _CHECKS:
                return True
            perplexity = score_text(agent, "valid", config.evaluation_documents).perplexity or float("inf")
            trained = agent.learner.transitions_trained
            row = {"wall_seconds": agent.learning_seconds, "transitions_trained": trained, "perplexity": perplexity}
            rows.append(row | pair_figures(agent, config, "valid", config.evaluation_documents))
            bar.set_postfix(perplexity=f"{perplexity:.1f}", refresh=False)
            bar.update(min(round(limit), round(agent.learning_seconds)) - bar.n)
            if (found := best_row(rows, judged, 1.0)) != best:
                best, best_weights = found, agent.weights()
            # Once it overfits for good, more time would only blur the picture.
            return config.env.has_pairs or perplexity < _OVERFITTED * rows[best]["perplexity"]

        baseline.train(2**62, after_step, max_seconds=limit)
    if best_weights is not None:
        baseline.take_weights(best_weights)
    trained: BaseAgent = baseline
    return trained


def baseline_figures(baseline: BaseAgent | None, config: RunConfig) -> dict[str, Any] | None:
    """What maximum likelihood reaches on the test documents, and how long it learned; None without it."""
    if baseline is None:
        return None
    return {
        "perplexity": score_text(baseline, "test").perplexity,
        "wall_seconds": baseline.learning_seconds,
        "transitions_trained": baseline.transitions_trained,
        **pair_figures(baseline, config, "test", None),
    }


def load_baseline(folder: str | Path, config: RunConfig, device: str = "auto", trust: bool = False) -> BaseAgent | None:
    """Maximum likelihood as a run kept it; None where the run has none, as those of earlier versions.

    Args:
        folder: of the run.
        config: of the run.
        device: "auto", "cpu", "cuda" or "mps".
        trust: import code that the folder names, and read files that were changed since they were saved.

    Raises ValueError for damaged files and, without `trust`, for names of code.
    """
    place = Path(folder) / FOLDER
    if not place.exists():
        return None
    loaded: BaseAgent = load(_NAME, place, config.env, device, trust=trust)
    return loaded
