"""A causal Transformer with a key-value cache."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .base import QNetwork, State
from .heads import Heads


class TransformerQNetwork(QNetwork):
    """Pre-norm causal Transformer (Vaswani et al. 2017; Xiong et al. 2020) with rotary or learned positions.

    Args:
        vocab_size: V.
        hidden_size: D.
        num_layers: blocks.
        num_heads: attention heads; D must divide by them.
        positions: "rotary" (Su et al. 2021) or "learned".
        max_length: longest text in tokens, also the capacity of the key-value cache.
        dropout: on embeddings and after every sublayer, while training.
        heads: which heads to put on the hidden vectors (which are layer-normalised in any case).
    """

    def __init__(
        self,
        vocab_size: int,
        hidden_size: int = 256,
        num_layers: int = 4,
        num_heads: int = 4,
        positions: str = "rotary",
        max_length: int = 512,
        dropout: float = 0.0,
        heads: Heads | None = None,
    ) -> None:
        if hidden_size % num_heads or (positions == "rotary" and hidden_size // num_heads % 2):
            raise ValueError(
                f"hidden_size {hidden_size} must divide by num_heads {num_heads}, for rotary positions into even parts"
            )
        if positions not in ("rotary", "learned"):
            raise ValueError(f"positions {positions!r} is unknown; use 'rotary' or 'learned'")
        super().__init__(vocab_size, hidden_size, heads)
        self.max_length = max_length
        self.num_heads = num_heads
        self.head_size = hidden_size // num_heads
        self.rotary = positions == "rotary"
        self.embedding = nn.Embedding(vocab_size, hidden_size)
        self.positions = None if self.rotary else nn.Embedding(max_length, hidden_size)
        self.blocks = nn.ModuleList(_Block(hidden_size, num_heads, dropout) for _ in range(num_layers))
        self.norm = nn.LayerNorm(hidden_size)
        self.dropout = nn.Dropout(dropout)
        for name, parameter in self.named_parameters():
            if name.startswith(("embedding", "positions")):
                nn.init.normal_(parameter, std=0.02)
            elif name.endswith(("project.weight", "shrink.weight")):  # GPT-2's scaling of what joins the residual
                nn.init.normal_(parameter, std=0.02 / math.sqrt(2 * num_layers))

    def forward(self, tokens: Tensor) -> Tensor:
        """See `QNetwork`."""
        return self._read(tokens)[0]

    def encode(self, tokens: Tensor, lengths: Tensor) -> tuple[Tensor, State]:
        """See `QNetwork`; the state is (keys, values, lengths), both caches (B, layers, heads, max_length, D/heads)."""
        hidden, keys, values = self._read(tokens)
        batch, width = tokens.shape
        shape = (batch, len(self.blocks), self.num_heads, self.max_length, self.head_size)
        caches = tuple(hidden.new_zeros(shape) for _ in range(2))
        for cache, parts in zip(caches, (keys, values), strict=True):
            cache[:, :, :, :width] = torch.stack(parts, 1)
        last = hidden[torch.arange(batch, device=tokens.device), lengths - 1]
        return last, (*caches, lengths.clone())

    def step(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        """See `QNetwork`. A text longer than `max_length` raises ValueError."""
        keys, values, lengths = state
        used = int(lengths.max()) + 1
        if used > self.max_length:
            raise ValueError(f"the text is longer than the network's max_length of {self.max_length} tokens")
        x = self._embed(tokens[:, None], lengths[:, None])  # (B, 1, D)
        turn = self._turn(lengths[:, None])
        rows = torch.arange(len(tokens), device=tokens.device)
        visible = torch.arange(used, device=tokens.device) <= lengths[:, None]  # (B, used)
        for layer, block in enumerate(self._blocks()):
            query, key, value = self._heads(block, x, turn)
            keys[rows, layer, :, lengths] = key[:, :, 0]
            values[rows, layer, :, lengths] = value[:, :, 0]
            past = (keys[:, layer, :, :used], values[:, layer, :, :used])
            mixed = F.scaled_dot_product_attention(query, *past, attn_mask=visible[:, None, None])
            x = block.finish(x, mixed)
        return self.norm(x)[:, 0], (keys, values, lengths + 1)

    def _read(self, tokens: Tensor) -> tuple[Tensor, list[Tensor], list[Tensor]]:
        """Hidden vectors (B, T, D) and each layer's keys and values (B, heads, T, D / heads)."""
        if tokens.shape[1] > self.max_length:
            raise ValueError(
                f"a text of {tokens.shape[1]} tokens is longer than the network's max_length of {self.max_length}"
            )
        place = torch.arange(tokens.shape[1], device=tokens.device)[None]
        x, turn = self._embed(tokens, place), self._turn(place)
        keys, values = [], []
        for block in self._blocks():
            query, key, value = self._heads(block, x, turn)
            x = block.finish(x, F.scaled_dot_product_attention(query, key, value, is_causal=True))
            keys.append(key)
            values.append(value)
        return self.norm(x), keys, values

    def _blocks(self) -> Iterator[_Block]:
        return (block for block in self.blocks if isinstance(block, _Block))

    def _embed(self, tokens: Tensor, place: Tensor) -> Tensor:
        x = self.embedding(tokens)
        return self.dropout(x if self.positions is None else x + self.positions(place))

    def _turn(self, place: Tensor) -> tuple[Tensor, Tensor] | None:
        """Cosine and sine (B or 1, 1, T, S / 2) that rotary positions turn queries and keys by, once for all blocks."""
        if not self.rotary:
            return None
        half = self.head_size // 2
        frequency = 10_000.0 ** (-torch.arange(half, device=place.device, dtype=torch.float32) / half)
        angle = place[:, None, :, None] * frequency
        return angle.cos(), angle.sin()

    def _heads(self, block: _Block, x: Tensor, turn: tuple[Tensor, Tensor] | None) -> tuple[Tensor, Tensor, Tensor]:
        """Query, key and value (B, heads, T, D / heads) of a block."""
        batch, width, _ = x.shape
        parts = block.mix(block.norm_mix(x)).view(batch, width, 3, self.num_heads, self.head_size)
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        if turn is not None:
            query, key = _rotate(query, *turn), _rotate(key, *turn)
        return query, key, value


class _Block(nn.Module):
    """Attention and a two-layer perceptron, each behind a LayerNorm and added to the residual."""

    def __init__(self, hidden_size: int, num_heads: int, dropout: float) -> None:
        super().__init__()
        self.norm_mix = nn.LayerNorm(hidden_size)
        self.mix = nn.Linear(hidden_size, 3 * hidden_size)
        self.project = nn.Linear(hidden_size, hidden_size)
        self.norm_feed = nn.LayerNorm(hidden_size)
        self.grow = nn.Linear(hidden_size, 4 * hidden_size)
        self.shrink = nn.Linear(4 * hidden_size, hidden_size)
        self.dropout = nn.Dropout(dropout)

    def finish(self, x: Tensor, mixed: Tensor) -> Tensor:
        """(B, T, D) residual and (B, heads, T, D / heads) attention to the block's output."""
        x = x + self.dropout(self.project(mixed.transpose(1, 2).flatten(2)))
        return x + self.dropout(self.shrink(F.gelu(self.grow(self.norm_feed(x)))))


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary position embedding of (B, heads, T, S), turned by angles (B or 1, 1, T, S / 2)."""
    first, second = x.chunk(2, -1)
    cos, sin = cos.to(x.dtype), sin.to(x.dtype)
    return torch.cat([first * cos - second * sin, first * sin + second * cos], -1)
