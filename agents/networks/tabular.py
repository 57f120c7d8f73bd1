"""A tabular Q-network: one row of values for each prefix."""

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


@dataclass(frozen=True)
class TabularConfig(NetworkConfig):
    """One row of values for each prefix, for tiny environments only."""

    name: str = "tabular"
    unigram_bias: bool = False

    @property
    def is_deterministic(self) -> bool:
        """See `NetworkConfig`."""
        return not self.noisy

    def make(
        self, vocab_size: int, heads: Heads, env: EnvConfig, tokenizer: Tokenizer | None, saved: Path | None
    ) -> QNetwork:
        """See `NetworkConfig`."""
        prompt = env.context_length - 1 if env.has_pairs else env.prompt_length[1]
        return TabularQNetwork(vocab_size, prompt + env.max_new_tokens, heads)


class TabularQNetwork(QNetwork):
    """A table over prefixes: the hidden vector is the one-hot index of the prefix.

    There is no generalisation between prefixes, so a learning rule converges to its own fixed point.

    Args:
        vocab_size: V.
        longest: most tokens after `<bos>`.
        heads: which heads the network has.
    """

    rows: Tensor

    def __init__(self, vocab_size: int, longest: int, heads: Heads | None = None) -> None:
        digits = vocab_size - Vocabulary.FIRST_WORD + 1  # each word, and one for all special tokens
        count = digits**longest
        if count > MAX_PREFIXES:
            raise ValueError(
                f"a table over {count:,} prefixes ({digits} kinds of tokens, up to {longest} of them) is too large, at "
                f"most {MAX_PREFIXES:,} are allowed; use the network 'lstm'"
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
        """See `QNetwork`; the state is the (B,) indices of the prefixes."""
        numbers = torch.zeros_like(tokens[:, 0])
        for column in range(1, tokens.shape[1]):
            numbers = torch.where(column < lengths, self._next(numbers, tokens[:, column]), numbers)
        return self._hidden(numbers), (numbers,)

    def step(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        """See `QNetwork`."""
        numbers = self._next(state[0], tokens)
        return self._hidden(numbers), (numbers,)

    def _next(self, numbers: Tensor, tokens: Tensor) -> Tensor:
        return (numbers * self.digits + (tokens - Vocabulary.FIRST_WORD + 1).clamp(min=0)) % len(self.rows)

    def _hidden(self, numbers: Tensor) -> Tensor:
        hidden: Tensor = self.norm_heads(self.rows[numbers])
        return hidden
