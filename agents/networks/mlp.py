"""The MLP Q-network: the last tokens' embeddings side by side, fully connected layers, linear heads."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...envs import EnvConfig, Vocabulary
from ...envs.arguments import number
from ...envs.text import Tokenizer
from .base import QNetwork, State
from .config import EmbeddingConfig
from .heads import Heads


@dataclass(frozen=True)
class MLPConfig(EmbeddingConfig):
    """The embeddings of the last tokens side by side, fully connected layers, linear heads.

    Args:
        num_layers: fully connected layers of `hidden_size` units.
        embedding_size: width of the token embedding.
        window: tokens that it sees; None for the environment's context_length.
    """

    name: str = "mlp"
    num_layers: int = number(2, 1)
    embedding_size: int = number(64, 1)
    window: int | None = number(None, 1)

    def make(
        self, vocab_size: int, heads: Heads, env: EnvConfig, tokenizer: Tokenizer | None, saved: Path | None
    ) -> QNetwork:
        """See `NetworkConfig`."""
        return MLPQNetwork(
            vocab_size, self.window or env.context_length, self.embedding_size, self.hidden_size, self.num_layers,
            self.dropout, heads,
        )  # fmt: skip


class MLPQNetwork(QNetwork):
    """An MLP on the last W tokens, like the networks that most libraries give to a flat observation.

    Its first layer is a convolution over the text whose kernel is the window, so that one pass reads all windows of a
    text. Before the beginning of the text the embedding is 0.

    Args:
        vocab_size: V.
        window: W, tokens that it sees.
        embedding_size: width of the token embedding.
        hidden_size: D.
        num_layers: layers of D rectified units.
        dropout: after each layer, while training.
        heads: which heads the network has.
    """

    def __init__(
        self,
        vocab_size: int,
        window: int,
        embedding_size: int = 64,
        hidden_size: int = 256,
        num_layers: int = 2,
        dropout: float = 0.0,
        heads: Heads | None = None,
    ) -> None:
        super().__init__(vocab_size, hidden_size, heads)
        self.window = window
        self.embedding = nn.Embedding(vocab_size, embedding_size, padding_idx=Vocabulary.PAD)
        self.first = nn.Conv1d(embedding_size, hidden_size, window)
        self.others = nn.ModuleList(nn.Linear(hidden_size, hidden_size) for _ in range(num_layers - 1))
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens: Tensor) -> Tensor:
        """See `QNetwork`."""
        embedded = self.embedding(tokens).transpose(1, 2)  # (B, E, T)
        return self._read(self.first(F.pad(embedded, (self.window - 1, 0))).transpose(1, 2))

    def read_last(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        """See `QNetwork`; without the other windows of the text."""
        return self.encode(tokens, lengths)[0]

    def encode(self, tokens: Tensor, lengths: Tensor) -> tuple[Tensor, State]:
        """See `QNetwork`; the state is the (B, W) last tokens."""
        places = lengths[:, None] - self.window + torch.arange(self.window, device=tokens.device)
        last = tokens.gather(1, places.clamp(min=0)).masked_fill(places < 0, Vocabulary.PAD)
        return self._of_windows(last), (last,)

    def step(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        """See `QNetwork`."""
        last = torch.cat([state[0][:, 1:], tokens[:, None]], 1)
        return self._of_windows(last), (last,)

    def _of_windows(self, windows: Tensor) -> Tensor:
        """(B, W) -> (B, D)."""
        weight = self.first.weight.transpose(1, 2).flatten(1)  # (D, W·E)
        return self._read(F.linear(self.embedding(windows).flatten(1), weight, self.first.bias))

    def _read(self, summed: Tensor) -> Tensor:
        """(..., D) sums of the first layer -> (..., D) hidden vectors."""
        hidden = self.dropout(torch.relu(summed))
        for layer in self.others:
            hidden = self.dropout(torch.relu(layer(hidden)))
        seen: Tensor = self.norm_heads(hidden)
        return seen
