"""One row of values for each prefix: exact where every prefix can be counted."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from ...envs import EnvConfig, Vocabulary
from ...envs.text import Tokenizer
from .base import QNetwork, State
from .config import NetworkConfig
from .heads import Heads

MAX_PREFIXES = 20_000
_FIRST_WORD = len(Vocabulary.SPECIAL_TOKENS)


@dataclass(frozen=True)
class TabularConfig(NetworkConfig):
    """A row of values for each prefix; tiny environments only."""

    name: str = "tabular"

    def make(
        self, vocab_size: int, heads: Heads, env: EnvConfig, tokenizer: Tokenizer | None, saved: Path | None
    ) -> QNetwork:
        """See `NetworkConfig`."""
        prompt = env.context_length - 1 if env.has_pairs else env.prompt_length[1]
        return TabularQNetwork(vocab_size, prompt + env.max_new_tokens, heads)


class TabularQNetwork(QNetwork):
    """A table over prefixes: the hidden vector is the prefix's number, one-hot.

    Nothing generalises, so a learning rule shows its own fixed point and nothing of a network.

    Args:
        vocab_size: V.
        longest: most tokens behind `<bos>`.
        heads: which heads to put on the hidden vectors.
    """

    rows: Tensor

    def __init__(self, vocab_size: int, longest: int, heads: Heads | None = None) -> None:
        digits = vocab_size - _FIRST_WORD + 1  # each word, and one for whatever else
        count = digits**longest
        if count > MAX_PREFIXES:
            raise ValueError(
                f"a table over {count:,} prefixes ({digits} words and others, up to {longest} tokens) is too large; "
                f"at most {MAX_PREFIXES:,}: use the network 'lstm'"
            )
        super().__init__(vocab_size, count, heads)
        self.digits = digits
        self.register_buffer("rows", torch.eye(count), persistent=False)
        for head in (self.head, self.value_head):
            nn.init.zeros_(head.weight)

    def forward(self, tokens: Tensor) -> Tensor:
        """See `QNetwork`."""
        numbers = torch.zeros_like(tokens)
        for column in range(1, tokens.shape[1]):
            numbers[:, column] = self._next(numbers[:, column - 1], tokens[:, column])
        return self._hidden(numbers)

    def encode(self, tokens: Tensor, lengths: Tensor) -> tuple[Tensor, State]:
        """See `QNetwork`; the state is the (B,) prefix numbers."""
        numbers = torch.zeros_like(tokens[:, 0])
        for column in range(1, tokens.shape[1]):
            numbers = torch.where(column < lengths, self._next(numbers, tokens[:, column]), numbers)
        return self._hidden(numbers), (numbers,)

    def step(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        """See `QNetwork`."""
        numbers = self._next(state[0], tokens)
        return self._hidden(numbers), (numbers,)

    def _next(self, numbers: Tensor, tokens: Tensor) -> Tensor:
        return (numbers * self.digits + (tokens - _FIRST_WORD + 1).clamp(min=0)) % len(self.rows)

    def _hidden(self, numbers: Tensor) -> Tensor:
        hidden: Tensor = self.norm_heads(self.rows[numbers])
        return hidden
