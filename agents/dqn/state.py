"""What changes while a `DQN` trains, taken and put back."""

from __future__ import annotations

from typing import Any

import torch


def state_of(agent: Any) -> dict[str, Any]:
    """What changes while `agent`, a `DQN`, trains: of all processes, once each has called this."""
    own = _own_state(agent)
    return {
        "learner": agent.learner.state_dict(),
        **own,
        "others": [] if agent.ranks is None else agent.ranks.gathered(own)[1:],
        "env_steps": agent.env_steps,
        "num_steps": agent.num_steps,
        "progress": agent.progress,
        "learning_seconds": agent.learning_seconds,
        "last_metrics": agent.last_metrics,
    }


def take_state(agent: Any, state: dict[str, Any]) -> None:
    """Put back what `state_of` took, of as many processes as there are now."""
    agent.learner.load_state_dict(state["learner"])
    parts = [state, *state.get("others", [])]
    number = 0 if agent.ranks is None else agent.ranks.rank
    if number < len(parts):
        _take_own_state(agent, parts[number])
    if "env_steps" in state:
        agent.env_steps_before += int(state["env_steps"]) - agent.env_steps
    agent.num_steps, agent.progress = int(state["num_steps"]), float(state["progress"])
    agent.learning_seconds = float(state["learning_seconds"])
    agent.last_metrics = dict(state["last_metrics"])


def _own_state(agent: Any) -> dict[str, Any]:
    """What each process has of its own."""
    return {
        "replay": None if agent.replay is None else agent.replay.state_dict(),
        "collector": None if agent.collector is None else agent.collector.state_dict(),
        "imagination": None if agent.imagination is None else agent.imagination.state_dict(),
        "generator": agent.generator.get_state(),
        "sampler": None if agent.sampler is None else agent.sampler.state_dict(),
        "torch_generator": torch.get_rng_state(),
    }


def _take_own_state(agent: Any, state: dict[str, Any]) -> None:
    if agent.replay is not None and agent.collector is not None:
        agent.replay.load_state_dict(state["replay"])
        agent.collector.load_state_dict(state["collector"])
    if agent.imagination is not None:
        agent.imagination.load_state_dict(state["imagination"])
    agent.generator.set_state(state["generator"])
    if agent.sampler is not None:
        agent.sampler.load_state_dict(state["sampler"])
    torch.set_rng_state(state["torch_generator"])
