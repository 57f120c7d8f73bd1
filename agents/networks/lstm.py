"""The LSTM Q-network: embedding, LSTM, linear heads."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from ...envs import EnvConfig
from ...envs.text import Tokenizer
from .base import QNetwork, State
from .config import RecurrentConfig
from .heads import Heads
from .recurrent import LSTM, in_chunks


@dataclass(frozen=True)
class LSTMConfig(RecurrentConfig):
    """Embedding, LSTM, linear heads.

    Args:
        skip: the input of the heads includes the last token's embedding, so that bigram statistics need not pass
            through the gates.
    """

    name: str = "lstm"
    skip: bool = False

    def make(
        self, vocab_size: int, heads: Heads, env: EnvConfig, tokenizer: Tokenizer | None, saved: Path | None
    ) -> QNetwork:
        """See `NetworkConfig`."""
        return LSTMQNetwork(
            vocab_size, self.embedding_size, self.hidden_size, self.num_layers, self.dropout, heads, self.skip,
            self.chunk_length,
        )  # fmt: skip


class LSTMQNetwork(QNetwork):
    """Recurrent Q-network (Hausknecht & Stone 2015) over tokens.

    Args:
        vocab_size: V.
        embedding_size: width of the token embedding.
        hidden_size: D.
        num_layers: LSTM layers.
        dropout: on the embedding, between layers and on the output, while training.
        heads: which heads the network has.
        skip: concatenate the last token's embedding to the LSTM's output; D is then the sum of both widths.
        chunk_length: tokens per chunk of gradient checkpointing; None for none.
    """

    def __init__(
        self,
        vocab_size: int,
        embedding_size: int = 128,
        hidden_size: int = 256,
        num_layers: int = 1,
        dropout: float = 0.0,
        heads: Heads | None = None,
        skip: bool = False,
        chunk_length: int | None = None,
    ) -> None:
        super().__init__(vocab_size, hidden_size + skip * embedding_size, heads)
        self.skip = skip
        self.chunk_length = chunk_length
        self.embedding = nn.Embedding(vocab_size, embedding_size)
        between = dropout if num_layers > 1 else 0.0
        self.lstm = LSTM(embedding_size, hidden_size, num_layers, batch_first=True, dropout=between)
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens: Tensor) -> Tensor:
        """See `QNetwork`."""
        embedded = self.dropout(self.embedding(tokens))
        hidden = in_chunks(self.lstm, embedded, self.chunk_length)  # (B, T, D)
        return self._read(hidden, embedded)

    def encode(self, tokens: Tensor, lengths: Tensor) -> tuple[Tensor, State]:
        """See `QNetwork`; the state is (h, c), each (B, layers, D)."""
        embedded = self.dropout(self.embedding(tokens))
        packed = nn.utils.rnn.pack_padded_sequence(embedded, lengths.cpu(), batch_first=True, enforce_sorted=False)
        _, (h, c) = self.lstm(packed)  # (layers, B, D)
        state = (h.transpose(0, 1).contiguous(), c.transpose(0, 1).contiguous())
        last = embedded[torch.arange(len(tokens), device=tokens.device), lengths - 1]
        return self._read(state[0][:, -1], last).clone(), state

    def step(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        """See `QNetwork`."""
        h, c = (part.transpose(0, 1).contiguous() for part in state)
        embedded = self.dropout(self.embedding(tokens))
        out, (h, c) = self.lstm(embedded[:, None], (h, c))
        return self._read(out[:, 0], embedded), (h.transpose(0, 1), c.transpose(0, 1))

    def _read(self, hidden: Tensor, embedded: Tensor) -> Tensor:
        """The hidden vectors, from the LSTM's output and the last token's embedding."""
        hidden = self.dropout(hidden)
        seen: Tensor = self.norm_heads(torch.cat([hidden, embedded], -1) if self.skip else hidden)
        return seen
