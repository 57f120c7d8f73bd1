"""The protocol of forms."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable


@runtime_checkable
class Form(Protocol):
    """A deterministic automaton over tokens: which tokens are valid in a state, and what they are paid.

    A state is a row of S whole numbers, such as (place in the line, rhyme). All methods are batched. They take int64
    NumPy arrays or torch tensors and return the same kind, so that they run wherever the environment does, and they
    answer for every token in every state, also after a token that is not allowed. In every state that allowed tokens
    lead to, an allowed token must be left.

    A form of one's own is a class that is called with the tokenizer: `form="module:Class"`.

    Attributes:
        most_bonus: upper bound of what `bonus` sums to over a text; infinite if none is known.
    """

    most_bonus: float

    def start(self, prefixes: Any) -> Any:
        """(B, S) int64 states of episodes after their first observations (B, L), left-padded with `<pad>`."""
        ...

    def allowed(self, states: Any, tokens: Any) -> Any:
        """(B, N) bool, whether tokens (B, N) or (1, N) may be written in states (B, S)."""
        ...

    def next(self, states: Any, tokens: Any) -> Any:
        """(B, S) states after tokens (B,) in states (B, S)."""
        ...

    def bonus(self, states: Any, tokens: Any) -> Any:
        """(B, N) float64, what tokens (B, N) or (1, N) are paid in states (B, S), in units of `form_bonus`."""
        ...
