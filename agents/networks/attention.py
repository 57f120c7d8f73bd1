"""Parts that all Transformers here are built of: blocks, rotary positions, attention within a window."""

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
    """Attention and a two-layer perceptron, each behind a LayerNorm and added to the residual.

    Args:
        hidden_size: D.
        num_heads: attention heads; D must divide by them.
        dropout: after each of the two, while training.
    """

    def __init__(self, hidden_size: int, num_heads: int, dropout: float) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.norm_mix = nn.LayerNorm(hidden_size)
        self.mix = nn.Linear(hidden_size, 3 * hidden_size)
        self.project = nn.Linear(hidden_size, hidden_size)
        self.norm_feed = nn.LayerNorm(hidden_size)
        self.grow = nn.Linear(hidden_size, 4 * hidden_size)
        self.shrink = nn.Linear(4 * hidden_size, hidden_size)
        self.dropout = nn.Dropout(dropout)

    def heads(self, x: Tensor, turn: Turn | None) -> tuple[Tensor, Tensor, Tensor]:
        """(B, T, D) residual -> query, key and value (B, heads, T, D / heads), the first two turned by `turn`."""
        query, key, value = split_heads(self.mix(self.norm_mix(x)), 3, self.num_heads)
        if turn is not None:
            query, key = rotate(query, *turn), rotate(key, *turn)
        return query, key, value

    def finish(self, x: Tensor, mixed: Tensor) -> Tensor:
        """(B, T, D) residual and (B, heads, T, D / heads) attention to the block's output."""
        return self.feed(self.add(x, mixed))

    def add(self, x: Tensor, mixed: Tensor) -> Tensor:
        """(B, T, D) residual with (B, heads, T, D / heads) attention joined."""
        return x + self.dropout(self.project(mixed.transpose(1, 2).flatten(2)))

    def feed(self, x: Tensor) -> Tensor:
        """(B, T, D) residual with the perceptron's output joined."""
        return x + self.dropout(self.shrink(F.gelu(self.grow(self.norm_feed(x)))))


def refuse_odd_heads(hidden_size: int, num_heads: int, rotary: bool) -> None:
    """Raise ValueError where `hidden_size` cannot be shared out among the heads."""
    if hidden_size % num_heads or (rotary and hidden_size // num_heads % 2):
        raise ValueError(
            f"hidden_size {hidden_size} must divide by num_heads {num_heads}, for rotary positions into even parts"
        )


def initialise(network: nn.Module, num_layers: int) -> None:
    """GPT-2's first weights: small embeddings, and smaller still what joins the residual."""
    for name, parameter in network.named_parameters():
        if name.startswith(("embedding", "positions")):
            nn.init.normal_(parameter, std=0.02)
        elif name.endswith(("project.weight", "shrink.weight")):
            nn.init.normal_(parameter, std=0.02 / math.sqrt(2 * num_layers))


def each(modules: nn.ModuleList, kind: type[Kind]) -> Iterator[Kind]:
    """The modules of a list that are of `kind`, which says so to type checkers."""
    return (module for module in modules if isinstance(module, kind))


def split_heads(x: Tensor, parts: int, num_heads: int) -> tuple[Tensor, ...]:
    """(B, T, parts · D) -> `parts` of (B, heads, T, D / heads)."""
    batch, width, size = x.shape
    return x.view(batch, width, parts, num_heads, size // parts // num_heads).permute(2, 0, 3, 1, 4).unbind(0)


def angles(place: Tensor, head_size: int) -> Turn:
    """Cosine and sine (B or 1, 1, T, S / 2) that queries and keys of S numbers are turned by at `place` (B or 1, T)."""
    half = head_size // 2
    frequency = 10_000.0 ** (-torch.arange(half, device=place.device, dtype=torch.float32) / half)
    angle = place[:, None, :, None] * frequency
    return angle.cos(), angle.sin()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary position embedding (Su et al. 2021) of (B, heads, T, S), turned by angles (B or 1, 1, T, S / 2)."""
    first, second = x.chunk(2, -1)
    cos, sin = cos.to(x.dtype), sin.to(x.dtype)
    return torch.cat([first * cos - second * sin, first * sin + second * cos], -1)


def causal_attention(query: Tensor, key: Tensor, value: Tensor, window: int | None) -> Tensor:
    """Attention of every token to itself and to those before it, `window` in all; to all of them where None.

    Within a window the text is cut into blocks of `window` tokens: a query sees its own block and the one before it,
    so that time and memory grow with T · window and there is no (T, T) mask.

    Args:
        query: (B, heads, T, S).
        key: as the query.
        value: as the query.
        window: tokens seen, at least 1.

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

    # Counted from the first key of the block before, query i is key i + window.
    distance = torch.arange(window, device=query.device)[:, None] + window
    distance = distance - torch.arange(2 * window, device=query.device)
    visible = (distance >= 0) & (distance < window)
    # Two blocks at every block: overlapping views, so that no key is copied.
    key, value = (x.unfold(1, 2 * window, window).transpose(2, 3) for x in (key, value))
    others = query[:, window:].view(batch * heads, blocks - 1, window, size)
    rest = F.scaled_dot_product_attention(others, key, value, attn_mask=visible)
    return torch.cat([first, rest.reshape(batch, heads, -1, size)], 2)[:, :, :length]
