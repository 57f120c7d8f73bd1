"""The protocols of target distributions p*.

All methods are batched. They take int64 NumPy arrays or torch tensors and return the same kind. Log-probabilities are
float64, in nats.
"""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable


@runtime_checkable
class Target(Protocol):
    """A distribution of the next token given the prefix.

    Attributes:
        vocab_size: V, special tokens included.
        context_size: number of last tokens of a prefix that matter; None for all.
    """

    vocab_size: int

    @property
    def context_size(self) -> int | None:
        """Number of last tokens of a prefix that matter; None for all."""
        ...

    def log_prob(self, prefixes: Any, tokens: Any, expected: Any = None) -> Any:
        """Log p*(token | prefix).

        Args:
            prefixes: (B, L) token ids, newest last, left-padded with `<pad>`; they begin with `<bos>` unless cut.
            tokens: (B,) token ids.
            expected: (B,) next token of the document; only "reference" needs it.

        Returns: (B,) float64, nats.
        """
        ...

    def log_probs(self, prefixes: Any, expected: Any = None) -> Any:
        """Log p*(· | prefix) of every token, (B, V) float64."""
        ...


class StatedTarget(Target, Protocol):
    """A target of one's own that is a finite automaton and says so: with three parts more it has the exact oracle.

    log p*(· | prefix) must depend on the state of the prefix alone. `check_target` tests that the parts agree.

    Attributes:
        num_states: S; states are 0 … S - 1.
    """

    num_states: int

    def state_of(self, prefixes: Any) -> Any:
        """(B, L) int64 prefixes as in `log_prob`, NumPy arrays, to (B,) int64 states."""
        ...

    def next_states(self, states: Any) -> Any:
        """(B,) int64 states to (B, V) int64, the state after each token."""
        ...


@runtime_checkable
class FiniteStateTarget(Target, Protocol):
    """A target that is a finite automaton over the last few tokens, as the exact oracle needs.

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
        """(B,) log p*(token | state) and the (B,) states after the tokens, in one call."""
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
    """The recurrent state of a `RecurrentTarget` for B rows, so that a step costs the same at any length."""

    @property
    def log_probs(self) -> Any:
        """(B, V) float64, log p*(· | tokens so far) of every row."""
        ...

    def begin(self, rows: Any, prefixes: Any) -> None:
        """Reset `rows` (R,) to `prefixes` (R, L), left-padded with `<pad>`."""
        ...

    def advance(self, tokens: Any, active: Any) -> None:
        """Append `tokens` (B,) to the `active` (B,) bool rows."""
        ...


@runtime_checkable
class RecurrentTarget(Target, Protocol):
    """A target that looks at the whole prefix and has an incremental state: a neural model.

    An episode uses its memory instead of `log_prob`. The memory holds the first observation and all tokens appended
    since, also those beyond `context_length` that the observation no longer shows.
    """

    def memory(self, num_rows: int, like: Any) -> Memory:
        """A memory of `num_rows` rows, with arrays in the namespace and on the device of `like`."""
        ...
