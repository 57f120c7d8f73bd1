"""Make a network by its name and settings."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ...envs import EnvConfig, Phrases, nearest
from ...envs.text import Tokenizer
from .base import QNetwork
from .config import NetworkConfig
from .heads import Heads
from .lstm import LSTMQNetwork
from .precision import DTYPES
from .pretrained import PretrainedQNetwork, PretrainedSettings, is_encoder_decoder
from .pretrained_causal import PretrainedCausalQNetwork
from .pretrained_seq2seq import PretrainedSeq2SeqQNetwork
from .seq2seq_lstm import Seq2SeqLSTMQNetwork
from .seq2seq_transformer import Seq2SeqTransformerQNetwork
from .tabular import TabularQNetwork
from .transformer import TransformerQNetwork
from .word_vectors import use_word_vectors

_NORMALISED = ("transformer", "seq2seq_transformer", "pretrained")  # hidden vectors are behind a LayerNorm already


def _pretrained(
    vocab_size: int, settings: PretrainedSettings, saved: Path | None = None, **others: Any
) -> PretrainedQNetwork:
    """The kind of network that the model is."""
    kind = PretrainedSeq2SeqQNetwork if is_encoder_decoder(settings, saved) else PretrainedCausalQNetwork
    return kind(vocab_size, settings, saved=saved, **others)


NETWORKS: dict[str, Callable[..., QNetwork]] = {
    "lstm": LSTMQNetwork,
    "transformer": TransformerQNetwork,
    "seq2seq_lstm": Seq2SeqLSTMQNetwork,
    "seq2seq_transformer": Seq2SeqTransformerQNetwork,
    "pretrained": _pretrained,
    "tabular": TabularQNetwork,
}


def make_network(name: str, vocab_size: int, **settings: Any) -> QNetwork:
    """The network called `name`, one of NETWORKS; `settings` are its constructor's."""
    if name not in NETWORKS:
        raise ValueError(f"network {name!r} is unknown{nearest(name, NETWORKS)}; use one of {', '.join(NETWORKS)}")
    return NETWORKS[name](vocab_size, **settings)


def make_q_network(
    network: NetworkConfig,
    env: EnvConfig,
    vocab_size: int,
    heads: Heads | None = None,
    *,
    tokenizer: Tokenizer | None = None,
    saved: Path | None = None,
    phrases: Phrases | None = None,
) -> QNetwork:
    """The Q-network, long enough for the environment's texts.

    Args:
        network: its settings.
        env: the environment's arguments.
        vocab_size: V.
        heads: those that the learning rule needs.
        tokenizer: the environment's, which pretrained weights and word vectors are matched by.
        saved: the folder of a saved agent whose weights will be loaded, so that no others are read; None for none.
        phrases: that one decision may write; None for single tokens alone.
    """
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
    heads = dataclasses.replace(
        heads or Heads(),
        initial_value=network.initial_value,
        value_scale=network.value_scale,
        noisy=network.noisy,
        layer_norm=network.name not in _NORMALISED and (network.layer_norm or (heads is not None and heads.layer_norm)),
        num_actions=phrases.num_actions if phrases else None,
    )
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
