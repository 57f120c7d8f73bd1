"""What a target distribution p* must offer.

All methods are batched and take NumPy int64 arrays or torch tensors, giving the same kind back. Log-probabilities are
in nats, float64.
"""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable


@runtime_checkable
class Target(Protocol):
    """A distribution of the next token given the prefix.

    Attributes:
        vocab_size: V, special tokens included.
        context_size: how many last tokens of a prefix it looks at; None for all.
    """

    vocab_size: int

    @property
    def context_size(self) -> int | None:
        """How many last tokens matter."""
        ...

    def log_prob(self, prefixes: Any, tokens: Any, expected: Any = None) -> Any:
        """Log p*(token | prefix).

        Args:
            prefixes: (B, L) token ids, newest last, left-padded with 0, beginning with `<bos>` unless it slid out.
            tokens: (B,) token ids.
            expected: (B,) the document's own next token; only "reference" needs it.

        Returns: (B,) float64, nats.
        """
        ...

    def log_probs(self, prefixes: Any, expected: Any = None) -> Any:
        """Log p*(· | prefix) of every token, (B, V) float64."""
        ...


@runtime_checkable
class FiniteStateTarget(Target, Protocol):
    """A target that looks at the last few tokens only, as a finite automaton: what the exact oracle needs.

    Attributes:
        num_states: states are 0 … num_states - 1.
    """

    num_states: int

    def state_of(self, prefixes: Any) -> Any:
        """(B, L) prefixes to (B,) int64 states."""
        ...

    def next_state(self, states: Any, tokens: Any) -> Any:
        """(B,) states and (B,) tokens to the (B,) states after them."""
        ...

    def advance(self, states: Any, tokens: Any) -> tuple[Any, Any]:
        """(B,) log p*(token | state) and the (B,) states after the tokens, at once."""
        ...

    def state_log_prob(self, states: Any, tokens: Any) -> Any:
        """(B,) log p*(token | state)."""
        ...

    def state_log_probs(self, states: Any) -> Any:
        """(B, V) log p*(· | state)."""
        ...

    def next_states(self, states: Any) -> Any:
        """(B, V) int64, the state after each token."""
        ...
