"""A base class for targets of your own, from scores of the next token."""

from __future__ import annotations

from typing import Any

import numpy as np
from array_api_compat import device

from ..arrays import namespace
from ..text.protocol import Tokenizer


class ScoringTarget:
    """p*(a | s) = exp(score(s, a)) / Σ_b exp(score(s, b)); a subclass defines `scores`.

    With `num_states`, `state_of` and `next_states` as well it has the exact oracle; see `StatedTarget`.

    Args:
        tokenizer: the environment's tokenizer.

    Attributes:
        vocab_size: V, special tokens included.
        context_size: number of last tokens that `scores` depends on; None, the default, for all.
        takes_tensors: whether `scores` takes tensors. If False, it always gets NumPy arrays; if True, it gets tensors
            from an environment on a device, and nothing is copied to the host.
    """

    context_size: int | None = None
    takes_tensors = False

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self.vocab_size = len(tokenizer.vocabulary)

    def scores(self, prefixes: Any) -> Any:
        """(B, L) prefixes, left-padded with `<pad>`, to (B, V) scores in nats, -inf for probability 0.

        Special tokens other than `<eos>` are never valid actions; the environment renormalises without them.
        """
        raise NotImplementedError(f"{type(self).__name__} has no method scores(prefixes)")

    def log_probs(self, prefixes: Any, expected: Any = None) -> Any:
        """(B, V) log p*(· | prefix); see `Target`."""
        xp = namespace(prefixes)
        given = prefixes if self.takes_tensors or isinstance(prefixes, np.ndarray) else prefixes.cpu().numpy()
        scores = xp.asarray(self.scores(given), dtype=xp.float64, device=device(prefixes))
        if scores.shape != (prefixes.shape[0], self.vocab_size):
            raise ValueError(
                f"scores must have shape {(prefixes.shape[0], self.vocab_size)} (B, V), not {tuple(scores.shape)}"
            )
        scores = scores - xp.max(scores, axis=1, keepdims=True)
        return scores - xp.log(xp.sum(xp.exp(scores), axis=1, keepdims=True))

    def log_prob(self, prefixes: Any, tokens: Any, expected: Any = None) -> Any:
        """(B,) log p*(token | prefix); see `Target`."""
        rows = namespace(tokens).arange(tokens.shape[0], device=device(tokens))
        return self.log_probs(prefixes)[rows, tokens]
