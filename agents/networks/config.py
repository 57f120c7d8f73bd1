"""What every Q-network can be told. Each network adds its own settings in a class beside it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

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
        value_scale: nats that one unit of the value head stands for. Returns paid at the end run to hundreds of nats;
            a value head that grows to them more slowly than the policy leaves the policy to explain them.
        noisy: learned noise on the heads' weights, which explores (Fortunato et al. 2018).

    Attributes:
        normalized: the hidden vectors are behind a LayerNorm.
        layer_norm: put a LayerNorm before the heads.
        embedding_file: word vectors to begin the token embedding with; None for none.
        takes_phrases: the head can have a row for each phrase.
    """

    normalized = False
    layer_norm = False
    embedding_file = None
    takes_phrases = True

    name: str = ""
    initial_value: float = 0.0
    value_scale: float = 1.0
    noisy: bool = False

    def __post_init__(self) -> None:
        """Refuse values that cannot work, each with one sentence."""
        check_settings(self)

    def make(
        self, vocab_size: int, heads: Heads, env: EnvConfig, tokenizer: Tokenizer | None, saved: Path | None
    ) -> QNetwork:
        """The network.

        Args:
            vocab_size: V.
            heads: to put on its hidden vectors.
            env: the environment's arguments; they say how long texts get.
            tokenizer: the environment's.
            saved: folder of a saved agent whose weights will be loaded, so that no others are read; None for none.
        """
        raise NotImplementedError


@dataclass(frozen=True)
class EmbeddingConfig(NetworkConfig):
    """A network with a token embedding of its own.

    Args:
        hidden_size: width of the hidden vectors that the heads read.
        num_layers: layers, of encoder and decoder each.
        dropout: dropout probability while training.
        embedding_file: word vectors to begin the token embedding with: word2vec or GloVe text, or a .npy array with a
            row for each token id. Their length must be that of the embedding.
    """

    hidden_size: int = number(256, 1)
    num_layers: int = number(1, 1)
    dropout: float = number(0.0, 0.0, 0.999)
    embedding_file: str | None = None


@dataclass(frozen=True)
class RecurrentConfig(EmbeddingConfig):
    """A network of LSTMs.

    Args:
        embedding_size: width of the token embedding.
        layer_norm: put a LayerNorm before the heads; the loss "pqn" has one in any case.
        chunk_length: for long text: tokens whose inner states the backward pass keeps at a time. Each chunk then runs
            twice; gradients are the same. None keeps all.
    """

    embedding_size: int = number(128, 1)
    layer_norm: bool = False
    chunk_length: int | None = number(None, 1)


@dataclass(frozen=True)
class AttentionConfig(EmbeddingConfig):
    """A network of attention blocks.

    Args:
        num_heads: attention heads; hidden_size must divide by them.
    """

    normalized = True
    num_heads: int = number(4, 1)


def longest_text(env: EnvConfig) -> int:
    """Most tokens of a text: corpus episodes and full windows must both fit, and one token more."""
    return env.context_length + env.max_new_tokens + 1
