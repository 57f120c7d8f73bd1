"""What all targets that look at the last n - 1 tokens share: reading a prefix into a state."""

from __future__ import annotations

from typing import Any

from array_api_compat import device

from ..arrays import namespace


class Automaton:
    """Base of the targets that are finite automata; see `FiniteStateTarget` for their methods.

    Attributes:
        order: n; the state after any prefix depends on its last n - 1 tokens, and state 0 knows none.
    """

    order: int

    @property
    def context_size(self) -> int:
        """How many last tokens matter, n - 1."""
        return self.order - 1

    def log_prob(self, prefixes: Any, tokens: Any, expected: Any = None) -> Any:
        """(B,) log p*(token | prefix); see `Target`."""
        return self.state_log_prob(self.state_of(prefixes), tokens)

    def log_probs(self, prefixes: Any, expected: Any = None) -> Any:
        """(B, V) log p*(· | prefix); see `Target`."""
        return self.state_log_probs(self.state_of(prefixes))

    def state_of(self, prefixes: Any) -> Any:
        """(B, L) prefixes to (B,) states, by reading the last n - 1 tokens."""
        xp = namespace(prefixes)
        states = xp.zeros(prefixes.shape[0], dtype=xp.int64, device=device(prefixes))
        for column in range(max(0, prefixes.shape[1] - self.context_size), prefixes.shape[1]):
            states = self.next_state(states, prefixes[:, column])
        return states

    def advance(self, states: Any, tokens: Any) -> tuple[Any, Any]:
        """Both (B,) log p*(token | state) and the (B,) states after the tokens."""
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
