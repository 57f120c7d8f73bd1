"""The encoder–decoder LSTM: bidirectional encoder, decoder with attention."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...envs import EnvConfig
from ...envs.text import Tokenizer
from .base import QNetwork, State
from .config import RecurrentConfig, longest_text
from .heads import Heads
from .pairs import Pairs, inside, refuse_longer, widened
from .recurrent import LSTM, BidirectionalLSTM, in_chunks


@dataclass(frozen=True)
class Seq2SeqLSTMConfig(RecurrentConfig):
    """For tasks of pairs: a bidirectional LSTM encoder, and a decoder with attention."""

    name: str = "seq2seq_lstm"

    def make(
        self, vocab_size: int, heads: Heads, env: EnvConfig, tokenizer: Tokenizer | None, saved: Path | None
    ) -> QNetwork:
        """See `NetworkConfig`."""
        return Seq2SeqLSTMQNetwork(
            vocab_size, self.embedding_size, self.hidden_size, self.num_layers, self.dropout, longest_text(env), heads,
            self.chunk_length,
        )  # fmt: skip


class Seq2SeqLSTMQNetwork(QNetwork):
    """Encoder–decoder Q-network (Sutskever et al. 2014) with global dot-product attention (Luong et al. 2015).

    The decoder starts at `<sep>`, its state a linear map of the encoder's final outputs. The hidden vectors are
    tanh(W [context; h]) (eq. 5 there). They are not fed back into the decoder, so that training needs one pass only.

    Args:
        vocab_size: V; source and target share the embedding.
        embedding_size: width of the token embedding.
        hidden_size: D, even: each direction of the encoder has half of it.
        num_layers: layers of the encoder and of the decoder.
        dropout: on embeddings, between layers and on the output, while training.
        max_length: longest text in tokens, also the width of the source in the state.
        heads: which heads the network has.
        chunk_length: tokens per chunk of gradient checkpointing; None for none.
    """

    max_length: int

    def __init__(
        self,
        vocab_size: int,
        embedding_size: int = 128,
        hidden_size: int = 256,
        num_layers: int = 1,
        dropout: float = 0.0,
        max_length: int = 512,
        heads: Heads | None = None,
        chunk_length: int | None = None,
    ) -> None:
        if hidden_size % 2:
            raise ValueError(f"hidden_size {hidden_size} must be even: each direction of the encoder has half of it")
        super().__init__(vocab_size, hidden_size, heads)
        self.max_length = max_length
        self.num_layers = num_layers
        self.chunk_length = chunk_length
        self.embedding = nn.Embedding(vocab_size, embedding_size)
        self.encoder = BidirectionalLSTM(embedding_size, hidden_size, num_layers, dropout)
        between = dropout if num_layers > 1 else 0.0
        self.decoder = LSTM(embedding_size, hidden_size, num_layers, batch_first=True, dropout=between)
        self.bridge = nn.Linear(hidden_size, 2 * num_layers * hidden_size)
        self.combine = nn.Linear(2 * hidden_size, hidden_size)
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens: Tensor) -> Tensor:
        """See `QNetwork`; zeros before `<sep>`, ValueError if there is none."""
        pairs = Pairs.of(tokens)
        memory, start = self._read_source(pairs)
        outputs = in_chunks(self.decoder, self._embed(pairs.target), self.chunk_length, start)
        return pairs.placed(self._attend(outputs, memory, pairs.is_source), tokens.shape[1])

    def encode(self, tokens: Tensor, lengths: Tensor) -> tuple[Tensor, State]:
        """See `QNetwork`.

        The state is the decoder's (h, c), each (B, layers, D), the encoder's outputs (B, max_length, D) and the
        sources' lengths (B,).
        """
        refuse_longer(tokens.shape[1], self.max_length)
        pairs = Pairs.of(tokens)
        memory, start = self._read_source(pairs)
        written = (lengths - pairs.source_lengths).cpu()
        packed = nn.utils.rnn.pack_padded_sequence(
            self._embed(pairs.target), written, batch_first=True, enforce_sorted=False
        )
        _, (h, c) = self.decoder(packed, start)
        hidden = self._attend(h[-1][:, None], memory, pairs.is_source)[:, 0]
        kept = widened(memory, self.max_length, 1)
        return hidden, (h.transpose(0, 1).contiguous(), c.transpose(0, 1).contiguous(), kept, pairs.source_lengths)

    def step(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        """See `QNetwork`."""
        h, c, memory, source_lengths = state
        outputs, (h, c) = self.decoder(
            self._embed(tokens[:, None]), (h.transpose(0, 1).contiguous(), c.transpose(0, 1).contiguous())
        )
        width = int(source_lengths.max())
        hidden = self._attend(outputs, memory[:, :width], inside(source_lengths, width))[:, 0]
        return hidden, (h.transpose(0, 1), c.transpose(0, 1), memory, source_lengths)

    def _embed(self, tokens: Tensor) -> Tensor:
        embedded: Tensor = self.dropout(self.embedding(tokens))
        return embedded

    def _read_source(self, pairs: Pairs) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """(B, S, D) outputs of the encoder, and the decoder's initial (h, c), each (layers, B, D)."""
        memory, last = self.encoder(self._embed(pairs.source), pairs.source_lengths, self.chunk_length)
        start = self.bridge(last).view(len(last), 2, self.num_layers, self.hidden_size)
        h, c = start.permute(1, 2, 0, 3).unbind(0)
        return memory, (torch.tanh(h).contiguous(), c.contiguous())

    def _attend(self, outputs: Tensor, memory: Tensor, is_source: Tensor) -> Tensor:
        """(B, T, D) outputs of the decoder, (B, S, D) of the encoder and (B, S) bool -> (B, T, D) hidden vectors."""
        mixed = F.scaled_dot_product_attention(
            outputs[:, None], memory[:, None], memory[:, None], attn_mask=is_source[:, None, None], scale=1.0
        )
        hidden: Tensor = torch.tanh(self.combine(torch.cat([mixed[:, 0], outputs], -1)))
        read: Tensor = self.norm_heads(self.dropout(hidden))
        return read
