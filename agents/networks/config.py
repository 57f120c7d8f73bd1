"""Settings that several Q-networks share. The file of each network has a subclass with its own settings."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from ...envs import EnvConfig
from ...envs.arguments import check_settings, number
from ...envs.text import Tokenizer
from .base import QNetwork
from .heads import Heads


@dataclass(frozen=True)
class NetworkConfig:
    """A Q-network and its settings.

    Args:
        name: which network; each subclass has its own.
        initial_value: every Q-value before training, nats.
        value_scale: factor of the value head's output, nats. Returns given at the end of an episode reach hundreds of
            nats. If the value head learns this scale more slowly than the policy, the policy absorbs the difference.
        noisy: learned noise on the weights of the heads, for exploration (Fortunato et al. 2018).
        unigram_bias: where corpus episodes are learned from, the bias of the action head begins at the log frequencies
            of their actions.

    Attributes:
        normalized: the network's hidden vectors are the output of a LayerNorm.
        layer_norm: put a LayerNorm before the heads.
        embedding_file: file of word vectors that initialise the token embedding, or None.
        takes_phrases: the action head can have a row for each phrase.
    """

    normalized = False
    layer_norm = False
    embedding_file = cast("str | None", None)
    takes_phrases = True

    name: str = ""
    initial_value: float = number(0.0, -math.inf)
    value_scale: float = number(1.0, 1e-9)
    noisy: bool = False
    unigram_bias: bool = True

    def __post_init__(self) -> None:
        """Raise ValueError for a setting that cannot work."""
        check_settings(self)

    @property
    def is_deterministic(self) -> bool:
        """Whether a pass while training is the same as one while acting: no dropout, no noise. False if unknown."""
        return False

    def make(
        self, vocab_size: int, heads: Heads, env: EnvConfig, tokenizer: Tokenizer | None, saved: Path | None
    ) -> QNetwork:
        """Make the network.

        Args:
            vocab_size: V.
            heads: which heads it has.
            env: the environment's arguments, which determine the longest text.
            tokenizer: the environment's.
            saved: folder of a saved agent whose weights the caller loads afterwards; no pretrained weights are read.
                None for a new agent.
        """
        raise NotImplementedError


@dataclass(frozen=True)
class EmbeddingConfig(NetworkConfig):
    """A network that trains its own token embedding.

    Args:
        hidden_size: width of the hidden vectors.
        num_layers: layers; with an encoder and a decoder, of each.
        dropout: dropout probability while training.
        embedding_file: word vectors that initialise the token embedding: word2vec or GloVe text, or a .npy array with
            one row per token id. They must have the size of the embedding.
    """

    hidden_size: int = number(256, 1)
    num_layers: int = number(1, 1)
    dropout: float = number(0.0, 0.0, 0.999)
    embedding_file: str | None = None

    @property
    def is_deterministic(self) -> bool:
        """See `NetworkConfig`."""
        return self.dropout == 0.0 and not self.noisy


@dataclass(frozen=True)
class RecurrentConfig(EmbeddingConfig):
    """A network of LSTMs.

    Args:
        embedding_size: width of the token embedding.
        layer_norm: put a LayerNorm before the heads; the loss "pqn" always has one.
        chunk_length: for long texts: tokens per chunk of gradient checkpointing. Each chunk runs twice, with the same
            gradients. None for no checkpointing.
    """

    embedding_size: int = number(128, 1)
    layer_norm: bool = False
    chunk_length: int | None = number(None, 1)


@dataclass(frozen=True)
class AttentionConfig(EmbeddingConfig):
    """A network of attention blocks.

    Args:
        num_heads: attention heads; must divide hidden_size.
    """

    normalized = True
    num_heads: int = number(4, 1)


def longest_text(env: EnvConfig) -> int:
    """Longest text in tokens: a full window, the new tokens, and one more; corpus episodes fit too."""
    return env.context_length + env.max_new_tokens + 1
