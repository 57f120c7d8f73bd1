"""The base class of targets that look at the last n - 1 tokens."""

from __future__ import annotations

from typing import Any

from array_api_compat import device

from ..arrays import namespace


class Automaton:
    """Base class of targets that are finite automata; see `FiniteStateTarget` for the methods.

    Attributes:
        order: n; the state of a prefix depends on its last n - 1 tokens. State 0 is the empty context.
    """

    order: int

    @property
    def context_size(self) -> int:
        """Number of last tokens that matter, n - 1."""
        return self.order - 1

    def log_prob(self, prefixes: Any, tokens: Any, expected: Any = None) -> Any:
        """(B,) log p*(token | prefix); see `Target`."""
        return self.state_log_prob(self.state_of(prefixes), tokens)

    def log_probs(self, prefixes: Any, expected: Any = None) -> Any:
        """(B, V) log p*(· | prefix); see `Target`."""
        return self.state_log_probs(self.state_of(prefixes))

    def state_of(self, prefixes: Any) -> Any:
        """(B, L) prefixes to (B,) states."""
        xp = namespace(prefixes)
        states = xp.zeros(prefixes.shape[0], dtype=xp.int64, device=device(prefixes))
        for column in range(max(0, prefixes.shape[1] - self.context_size), prefixes.shape[1]):
            states = self.next_state(states, prefixes[:, column])
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
