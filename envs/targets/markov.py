"""Target `markov`: a random Zipfian Markov chain, which needs no corpus."""

from __future__ import annotations

from typing import Any

import numpy as np
from array_api_compat import device

from ..arrays import namespace
from ..text.vocabulary import Vocabulary
from .automaton import SampledAutomaton
from .tables import Tables

MAX_BYTES = 2 << 30
EXPONENTS = (0.5, 2.5)
_BLOCK = 1 << 20  # entries of the table computed at a time


class MarkovTarget(SampledAutomaton):
    """p*(a | last n - 1 tokens) ∝ rank^-s, with the ranks a random permutation and s drawn anew in every context.

    With s uniform between 0.5 and 2.5 some contexts are almost uniform and some nearly deterministic, so that greedy
    writing is not optimal.

    Args:
        vocab_size: V, the five special tokens included; words are the ids from 5 on.
        order: n; the chain looks at n - 1 tokens.
        seed: seed of the chain.
        eos_probability: probability of `<eos>` in every context.

    Attributes:
        num_states: contexts of n - 1 tokens, including those at the beginning of a text.
    """

    def __init__(self, vocab_size: int, order: int = 2, seed: int = 0, eos_probability: float = 0.0) -> None:
        if vocab_size <= Vocabulary.FIRST_WORD:
            raise ValueError(f"a markov target needs a vocab_size above {Vocabulary.FIRST_WORD}, not {vocab_size}")
        if order < 1:
            raise ValueError(f"the order of a markov target must be at least 1, not {order}")
        if not 0.0 <= eos_probability < 1.0:
            raise ValueError(f"eos_probability must lie in [0, 1), not {eos_probability}")
        words = vocab_size - Vocabulary.FIRST_WORD
        # One symbol stands for all special tokens: <bos> and the padding before it.
        self._symbols = words + 1
        self.vocab_size = vocab_size
        self.order = order
        self.num_states = self._symbols ** (order - 1)
        size = self.num_states * vocab_size * 8
        if size > MAX_BYTES:
            raise ValueError(
                f"a markov target of order {order} over {vocab_size} tokens needs a table of {size:,} bytes, "
                f"at most {MAX_BYTES:,} are allowed; use a lower order or a smaller vocabulary"
            )
        rng = np.random.default_rng(seed)
        exponents = rng.uniform(*EXPONENTS, size=(self.num_states, 1))
        table = np.full((self.num_states, vocab_size), -np.inf)
        rows = max(1, _BLOCK // words)
        for start in range(0, self.num_states, rows):
            block = exponents[start : start + rows]
            ranks = rng.permuted(np.broadcast_to(np.arange(1, words + 1), (len(block), words)), axis=1)
            log_words = -block * np.log(ranks)
            log_words -= np.log(np.exp(log_words).sum(1, keepdims=True))
            table[start : start + rows, Vocabulary.FIRST_WORD :] = log_words + np.log1p(-eos_probability)
        if eos_probability > 0:
            table[:, Vocabulary.EOS] = np.log(eos_probability)
        self._tables = Tables(log_prob=table)

    def next_state(self, states: Any, tokens: Any) -> Any:
        """(B,) states after (B,) tokens."""
        if self.order == 1:
            return states
        symbols = namespace(tokens).clip(tokens - Vocabulary.FIRST_WORD + 1, 0, self._symbols - 1)
        return states % self._symbols ** (self.order - 2) * self._symbols + symbols

    def next_states(self, states: Any) -> Any:
        """(B, V) int64, the state after each token."""
        xp = namespace(states)
        tokens = xp.arange(self.vocab_size, device=device(states))
        return self.next_state(states[:, None], tokens[None, :]) + xp.zeros_like(tokens)[None, :]

    def last_tokens(self, states: Any) -> Any:
        """(S,) int64, the last word of each state, -1 for none (at order 1, in every state)."""
        symbols = states % self._symbols
        return namespace(states).where(symbols > 0, symbols + Vocabulary.FIRST_WORD - 1, -1)
