"""The agent of a run, and what is measured of it on held-out documents while it learns."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from ...envs import Split, World
from ..devices import resolve_device
from ..evaluation.evaluate import score_text
from ..evaluation.playing import play, short_of_optimum
from ..evaluation.tasks import task_figures
from ..protocol import BaseAgent
from .algorithms import make, make_learner
from .config import RunConfig
from .share.dataset import read_dataset


def make_agent(config: RunConfig) -> BaseAgent:
    """The agent of a run, before training."""
    if config.algorithm == "dqn":
        agent = make_learner(config.env, config.agent, config.seed, config.device, config.actors)
    else:
        agent = make(config.algorithm, config.env, config.seed, config.device, **config.algorithm_settings)
    if config.dataset is not None:
        agent.use_episodes(read_dataset(config.dataset, config.env, resolve_device(config.device)))
    return agent


def objective_of(config: RunConfig, agent: BaseAgent) -> float:
    """τ of the objective that a run ends with; 0 for an agent without a temperature."""
    if config.algorithm == "dqn":
        return config.agent.temperatures.end
    return agent.temperature if agent.has_temperature else 0.0


def validation_figures(agent: BaseAgent, config: RunConfig) -> dict[str, Any]:
    """What an evaluation on validation documents measures of the agents of all algorithms alike."""
    world, objective = World.of(config.env), objective_of(config, agent)
    score = score_text(agent, "valid", config.evaluation_documents, env=config.env)
    arguments = (world, dataclasses.replace(config.env, split="valid"), config.evaluation_episodes, config.seed)
    greedy = play(agent, *arguments, temperature=0.0)
    sampled = play(agent, *arguments, temperature=agent.temperature, objective=objective)
    regrets = sampled.regret if objective > 0.0 else short_of_optimum(greedy, *arguments[:2])
    seconds = agent.learning_seconds
    return {
        "num_steps": agent.num_steps,
        "env_steps": agent.env_steps,
        "wall_seconds": round(seconds, 3),
        "env_steps_per_second": round(agent.env_steps / seconds) if seconds else 0,
        "perplexity": score.perplexity,
        "target_perplexity": score.target_perplexity,
        "bits_per_character": score.bits_per_character,
        "sampled_return": float(sampled.returns.mean()),
        "greedy_return": float(greedy.returns.mean()),
        "regret": None if np.isnan(regrets).any() else float(regrets.mean()),
        "kl_to_target": None if np.isnan(sampled.kl).any() else float(sampled.kl.mean()),
        **pair_figures(agent, config, "valid", config.evaluation_documents),
    }


def pair_figures(agent: BaseAgent, config: RunConfig, split: Split, limit: int | None) -> dict[str, Any]:
    """The metrics of a task of pairs as numbers, without the table of confusions; empty for other tasks."""
    if not config.env.has_pairs:
        return {}
    figures = task_figures(agent, World.of(config.env), config.env, split, limit, config.seed)
    figures.pop("confusion", None)
    return figures
