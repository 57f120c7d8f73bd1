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


class Memory(Protocol):
    """What a `RecurrentTarget` has read of B rows, so that one token more costs the same at any length."""

    @property
    def log_probs(self) -> Any:
        """(B, V) float64, log p*(· | what was read) of every row."""
        ...

    def begin(self, rows: Any, prefixes: Any) -> None:
        """Let `rows` (R,) forget what they read and read `prefixes` (R, L), left-padded with 0."""
        ...

    def advance(self, tokens: Any, active: Any) -> None:
        """Let the `active` (B,) bool rows read one of `tokens` (B,) more."""
        ...


@runtime_checkable
class RecurrentTarget(Target, Protocol):
    """A target that looks at the whole prefix, and can go on from where it stopped reading: a neural model.

    An episode asks its memory instead of `log_prob`. What is read there are the window that the episode began with and
    all tokens appended since, however many: beyond `context_length` it knows what the observation no longer shows.
    """

    def memory(self, num_rows: int, like: Any) -> Memory:
        """A memory of `num_rows` rows that takes and gives arrays of the namespace and device of `like`."""
        ...
