"""A target of one's own from any score of the next token."""

from __future__ import annotations

from typing import Any

from array_api_compat import device

from ..arrays import namespace
from ..text.tokenizers import Tokenizer


class ScoringTarget:
    """p*(a | s) = exp(score(s, a)) / Σ_b exp(score(s, b)): a subclass says what it likes, this makes it a distribution.

    Args:
        tokenizer: the environment's; its `vocabulary` has the tokens, its `decode` the texts.

    Attributes:
        vocab_size: V, special tokens included.
        context_size: how many last tokens `scores` looks at; None for all, and a subclass may say less.
    """

    context_size: int | None = None

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self.vocab_size = len(tokenizer.vocabulary)

    def scores(self, prefixes: Any) -> Any:
        """(B, L) prefixes, left-padded with 0, to (B, V) scores in nats, -inf for what must not follow.

        Prefixes are NumPy arrays, or tensors in `TokenLMDeviceEnv`, and scores are to be of the same kind (NumPy ones
        are taken for tensors on the CPU too). Special tokens other than `<eos>` can never be chosen, so their scores
        do not matter as long as they are not above all others.
        """
        raise NotImplementedError(f"{type(self).__name__} has no method scores(prefixes)")

    def log_probs(self, prefixes: Any, expected: Any = None) -> Any:
        """(B, V) log p*(· | prefix); see `Target`."""
        xp = namespace(prefixes)
        scores = xp.asarray(self.scores(prefixes), dtype=xp.float64, device=device(prefixes))
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
