"""What an agent is made of, from its configuration and the environment's."""

from __future__ import annotations

import torch

from ...envs import EnvConfig, Phrases, World, mine_phrases
from ..acting.exploration import Counts, UntriedMass
from ..replay.episodes import EpisodeReplay
from .config import AgentConfig


def make_phrases(
    config: AgentConfig, env: EnvConfig, world: World | None, given: Phrases | None = None
) -> Phrases | None:
    """The phrases that the agent may write by one decision, `given` or mined from the training documents."""
    if not config.phrases:
        return None
    if env.transition != "free":
        raise ValueError(
            f"phrases need the transition 'free', not {env.transition!r}, which writes the document's own tokens"
        )
    if given is not None:
        return given
    if world is None:
        raise ValueError("phrases are mined from an environment's documents; load a saved agent with DQN.load(path)")
    return mine_phrases(world, env, config.phrases, config.phrase_length)


def make_counts(config: AgentConfig, env: EnvConfig, actions: int, device: torch.device) -> Counts | None:
    """What exploration counts, None where it is uniform."""
    if config.exploration == "uniform":
        return None
    if config.exploration == "least_tried":
        return Counts(actions, device)
    if not env.pays_log_likelihood or env.reward_every != 1:
        raise ValueError(
            "exploration 'untried_mass' needs the log-likelihood of every token as its reward (reward_every 1, "
            "log_prob_weight 1, no sequence_reward); use 'least_tried' here"
        )
    return UntriedMass(actions, device)


def make_replay(
    config: AgentConfig, env: EnvConfig, world: World, device: torch.device, phrases: Phrases | None = None
) -> EpisodeReplay:
    """An empty replay for the agent's own episodes; raises ValueError where it cannot hold those side by side."""
    capacity = config.replay_capacity // env.max_new_tokens
    if config.loss == "pqn":  # what was just written and no more
        capacity = max(config.num_envs, config.batch_size)
    if capacity < config.num_envs:
        raise ValueError(
            f"a replay_capacity of {config.replay_capacity:,} tokens holds {capacity} episodes of {env.max_new_tokens} "
            f"tokens, fewer than the {config.num_envs} environments write at a time; make it at least "
            f"{config.num_envs * env.max_new_tokens:,}"
        )
    longest = int(world.documents[env.split].longest_prompt.max()) + 1
    return EpisodeReplay(
        capacity,
        min(longest, env.context_length),
        env.max_new_tokens,
        phrases.num_actions if phrases else world.vocab_size,
        keeps_actions=env.transition == "teacher" or phrases is not None,
        keeps_durations=phrases is not None,
        device=device,
    )
