"""Algorithms by name, each imported when it is asked for: most need a library that is an extra."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ...envs import EnvConfig, nearest
from ...envs.arguments import load_named
from ..dqn.actors import ActorsConfig
from ..dqn.agent import DQN
from ..dqn.config import AgentConfig
from ..dqn.maximum_likelihood import MaximumLikelihood
from ..protocol import Agent, BaseAgent, complete

ALGORITHMS = {
    "dqn": "tokenlm.agents:DQN",
    "maximum-likelihood": "tokenlm.agents:MaximumLikelihood",
    "table": "tokenlm.agents.baselines.table:Table",
    "bandit": "tokenlm.agents.baselines.table:Bandit",
    "reward-model": "tokenlm.agents.planning.reward_model:RewardModel",
    "unigram": "tokenlm.agents.baselines.unigram:Unigram",
    "constant": "tokenlm.agents.baselines.references:Constant",
    "same-text": "tokenlm.agents.baselines.references:SameText",
    "beam": "tokenlm.agents.baselines.references:Beam",
    "oracle": "tokenlm.agents.baselines.references:OptimalPolicy",
    "sb3-dqn": "tokenlm.agents.baselines.sb3:SB3DQN",
    "sb3-ppo": "tokenlm.agents.baselines.sb3:SB3PPO",
    "sb3-a2c": "tokenlm.agents.baselines.sb3:SB3A2C",
    "sb3-qrdqn": "tokenlm.agents.baselines.sb3:SB3QRDQN",
    "sb3-maskable-ppo": "tokenlm.agents.baselines.sb3:SB3MaskablePPO",
    "sb3-recurrent-ppo": "tokenlm.agents.baselines.sb3:SB3RecurrentPPO",
    "tianshou-dqn": "tokenlm.agents.baselines.tianshou:TianshouDQN",
    "tianshou-rainbow": "tokenlm.agents.baselines.tianshou:TianshouRainbow",
    "torchrl-dqn": "tokenlm.agents.baselines.torchrl:TorchRLDQN",
    "rllib-dqn": "tokenlm.agents.baselines.rllib:RLlibDQN",
    "rllib-ppo": "tokenlm.agents.baselines.rllib:RLlibPPO",
    "reinforce": "tokenlm.agents.baselines.policy_gradient:REINFORCE",
    "grpo": "tokenlm.agents.baselines.policy_gradient:GRPO",
}

_OURS = ("dqn", "maximum-likelihood")
_KNOWING = ("constant", "same-text", "beam", "oracle")


def check_algorithm(name: str) -> None:
    """Raise ValueError for a name that is neither a known algorithm's nor of the form "module:Class"."""
    if name not in ALGORITHMS and ":" not in name:
        raise ValueError(
            f"algorithm {name!r} is unknown{nearest(name, ALGORITHMS)}; use one of {', '.join(ALGORITHMS)}, or "
            '"module:Class" for one of your own'
        )


def algorithm(name: str) -> Any:
    """The class of an algorithm, by its name here or as "module:Class" (see `Agent`)."""
    check_algorithm(name)
    return load_named(ALGORITHMS.get(name, name), "algorithm")


def is_ours(name: str) -> bool:
    """Whether the algorithm `name` is our learner, or a class derived from it; not one that cannot be imported."""
    if ":" not in name:
        return name in _OURS
    try:
        made = algorithm(name)
    except (ImportError, ValueError):
        return False
    return isinstance(made, type) and issubclass(made, DQN)


def make(name: str, env: EnvConfig, seed: int, device: str = "auto", **settings: Any) -> BaseAgent:
    """A new agent of the algorithm `name` in `env`; a class that is none raises ValueError.

    Args:
        name: see `algorithm`.
        env: the environment's arguments.
        seed: of everything random.
        device: "auto", "cpu", "cuda" or "mps".
        settings: the algorithm's own, and "pretrain": so many transitions of corpus episodes to begin with.
    """
    made = algorithm(name)
    # Our own agents have a setting of this name, other libraries' a method.
    transitions = 0 if is_ours(name) else settings.pop("pretrain", 0)
    with _unknown_settings(f"algorithm {name!r}", "leave this setting out"):
        agent = made(env, seed=seed, device=device, **settings)
    if not isinstance(agent, Agent):
        missing = [part for part in ("learn", "predict", "log_probs", "env_steps") if not hasattr(agent, part)]
        raise ValueError(f"algorithm {name!r} is no Agent: it lacks {', '.join(missing)}")
    completed = complete(agent, env)
    if transitions:  # learning too, so it is charged
        if not hasattr(agent, "pretrain"):
            raise ValueError(f"algorithm {name!r} cannot begin with corpus episodes: it has no method pretrain")
        began = time.perf_counter()
        agent.pretrain(transitions)
        completed.learning_seconds = completed.pretraining_seconds = time.perf_counter() - began
    if completed is not agent and hasattr(agent, "save"):
        completed.save = agent.save  # type: ignore[method-assign]
    return completed


def make_learner(
    env: EnvConfig, config: AgentConfig, seed: int, device: str = "auto", actors: ActorsConfig | None = None
) -> BaseAgent:
    """Our learner with the settings of `config`, and with actors where there are any."""
    agent = _learner(config)(env, config, seed=seed, device=device)
    agent.use_actors(actors or ActorsConfig())
    return agent


def load(
    name: str,
    folder: Path,
    env: EnvConfig | None,
    device: str = "auto",
    config: AgentConfig | None = None,
    trust: bool = False,
) -> Any:
    """The agent of the algorithm `name` that `save` wrote.

    Args:
        name: see `algorithm`.
        folder: where it was saved.
        env: the environment's arguments; None for one of ours that only predicts.
        device: "auto", "cpu", "cuda" or "mps".
        config: settings of our learner; None for other algorithms.
        trust: import code that the folder names, and read files that were changed since they were saved.
    """
    kind = algorithm(name) if config is None else _learner(config)
    if not hasattr(kind, "load"):
        raise ValueError(f"{folder} was trained by {name}, which has no method load")
    with _unknown_settings(f"{folder}, saved by {name!r} of another version", "train it again"):
        if name in ALGORITHMS or is_ours(name):
            return kind.load(folder, env, device, trust)
        return kind.load(folder, env, device)


@contextlib.contextmanager
def _unknown_settings(where: str, advice: str) -> Iterator[None]:
    """Raise ValueError for a setting that an algorithm does not have."""
    try:
        yield
    except TypeError as problem:
        if "unexpected keyword argument" not in str(problem):
            raise
        raise ValueError(f"{where}: {problem}; {advice}") from None


def check_settings_of(name: str, settings: Mapping[str, Any]) -> None:
    """Raise ValueError for settings that our learner does not have; other algorithms check theirs when made."""
    if name in _OURS:
        AgentConfig.of(None, settings)


def uses_corpus(name: str, settings: Mapping[str, Any]) -> bool:
    """Whether an algorithm with these settings sees corpus episodes, not rewards alone."""
    if name in ("maximum-likelihood", "unigram"):
        return True
    if is_ours(name):
        config = AgentConfig.of(None, settings).settled()
        return bool(config.corpus_share) or config.pretrain > 0
    return bool(settings.get("pretrain", 0))


def knows_target(name: str) -> bool:
    """Whether the algorithm is a reference that is told p*, so that it learns nothing."""
    return name in _KNOWING


def _learner(config: AgentConfig) -> type[DQN]:
    return MaximumLikelihood if config.rule.maximum_likelihood else DQN
