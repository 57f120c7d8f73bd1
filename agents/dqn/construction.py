"""What an agent is made of, from its configuration and the environment's."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ...envs import EnvConfig, Phrases, Vocabulary, World, mine_phrases, valid_actions
from ...envs.text import Tokenizer
from ..configuration import AgentConfig
from ..network_config import NetworkConfig
from ..networks import Heads, PretrainedSettings, QNetwork, make_network
from ..networks.word_vectors import use_word_vectors
from ..precision import DTYPES
from .exploration import Counts, UntriedMass
from .replay import EpisodeReplay
from .update import ActionRules

_MARGIN_BINS = 4
_NORMALISED = ("transformer", "seq2seq_transformer", "pretrained")  # hidden vectors are behind a LayerNorm already


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


def make_q_network(
    config: AgentConfig,
    env: EnvConfig,
    vocab_size: int,
    tokenizer: Tokenizer | None = None,
    saved: Path | None = None,
    phrases: Phrases | None = None,
) -> QNetwork:
    """The Q-network, long enough for the environment's texts.

    Args:
        config: the learner's settings.
        env: the environment's arguments.
        vocab_size: V.
        tokenizer: the environment's, which pretrained weights and word vectors are matched by.
        saved: the folder of a saved agent whose weights will be loaded, so that no others are read; None for none.
        phrases: that one decision may write; None for single tokens alone.
    """
    network = config.network
    # Corpus episodes and full windows must both fit, and one place more for the last token written.
    longest = env.context_length + env.max_new_tokens + 1
    own: dict[str, Any]
    if network.name == "tabular":
        prompt = env.context_length - 1 if env.has_pairs else env.prompt_length[1]
        own = {"longest": prompt + env.max_new_tokens}
    elif network.name == "pretrained":
        own = {"settings": _pretrained_settings(network), "tokenizer": tokenizer, "saved": saved}
    else:
        own = {"hidden_size": network.hidden_size, "num_layers": network.num_layers, "dropout": network.dropout}
    if network.name in ("lstm", "seq2seq_lstm"):
        own |= {"embedding_size": network.embedding_size, "chunk_length": network.chunk_length}
    if network.name in ("transformer", "seq2seq_transformer"):
        own |= {"num_heads": network.num_heads}
    if network.name == "lstm":
        own |= {"skip": network.skip}
    elif network.name == "transformer":
        own |= {"positions": network.positions, "attention_window": network.attention_window}
    if network.name not in ("lstm", "tabular"):
        own |= {"max_length": longest}
    heads = dataclasses.replace(make_heads(config), num_actions=phrases.num_actions if phrases else None)
    made = make_network(network.name, vocab_size, heads=heads, **own)
    if network.embedding_file is not None and saved is None:
        if tokenizer is None:
            raise ValueError("embedding_file needs the environment's tokenizer; it is for DQN")
        found = use_word_vectors(made.embedding, network.embedding_file, tokenizer)  # type: ignore[arg-type]
        made.notes += (f"{network.embedding_file}: vectors of {found:,} of {vocab_size:,} tokens",)
    return made


def _pretrained_settings(network: NetworkConfig) -> PretrainedSettings:
    return PretrainedSettings(
        network.pretrained or "", network.lora_rank, network.gradient_checkpointing, DTYPES[network.weight_dtype]
    )


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
        layer_norm=network.name not in _NORMALISED and (network.layer_norm or loss == "pqn"),
    )


def make_rules(
    env: EnvConfig,
    vocab_size: int,
    device: torch.device,
    tokenizer: Tokenizer | None = None,
    phrases: Phrases | None = None,
    single: bool = False,
) -> ActionRules:
    """Masks, horizon and rewards of the environment; a task of pairs needs its tokenizer.

    With `single` only those actions are valid that write one token.
    """
    valid = valid_actions(vocab_size, env, tokenizer)
    if phrases is not None:
        valid = phrases.mask(valid, np.int64(env.max_new_tokens), env.min_new_tokens)
        valid &= (phrases.lengths == 1) | (not single)
    return ActionRules(
        torch.from_numpy(valid).to(device),
        Vocabulary.EOS,
        env.min_new_tokens,
        env.max_new_tokens,
        env.reward_every,
        env.log_prob_weight,
        max(0.0, env.sequence_weight) if env.sequence_reward else 0.0,
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
