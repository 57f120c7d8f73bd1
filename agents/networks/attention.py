"""Shared parts of the Transformers: blocks, rotary positions, sliding-window attention."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Turn = tuple[Tensor, Tensor]
Kind = TypeVar("Kind", bound=nn.Module)


class Block(nn.Module):
    """Pre-norm Transformer block: attention and a two-layer perceptron, each with a LayerNorm and a residual.

    Args:
        hidden_size: D.
        num_heads: attention heads; must divide D.
        dropout: after each of the two, while training.

    Attributes:
        biases: linear layers have biases.
    """

    biases = True

    def __init__(self, hidden_size: int, num_heads: int, dropout: float) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.norm_mix = self.norm(hidden_size)
        self.mix = nn.Linear(hidden_size, 3 * hidden_size, self.biases)
        self.project = nn.Linear(hidden_size, hidden_size, self.biases)
        self.norm_feed = self.norm(hidden_size)
        grown, inner = self.widths(hidden_size)
        self.grow = nn.Linear(hidden_size, grown, self.biases)
        self.shrink = nn.Linear(inner, hidden_size, self.biases)
        self.dropout = nn.Dropout(dropout)

    @staticmethod
    def norm(size: int) -> nn.Module:
        """A normalisation of vectors of `size`."""
        return nn.LayerNorm(size)

    @staticmethod
    def widths(size: int) -> tuple[int, int]:
        """Numbers before and after the activation of the perceptron, for D = `size`."""
        return 4 * size, 4 * size

    @staticmethod
    def activation(x: Tensor) -> Tensor:
        """(…, numbers before) -> (…, numbers after), see `widths`."""
        return F.gelu(x)

    def heads(self, x: Tensor, turn: Turn | None) -> tuple[Tensor, Tensor, Tensor]:
        """(B, T, D) -> query, key and value, each (B, heads, T, D / heads); `turn` rotates query and key."""
        query, key, value = split_heads(self.mix(self.norm_mix(x)), 3, self.num_heads)
        if turn is not None:
            query, key = rotate(query, *turn), rotate(key, *turn)
        return query, key, value

    def finish(self, x: Tensor, mixed: Tensor) -> Tensor:
        """(B, T, D) residual and (B, heads, T, D / heads) attention output -> the block's output (B, T, D)."""
        return self.feed(self.add(x, mixed))

    def add(self, x: Tensor, mixed: Tensor) -> Tensor:
        """Add the projected attention output (B, heads, T, D / heads) to the residual (B, T, D)."""
        return x + self.dropout(self.project(mixed.transpose(1, 2).flatten(2)))

    def feed(self, x: Tensor) -> Tensor:
        """Add the perceptron's output to the residual (B, T, D)."""
        return x + self.dropout(self.shrink(self.activation(self.grow(self.norm_feed(x)))))


class LlamaBlock(Block):
    """The block of a Llama: RMSNorm, a gated perceptron (SwiGLU), no biases, about as many weights as `Block`.

    Source: Touvron et al. 2023, "LLaMA: Open and efficient foundation language models", sec. 2.2.
    """

    biases = False

    @staticmethod
    def norm(size: int) -> nn.Module:
        """See `Block`."""
        return nn.RMSNorm(size, eps=1e-6)

    @staticmethod
    def widths(size: int) -> tuple[int, int]:
        """See `Block`; gate and value before, their product after."""
        inner = 8 * math.ceil(size / 3)
        return 2 * inner, inner

    @staticmethod
    def activation(x: Tensor) -> Tensor:
        """See `Block`."""
        gate, value = x.chunk(2, -1)
        return F.silu(gate) * value


def refuse_odd_heads(hidden_size: int, num_heads: int, rotary: bool) -> None:
    """Raise ValueError unless `num_heads` divides `hidden_size`, with an even quotient for rotary positions."""
    if hidden_size % num_heads or (rotary and hidden_size // num_heads % 2):
        raise ValueError(
            f"hidden_size {hidden_size} must be a multiple of num_heads {num_heads}, an even one for rotary positions"
        )


def initialise(network: nn.Module, num_layers: int) -> None:
    """GPT-2's initialisation: small embeddings; projections onto the residual shrink with the number of layers."""
    for name, parameter in network.named_parameters():
        if name.startswith(("embedding", "positions")):
            nn.init.normal_(parameter, std=0.02)
        elif name.endswith(("project.weight", "shrink.weight")):
            nn.init.normal_(parameter, std=0.02 / math.sqrt(2 * num_layers))


def each(modules: nn.ModuleList, kind: type[Kind]) -> Iterator[Kind]:
    """The modules of a list that are of `kind`; a typed iterator for type checkers."""
    return (module for module in modules if isinstance(module, kind))


def split_heads(x: Tensor, parts: int, num_heads: int) -> tuple[Tensor, ...]:
    """(B, T, parts · D) -> `parts` tensors (B, heads, T, D / heads)."""
    batch, width, size = x.shape
    return x.view(batch, width, parts, num_heads, size // parts // num_heads).permute(2, 0, 3, 1, 4).unbind(0)


def angles(place: Tensor, head_size: int) -> Turn:
    """Cosine and sine (B or 1, 1, T, S / 2) of the rotary angles, for head size S at positions `place` (B or 1, T)."""
    half = head_size // 2
    frequency = 10_000.0 ** (-torch.arange(half, device=place.device, dtype=torch.float32) / half)
    angle = place[:, None, :, None] * frequency
    return angle.cos(), angle.sin()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary position embedding (Su et al. 2021) of x (B, heads, T, S) with cos and sin (B or 1, 1, T, S / 2)."""
    first, second = x.chunk(2, -1)
    cos, sin = cos.to(x.dtype), sin.to(x.dtype)
    return torch.cat([first * cos - second * sin, first * sin + second * cos], -1)


def causal_attention(query: Tensor, key: Tensor, value: Tensor, window: int | None) -> Tensor:
    """Causal attention, optionally to the last `window` tokens only.

    With a window the text is split into blocks of `window` tokens, and a query attends to its own block and the
    previous one. Time and memory grow with T · window, and there is no (T, T) mask.

    Args:
        query: (B, heads, T, S).
        key: same shape as the query.
        value: same shape as the query.
        window: tokens that a query attends to, its own included, at least 1; None for all.

    Returns: (B, heads, T, S).
    Source: Beltagy et al. 2020, "Longformer", sec. 3.1, in its causal form.
    """
    batch, heads, length, size = query.shape
    if window is None or window >= length:
        return F.scaled_dot_product_attention(query, key, value, is_causal=True)
    blocks = -(-length // window)
    missing = blocks * window - length
    query, key, value = (F.pad(x, (0, 0, 0, missing)).reshape(batch * heads, -1, size) for x in (query, key, value))
    begin = [x[:, :window].view(batch, heads, window, size) for x in (query, key, value)]
    first = F.scaled_dot_product_attention(begin[0], begin[1], begin[2], is_causal=True)  # no block before it

    # Positions relative to the first key of the previous block: query i is at i + window.
    distance = torch.arange(window, device=query.device)[:, None] + window
    distance = distance - torch.arange(2 * window, device=query.device)
    visible = (distance >= 0) & (distance < window)
    # The previous and the own block of each query block, as overlapping views without a copy.
    key, value = (x.unfold(1, 2 * window, window).transpose(2, 3) for x in (key, value))
    others = query[:, window:].view(batch * heads, blocks - 1, window, size)
    rest = F.scaled_dot_product_attention(others, key, value, attn_mask=visible)
    return torch.cat([first, rest.reshape(batch, heads, -1, size)], 2)[:, :, :length]
