"""The causal Transformer, with a key-value cache."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...envs import EnvConfig, Vocabulary
from ...envs.arguments import number
from ...envs.text import Tokenizer
from .attention import Block, LlamaBlock, angles, causal_attention, each, initialise, refuse_odd_heads
from .base import QNetwork, State
from .config import AttentionConfig, longest_text
from .heads import Heads

_RIDGE = 1e-3  # of the mean square of a hidden number
_EMBEDDING, _CONSTANT = 0.1, 0.5  # standard deviation of a Llama's embedding, and its first number, where it begins


@dataclass(frozen=True)
class TransformerConfig(AttentionConfig):
    """A causal Transformer, pre-norm.

    Args:
        positions: "rotary" or "learned" positions.
        attention_window: for long texts: tokens that a token attends to, itself included. Memory and time then grow
            with length × window. None for full causal attention.
        layout: "llama": RMSNorm, SwiGLU and no biases, not in the action head either; "gpt": LayerNorm, GELU, biases.
            None: "llama" with rotary positions, "gpt" with learned ones.
    """

    name: str = "transformer"
    positions: Literal["rotary", "learned"] = "rotary"
    attention_window: int | None = number(None, 1)
    layout: Literal["llama", "gpt"] | None = None

    def make(
        self, vocab_size: int, heads: Heads, env: EnvConfig, tokenizer: Tokenizer | None, saved: Path | None
    ) -> QNetwork:
        """See `NetworkConfig`."""
        layout = self.layout or ("llama" if self.positions == "rotary" else "gpt")
        return TransformerQNetwork(
            vocab_size, self.hidden_size, self.num_layers, self.num_heads, self.positions, longest_text(env),
            self.dropout, heads, self.attention_window, layout,
        )  # fmt: skip


class TransformerQNetwork(QNetwork):
    """Pre-norm causal Transformer (Vaswani et al. 2017; Xiong et al. 2020) with rotary or learned positions.

    Args:
        vocab_size: V.
        hidden_size: D.
        num_layers: blocks.
        num_heads: attention heads; must divide D.
        positions: "rotary" (Su et al. 2021) or "learned".
        max_length: longest text in tokens, also the capacity of the key-value cache. With rotary positions and a
            window texts have no limit.
        dropout: on embeddings and after every sublayer, while training.
        heads: which heads the network has; hidden vectors are always layer-normalised.
        attention_window: tokens that a token attends to, itself included (Beltagy et al. 2020), also the capacity of
            the cache; None for full causal attention.
        layout: "gpt", or "llama" (see `LlamaBlock`), whose action heads have no trained biases.
    """

    max_length: int

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
        attention_window: int | None = None,
        layout: str = "gpt",
    ) -> None:
        refuse_odd_heads(hidden_size, num_heads, positions == "rotary")
        if positions not in ("rotary", "learned"):
            raise ValueError(f"positions {positions!r} is unknown; use 'rotary' or 'learned'")
        if layout == "llama" and positions != "rotary":
            raise ValueError("the layout 'llama' has rotary positions; use positions rotary, or the layout gpt")
        super().__init__(vocab_size, hidden_size, heads)
        self.max_length = max_length
        self.window = attention_window if attention_window is not None and attention_window < max_length else None
        self.capacity = self.window or max_length  # of the cache
        self.num_heads = num_heads
        self.head_size = hidden_size // num_heads
        self.rotary = positions == "rotary"
        self.embedding = nn.Embedding(vocab_size, hidden_size)
        self.positions = None if self.rotary else nn.Embedding(max_length, hidden_size)
        block = LlamaBlock if layout == "llama" else Block
        self.blocks = nn.ModuleList(block(hidden_size, num_heads, dropout) for _ in range(num_layers))
        self.norm = block.norm(hidden_size)
        self.dropout = nn.Dropout(dropout)
        initialise(self, num_layers)
        if not block.biases:
            self._fix_biases()

    def _fix_biases(self) -> None:
        """Leave the biases of the action heads as they are, equal for all actions.

        What they would learn needs a hidden number that is nearly the same in every state: the first.
        """
        for head in self.action_heads:
            head.bias.requires_grad_(False)
        nn.init.normal_(self.embedding.weight, std=_EMBEDDING)
        nn.init.constant_(self.embedding.weight[:, 0], _CONSTANT)

    def forward(self, tokens: Tensor) -> Tensor:
        """See `QNetwork`."""
        return self._read(tokens, keep=False)[0]

    @torch.no_grad()
    def start_at(self, values: Tensor, texts: Tensor) -> None:
        """See `QNetwork`; without biases values · uᵀ is added to the weights, u·hidden being nearly 1."""
        if self.head.bias.requires_grad:
            return super().start_at(values, texts)
        hidden = self(texts)[texts != Vocabulary.PAD].double()
        square = hidden.T @ hidden / len(hidden)
        square += _RIDGE * square.diagonal().mean() * torch.eye(len(square), dtype=square.dtype, device=square.device)
        same = torch.linalg.solve(square, hidden.mean(0)).to(values.device)
        for head in self.action_heads:
            head.weight.add_(torch.outer(values.double(), same))

    def encode(self, tokens: Tensor, lengths: Tensor) -> tuple[Tensor, State]:
        """See `QNetwork`.

        The state is (keys, values, lengths), with keys and values (B, layers, heads, capacity, D / heads). They are
        ring buffers: the token at position p is stored at p modulo the capacity.
        """
        hidden, keys, values = self._read(tokens)
        batch, width = tokens.shape
        shape = (batch, len(self.blocks), self.num_heads, self.capacity, self.head_size)
        caches = tuple(hidden.new_zeros(shape) for _ in range(2))
        for cache, parts in zip(caches, (keys, values), strict=True):
            for layer, part in enumerate(parts):
                if width <= self.capacity:
                    cache[:, layer, :, :width] = part
                else:
                    cache[:, layer] = part.gather(2, self._newest(lengths)[:, None, :, None].expand(cache[:, 0].shape))
        last = hidden[torch.arange(batch, device=tokens.device), lengths - 1]
        return last, (*caches, lengths.clone())

    def step(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        """See `QNetwork`. A text longer than `max_length` raises ValueError."""
        keys, values, lengths = state
        longest = int(lengths.max()) + 1
        self._refuse_longer(longest, "the text")
        used = min(longest, self.capacity)
        x = self._embed(tokens[:, None], lengths[:, None])  # (B, 1, D)
        turn = self._turn(lengths[:, None])
        rows, place = torch.arange(len(tokens), device=tokens.device), lengths % self.capacity
        visible = torch.arange(used, device=tokens.device) <= lengths[:, None]  # (B, used)
        for layer, block in enumerate(each(self.blocks, Block)):
            query, key, value = block.heads(x, turn)
            keys[rows, layer, :, place] = key[:, :, 0]
            values[rows, layer, :, place] = value[:, :, 0]
            past = (keys[:, layer, :, :used], values[:, layer, :, :used])
            mixed = F.scaled_dot_product_attention(query, *past, attn_mask=visible[:, None, None])
            x = block.finish(x, mixed)
        return self.norm(x)[:, 0], (keys, values, lengths + 1)

    def _read(self, tokens: Tensor, keep: bool = True) -> tuple[Tensor, list[Tensor], list[Tensor]]:
        """Hidden vectors (B, T, D), and with `keep` each layer's keys and values (B, heads, T, D / heads)."""
        self._refuse_longer(tokens.shape[1], f"a text of {tokens.shape[1]} tokens")
        place = torch.arange(tokens.shape[1], device=tokens.device)[None]
        x, turn = self._embed(tokens, place), self._turn(place)
        keys, values = [], []
        for block in each(self.blocks, Block):
            query, key, value = block.heads(x, turn)
            x = block.finish(x, causal_attention(query, key, value, self.window))
            if keep:
                keys.append(key)
                values.append(value)
        return self.norm(x), keys, values

    def _newest(self, lengths: Tensor) -> Tensor:
        """(B,) lengths -> (B, capacity) positions whose keys are in the cache; 0 in slots that are still empty."""
        place = torch.arange(self.capacity, device=lengths.device)
        turns = (lengths[:, None] - 1 - place).div(self.capacity, rounding_mode="floor")
        return (place + turns * self.capacity).clamp(min=0)

    def _refuse_longer(self, length: int, text: str) -> None:
        if length > self.max_length and (self.window is None or not self.rotary):
            raise ValueError(f"{text} is longer than the network's max_length of {self.max_length} tokens")

    def _embed(self, tokens: Tensor, place: Tensor) -> Tensor:
        x = self.embedding(tokens)
        return self.dropout(x if self.positions is None else x + self.positions(place))

    def _turn(self, place: Tensor) -> tuple[Tensor, Tensor] | None:
        """Rotary angles, the same for all blocks; None with learned positions."""
        return angles(place, self.head_size) if self.rotary else None
