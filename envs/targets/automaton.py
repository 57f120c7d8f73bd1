"""The base class of targets that look at the last n - 1 tokens."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from array_api_compat import device

from ..arrays import namespace
from ..text.vocabulary import Vocabulary
from .tables import Tables


class Automaton:
    """Base class of targets that are finite automata; see `FiniteStateTarget` for the methods.

    Attributes:
        order: n; the state of a prefix depends on its last n - 1 tokens. State 0 is the empty context.
        takes_numbers: whether `next_state`, `state_log_prob` and `advance` also take one state and token as Python
            numbers, and `state_of` one prefix as a list, and return numbers then.
    """

    order: int
    takes_numbers: ClassVar[bool] = False

    @property
    def context_size(self) -> int | None:
        """Number of last tokens that matter, n - 1; None for all."""
        return self.order - 1

    def log_prob(self, prefixes: Any, tokens: Any, expected: Any = None) -> Any:
        """(B,) log p*(token | prefix); see `Target`."""
        return self.state_log_prob(self.state_of(prefixes), tokens)

    def log_probs(self, prefixes: Any, expected: Any = None) -> Any:
        """(B, V) log p*(· | prefix); see `Target`."""
        return self.state_log_probs(self.state_of(prefixes))

    def state_of(self, prefixes: Any) -> Any:
        """(B, L) prefixes to (B,) states."""
        length = len(prefixes) if isinstance(prefixes, list) else prefixes.shape[1]
        first = 0 if self.context_size is None else max(0, length - self.context_size)
        if isinstance(prefixes, list):
            states, columns = 0, prefixes[first:]
        else:
            xp = namespace(prefixes)
            states = xp.zeros(prefixes.shape[0], dtype=xp.int64, device=device(prefixes))
            columns = [prefixes[:, column] for column in range(first, length)]
        for tokens in columns:
            states = self.next_state(states, tokens)
        return states

    def advance(self, states: Any, tokens: Any) -> tuple[Any, Any]:
        """(B,) log p*(token | state), nats, and the (B,) states after the tokens."""
        return self.state_log_prob(states, tokens), self.next_state(states, tokens)

    def next_state(self, states: Any, tokens: Any) -> Any:
        """(B,) states after (B,) tokens."""
        raise NotImplementedError

    def state_log_prob(self, states: Any, tokens: Any) -> Any:
        """(B,) log p*(token | state), nats."""
        raise NotImplementedError

    def state_log_probs(self, states: Any) -> Any:
        """(B, V) log p*(· | state), nats."""
        raise NotImplementedError


class SampledAutomaton(Automaton):
    """Base class of automata whose log-probabilities are a table, so that documents can be sampled from them.

    Attributes:
        num_states: S.
    """

    num_states: int
    takes_numbers = True
    _tables: Tables  # "log_prob" (S, V), nats

    def state_log_prob(self, states: Any, tokens: Any) -> Any:
        """(B,) log p*(token | state), nats."""
        return self._tables.like(states, "log_prob")[states, tokens]

    def state_log_probs(self, states: Any) -> Any:
        """(B, V) log p*(· | state), nats."""
        return self._tables.like(states, "log_prob")[states]

    def sample_documents(self, count: int, length: int, seed: int) -> list[list[int]]:
        """`count` documents sampled from p*, each up to `<eos>` (left out) or `length` words.

        The first word is drawn given that it is not `<eos>`, so that no document is empty.
        """
        rng = np.random.default_rng(seed)
        cumulative = np.exp(self._tables["log_prob"]).cumsum(1)
        states, tokens = np.zeros(count, np.int64), np.full((count, length), Vocabulary.EOS)
        for step in range(length):
            # <eos> is the lowest id with a probability, so drawing above it excludes it.
            least = cumulative[states, Vocabulary.EOS : Vocabulary.EOS + 1] if step == 0 else 0.0
            drawn = least + rng.random((count, 1)) * (cumulative[states, -1:] - least)
            tokens[:, step] = (cumulative[states] <= drawn).sum(1)
            states = self.next_state(states, tokens[:, step])
        ended = np.where((tokens == Vocabulary.EOS).any(1), (tokens == Vocabulary.EOS).argmax(1), length)
        return [row[:end].tolist() for row, end in zip(tokens, ended, strict=True)]
