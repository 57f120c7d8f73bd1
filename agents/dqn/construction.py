"""What an agent is made of, from its configuration and the environment's."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import torch

from ...envs import EnvConfig, Phrases, Vocabulary, World, mine_phrases, valid_actions
from ..configuration import AgentConfig
from ..networks import Heads, QNetwork, make_network
from .replay import EpisodeReplay
from .update import ActionRules

_MARGIN_BINS = 4


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


def make_q_network(config: AgentConfig, env: EnvConfig, vocab_size: int, phrases: Phrases | None = None) -> QNetwork:
    """The Q-network, long enough for the environment's texts."""
    network = config.network
    # Corpus episodes and full windows must both fit, and one place more for the last token written.
    longest = env.context_length + env.max_new_tokens + 1
    own: dict[str, Any]
    if network.name == "tabular":
        own = {"longest": env.prompt_length[1] + env.max_new_tokens}
    else:
        own = {"hidden_size": network.hidden_size, "num_layers": network.num_layers, "dropout": network.dropout}
    if network.name == "lstm":
        own |= {"embedding_size": network.embedding_size, "skip": network.skip}
    if network.name == "transformer":
        own |= {"num_heads": network.num_heads, "positions": network.positions, "max_length": longest}
    heads = dataclasses.replace(make_heads(config), num_actions=phrases.num_actions if phrases else None)
    return make_network(network.name, vocab_size, heads=heads, **own)


def make_heads(config: AgentConfig) -> Heads:
    """The heads that the learning rule needs."""
    network, loss = config.network, config.loss
    distributional, low, high = loss in ("c51", "quantile"), *config.value_range
    if loss == "hl_gauss":  # a histogram's Gaussians need room on both sides to keep their mean
        margin = _MARGIN_BINS * (high - low) / config.atoms
        low, high = low - margin, high + margin
    return Heads(
        initial_value=network.initial_value,
        value_scale=network.value_scale,
        atoms=config.atoms if distributional else 1,
        value_bins=config.atoms if loss == "hl_gauss" else 1,
        support=(low, high),
        quantiles=loss == "quantile",
        behaviour=config.advantage_weight if loss in ("ilql", "q_sft") else None,
        likelihood_ratio=loss == "q_sft",
        rewards=config.redistribute,
        noisy=network.noisy,
        layer_norm=network.name != "transformer" and (network.layer_norm or loss == "pqn"),
    )


def make_rules(
    env: EnvConfig, vocab_size: int, device: torch.device, phrases: Phrases | None = None, single: bool = False
) -> ActionRules:
    """Masks and horizon of the environment; with `single` only those actions are valid that write one token."""
    valid = valid_actions(vocab_size, env)
    if phrases is not None:
        valid = phrases.mask(valid, np.int64(env.max_new_tokens), env.min_new_tokens)
        valid &= (phrases.lengths == 1) | (not single)
    return ActionRules(
        torch.from_numpy(valid).to(device),
        Vocabulary.EOS,
        env.min_new_tokens,
        env.max_new_tokens,
        env.reward_every,
        phrases,
    )


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
