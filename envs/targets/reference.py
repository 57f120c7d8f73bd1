"""Target `reference`: the smoothed text of the document itself."""

from __future__ import annotations

from typing import Any

import numpy as np
from array_api_compat import device

from ..arrays import namespace


class ReferenceTarget:
    """p*(a) = (1 - ε)·1[a = y_t] + ε/V, where y_t is the next token of the document.

    Args:
        vocab_size: V, special tokens included.
        epsilon: ε, strictly between 0 and 1.
    """

    def __init__(self, vocab_size: int, epsilon: float = 0.1) -> None:
        if not 0.0 < epsilon < 1.0:
            raise ValueError(f"epsilon must lie strictly between 0 and 1, not {epsilon}")
        self.vocab_size = vocab_size
        self.epsilon = epsilon
        self.context_size: int | None = None
        self._log_other = float(np.log(epsilon / vocab_size))
        self._log_expected = float(np.log(1.0 - epsilon + epsilon / vocab_size))

    def log_prob(self, prefixes: Any, tokens: Any, expected: Any = None) -> Any:
        """(B,) log p*(token); see `Target`. Raises ValueError without `expected`."""
        xp = namespace(tokens)
        hit = tokens == self._given(expected)
        return xp.where(hit, xp.asarray(self._log_expected, dtype=xp.float64, device=device(tokens)), self._log_other)

    def log_probs(self, prefixes: Any, expected: Any = None) -> Any:
        """(B, V) log p*(·); see `Target`. Raises ValueError without `expected`."""
        xp = namespace(self._given(expected))
        every = xp.arange(self.vocab_size, device=device(expected))
        return self.log_prob(prefixes, every[None, :] + xp.zeros_like(expected)[:, None], expected[:, None])

    def mass(self, among: Any, expected: Any) -> Any:
        """(B,) total probability of the tokens `among` (V,) bool, in closed form."""
        xp = namespace(self._given(expected))
        held = xp.astype(among, xp.float64)
        return (1.0 - self.epsilon) * held[expected] + self.epsilon / self.vocab_size * xp.sum(held)

    def _given(self, expected: Any) -> Any:
        if expected is None:
            raise ValueError("the reference target needs the document's own next token; pass expected, (B,) token ids")
        return expected
