"""Embedding, LSTM, linear: the seed network."""

from __future__ import annotations

from torch import Tensor, nn

from .base import QNetwork, State
from .heads import Heads


class LSTMQNetwork(QNetwork):
    """Recurrent Q-network (Hausknecht & Stone 2015) over tokens.

    Args:
        vocab_size: V.
        embedding_size: width of the token embedding.
        hidden_size: D.
        num_layers: LSTM layers.
        dropout: on the embedding, between layers and on the output, while training.
        heads: which heads to put on the hidden vectors.
    """

    def __init__(
        self,
        vocab_size: int,
        embedding_size: int = 128,
        hidden_size: int = 256,
        num_layers: int = 1,
        dropout: float = 0.0,
        heads: Heads | None = None,
    ) -> None:
        super().__init__(vocab_size, hidden_size, heads)
        self.embedding = nn.Embedding(vocab_size, embedding_size)
        between = dropout if num_layers > 1 else 0.0
        self.lstm = nn.LSTM(embedding_size, hidden_size, num_layers, batch_first=True, dropout=between)
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens: Tensor) -> Tensor:
        """See `QNetwork`."""
        hidden, _ = self.lstm(self.dropout(self.embedding(tokens)))  # (B, T, D)
        return self.norm_heads(self.dropout(hidden))

    def encode(self, tokens: Tensor, lengths: Tensor) -> tuple[Tensor, State]:
        """See `QNetwork`; the state is (h, c), each (B, layers, D)."""
        embedded = self.dropout(self.embedding(tokens))
        packed = nn.utils.rnn.pack_padded_sequence(embedded, lengths.cpu(), batch_first=True, enforce_sorted=False)
        _, (h, c) = self.lstm(packed)  # (layers, B, D)
        state = (h.transpose(0, 1).contiguous(), c.transpose(0, 1).contiguous())
        return self.norm_heads(self.dropout(state[0][:, -1])).clone(), state

    def step(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        """See `QNetwork`."""
        h, c = (part.transpose(0, 1).contiguous() for part in state)
        out, (h, c) = self.lstm(self.dropout(self.embedding(tokens))[:, None], (h, c))
        return self.norm_heads(self.dropout(out[:, 0])), (h.transpose(0, 1), c.transpose(0, 1))
