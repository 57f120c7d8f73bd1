"""A target of one's own from any score of the next token."""

from __future__ import annotations

from typing import Any

import numpy as np
from array_api_compat import device

from ..arrays import namespace
from ..text.protocol import Tokenizer


class ScoringTarget:
    """p*(a | s) = exp(score(s, a)) / Σ_b exp(score(s, b)): a subclass says what it likes, this makes it a distribution.

    Args:
        tokenizer: the environment's; its `vocabulary` has the tokens, its `decode` the texts.

    Attributes:
        vocab_size: V, special tokens included.
        context_size: how many last tokens `scores` looks at; None for all, and a subclass may say less.
        takes_tensors: False: `scores` is given NumPy arrays always. True: tensors where the environment has them, so
            that nothing leaves the device.
    """

    context_size: int | None = None
    takes_tensors = False

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self.vocab_size = len(tokenizer.vocabulary)

    def scores(self, prefixes: Any) -> Any:
        """(B, L) prefixes, left-padded with 0, to (B, V) scores in nats, -inf for what must not follow.

        Special tokens other than `<eos>` can never be chosen, and what they get is shared out among the others.
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
