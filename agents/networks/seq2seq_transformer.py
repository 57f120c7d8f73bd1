"""The encoder–decoder Transformer, with key-value caches of the target and the source."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...envs import EnvConfig
from ...envs.text import Tokenizer
from .attention import Block, angles, causal_attention, each, initialise, refuse_odd_heads, split_heads
from .base import QNetwork, State
from .config import AttentionConfig, longest_text
from .heads import Heads
from .pairs import Pairs, inside, refuse_longer, widened


@dataclass(frozen=True)
class Seq2SeqTransformerConfig(AttentionConfig):
    """For tasks of pairs: an encoder–decoder Transformer."""

    name: str = "seq2seq_transformer"

    def make(
        self, vocab_size: int, heads: Heads, env: EnvConfig, tokenizer: Tokenizer | None, saved: Path | None
    ) -> QNetwork:
        """See `NetworkConfig`."""
        return Seq2SeqTransformerQNetwork(
            vocab_size, self.hidden_size, self.num_layers, self.num_heads, longest_text(env), self.dropout, heads
        )


class Seq2SeqTransformerQNetwork(QNetwork):
    """Pre-norm encoder–decoder Transformer (Vaswani et al. 2017; Xiong et al. 2020) with rotary positions.

    Positions start at 0 at the beginning of the source and again at `<sep>`; cross-attention uses no positions.

    Args:
        vocab_size: V; source and target share the embedding.
        hidden_size: D.
        num_layers: blocks of the encoder and of the decoder.
        num_heads: attention heads; D must be an even multiple of them.
        max_length: longest text in tokens, also the capacity of both caches.
        dropout: on embeddings and after every sublayer, while training.
        heads: which heads the network has; hidden vectors are always layer-normalised.
    """

    max_length: int

    def __init__(
        self,
        vocab_size: int,
        hidden_size: int = 256,
        num_layers: int = 4,
        num_heads: int = 4,
        max_length: int = 512,
        dropout: float = 0.0,
        heads: Heads | None = None,
    ) -> None:
        refuse_odd_heads(hidden_size, num_heads, rotary=True)
        super().__init__(vocab_size, hidden_size, heads)
        self.max_length = max_length
        self.head_size = hidden_size // num_heads
        self.embedding = nn.Embedding(vocab_size, hidden_size)
        self.source_blocks = nn.ModuleList(Block(hidden_size, num_heads, dropout) for _ in range(num_layers))
        self.norm_source = nn.LayerNorm(hidden_size)
        self.blocks = nn.ModuleList(_DecoderBlock(hidden_size, num_heads, dropout) for _ in range(num_layers))
        self.norm = nn.LayerNorm(hidden_size)
        self.dropout = nn.Dropout(dropout)
        initialise(self, num_layers)

    def forward(self, tokens: Tensor) -> Tensor:
        """See `QNetwork`; zeros before `<sep>`, ValueError if there is none."""
        pairs = Pairs.of(tokens)
        hidden, _ = self._read(pairs)
        return pairs.placed(hidden, tokens.shape[1])

    def encode(self, tokens: Tensor, lengths: Tensor) -> tuple[Tensor, State]:
        """See `QNetwork`.

        The state is the keys and values of the target and of the source, each (B, layers, heads, max_length,
        D / heads), the target's length (B,) and the source's (B,).
        """
        refuse_longer(tokens.shape[1], self.max_length)
        pairs = Pairs.of(tokens)
        hidden, layers = self._read(pairs)
        caches = (widened(torch.stack(parts, 1), self.max_length, 3) for parts in zip(*layers, strict=True))
        written = lengths - pairs.source_lengths
        last = hidden[torch.arange(len(tokens), device=tokens.device), written - 1]
        return last, (*caches, written, pairs.source_lengths)

    def step(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        """See `QNetwork`. A target longer than `max_length` raises ValueError."""
        keys, values, source_keys, source_values, written, source_lengths = state
        used, width = int(written.max()) + 1, int(source_lengths.max())
        refuse_longer(used, self.max_length)
        x = self.dropout(self.embedding(tokens[:, None]))  # (B, 1, D)
        turn = angles(written[:, None], self.head_size)
        rows = torch.arange(len(tokens), device=tokens.device)
        visible = (torch.arange(used, device=tokens.device) <= written[:, None])[:, None, None]
        is_source = inside(source_lengths, width)[:, None, None]
        for layer, block in enumerate(each(self.blocks, _DecoderBlock)):
            query, key, value = block.heads(x, turn)
            keys[rows, layer, :, written] = key[:, :, 0]
            values[rows, layer, :, written] = value[:, :, 0]
            past = (keys[:, layer, :, :used], values[:, layer, :, :used])
            x = block.add(x, F.scaled_dot_product_attention(query, *past, attn_mask=visible))
            x = block.recall(x, source_keys[:, layer, :, :width], source_values[:, layer, :, :width], is_source)
            x = block.feed(x)
        return self.norm(x)[:, 0], (keys, values, source_keys, source_values, written + 1, source_lengths)

    def _read(self, pairs: Pairs) -> tuple[Tensor, list[tuple[Tensor, ...]]]:
        """Hidden vectors (B, T, D) of the target, and for each layer its keys and values, then the source's."""
        is_source = pairs.is_source[:, None, None]
        memory = self.dropout(self.embedding(pairs.source))
        turn = self._turn(pairs.source)
        for block in each(self.source_blocks, Block):
            query, key, value = block.heads(memory, turn)
            memory = block.finish(memory, F.scaled_dot_product_attention(query, key, value, attn_mask=is_source))
        memory = self.norm_source(memory)

        x = self.dropout(self.embedding(pairs.target))
        turn = self._turn(pairs.target)
        layers: list[tuple[Tensor, ...]] = []
        for decoder in each(self.blocks, _DecoderBlock):
            query, key, value = decoder.heads(x, turn)
            source_key, source_value = decoder.remember_source(memory)
            x = decoder.add(x, causal_attention(query, key, value, None))
            x = decoder.feed(decoder.recall(x, source_key, source_value, is_source))
            layers.append((key, value, source_key, source_value))
        return self.norm(x), layers

    def _turn(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        return angles(torch.arange(tokens.shape[1], device=tokens.device)[None], self.head_size)


class _DecoderBlock(Block):
    """A block with cross-attention to the source between self-attention and perceptron."""

    def __init__(self, hidden_size: int, num_heads: int, dropout: float) -> None:
        super().__init__(hidden_size, num_heads, dropout)
        self.norm_recall = nn.LayerNorm(hidden_size)
        self.ask = nn.Linear(hidden_size, hidden_size)
        self.remember = nn.Linear(hidden_size, 2 * hidden_size)
        self.source_project = nn.Linear(hidden_size, hidden_size)

    def remember_source(self, memory: Tensor) -> tuple[Tensor, ...]:
        """(B, S, D) output of the encoder -> its keys and values (B, heads, S, D / heads)."""
        return split_heads(self.remember(memory), 2, self.num_heads)

    def recall(self, x: Tensor, keys: Tensor, values: Tensor, is_source: Tensor) -> Tensor:
        """Add cross-attention to the residual (B, T, D); `is_source` (B, 1, 1, S) bool masks padding of the source."""
        (query,) = split_heads(self.ask(self.norm_recall(x)), 1, self.num_heads)
        mixed = F.scaled_dot_product_attention(query, keys, values, attn_mask=is_source)
        return x + self.dropout(self.source_project(mixed.transpose(1, 2).flatten(2)))
