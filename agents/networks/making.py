"""Make a network from its name and settings."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from ...envs import EnvConfig, Phrases, nearest
from ...envs.arguments import make_settings
from ...envs.text import Tokenizer
from .base import QNetwork
from .config import NetworkConfig, longest_text
from .heads import Heads
from .lstm import LSTMConfig
from .mlp import MLPConfig
from .module import ModuleConfig, ModuleQNetwork
from .pretrained import PretrainedConfig, is_encoder_decoder
from .pretrained_causal import PretrainedCausalQNetwork
from .pretrained_seq2seq import PretrainedSeq2SeqQNetwork
from .seq2seq_lstm import Seq2SeqLSTMConfig
from .seq2seq_transformer import Seq2SeqTransformerConfig
from .tabular import TabularConfig
from .transformer import TransformerConfig
from .word_vectors import use_word_vectors


@dataclasses.dataclass(frozen=True)
class _Pretrained(PretrainedConfig):
    __doc__ = PretrainedConfig.__doc__

    def make(
        self, vocab_size: int, heads: Heads, env: EnvConfig, tokenizer: Tokenizer | None, saved: Path | None
    ) -> QNetwork:
        """Make the network, causal or encoder–decoder like its model."""
        kind = PretrainedSeq2SeqQNetwork if is_encoder_decoder(self, saved) else PretrainedCausalQNetwork
        return kind(vocab_size, self, longest_text(env), tokenizer, saved, heads)


NETWORKS: dict[str, type[NetworkConfig]] = {
    "lstm": LSTMConfig,
    "transformer": TransformerConfig,
    "mlp": MLPConfig,
    "seq2seq_lstm": Seq2SeqLSTMConfig,
    "seq2seq_transformer": Seq2SeqTransformerConfig,
    "pretrained": _Pretrained,
    "tabular": TabularConfig,
    "module": ModuleConfig,
}


def network_config(
    network: NetworkConfig | Mapping[str, Any] | str | None, base: NetworkConfig | None = None
) -> NetworkConfig:
    """The configuration of a network from its name or settings.

    Args:
        network: its name, its settings with or without "name", or a configuration, which is returned unchanged.
        base: supplies the name if `network` has none, and the defaults if the names are equal; None for the LSTM.

    Raises ValueError for an unknown name or a setting that the network does not have.
    """
    if isinstance(network, NetworkConfig):
        return network
    if not isinstance(network, (str, Mapping)) and network is not None:
        raise ValueError(f"network must be a name or settings by name, not {network!r}")
    given = {"name": network} if isinstance(network, str) else dict(network or {})
    name = given.pop("name", base.name if base else "lstm")
    if not isinstance(name, str) or name not in NETWORKS:
        raise ValueError(f"network {name!r} is unknown{nearest(name, NETWORKS)}; use one of {', '.join(NETWORKS)}")
    if base is not None and base.name == name:
        given = {**{f.name: getattr(base, f.name) for f in dataclasses.fields(base) if f.name != "name"}, **given}
    return make_settings(NETWORKS[name], given, f"the network {name!r}", NETWORKS)


def saved_network(settings: Any) -> Any:
    """Settings of a network as a file has them: before there were layouts, a transformer had that of a GPT."""
    if isinstance(settings, Mapping) and settings.get("name") == "transformer":
        return {"layout": "gpt", **settings}
    return settings


def make_q_network(
    network: NetworkConfig,
    env: EnvConfig,
    vocab_size: int,
    heads: Heads | None = None,
    *,
    tokenizer: Tokenizer | None = None,
    saved: Path | None = None,
    phrases: Phrases | None = None,
    module: nn.Module | None = None,
) -> QNetwork:
    """Make a Q-network that fits the longest text of the environment.

    Args:
        network: its settings.
        env: the environment's arguments.
        vocab_size: V.
        heads: those that the learning rule needs.
        tokenizer: the environment's, needed for pretrained weights and word vectors.
        saved: folder of a saved agent whose weights the caller loads afterwards; no pretrained weights or word vectors
            are read. None for a new agent.
        phrases: phrases that are actions too; None if only tokens are.
        module: the module of a `ModuleConfig`.
    """
    heads = heads or Heads()
    heads = dataclasses.replace(
        heads,
        initial_value=network.initial_value,
        value_scale=network.value_scale,
        noisy=network.noisy,
        layer_norm=not network.normalized and (network.layer_norm or heads.layer_norm),
        num_actions=phrases.num_actions if phrases else None,
    )
    if module is not None:
        return ModuleQNetwork(vocab_size, module, longest_text(env), heads)
    made = network.make(vocab_size, heads, env, tokenizer, saved)
    if network.embedding_file is not None and saved is None:
        if tokenizer is None:
            raise ValueError("embedding_file needs the environment's tokenizer, which only DQN passes on")
        embedding = made.get_submodule("embedding")
        if isinstance(embedding, nn.Embedding):
            found = use_word_vectors(embedding, network.embedding_file, tokenizer)
            made.notes += (f"{network.embedding_file}: vectors of {found:,} of {vocab_size:,} tokens",)
    return made
