"""Whether a target is what an environment takes it for: a consistent distribution."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..text.vocabulary import Vocabulary
from .protocol import Target

_ROWS, _WIDTH = 8, 7


def check_target(target: Target, *, seed: int = 0, atol: float = 1e-6, torch_too: bool = True) -> None:
    """Try `target` on random prefixes; for the tests of whoever writes one.

    Log-probabilities must be of the right shape and dtype and none above 0, add up to 1 in every prefix, agree between
    `log_probs` and `log_prob`, not depend on the other prefixes of the batch or on padding, and be the same on tensors
    as on NumPy arrays.

    Args:
        target: of at least one word besides the five special tokens.
        seed: of the prefixes.
        atol: how far two log-probabilities, or a sum and 1, may be apart.
        torch_too: ask with tensors too.

    Raises ValueError for the first thing that is wrong.
    """
    rng, size = np.random.default_rng(seed), target.vocab_size
    prefixes = np.zeros((_ROWS, _WIDTH), np.int64)
    for row in range(_ROWS):  # of every length
        words = rng.integers(Vocabulary.FIRST_WORD, size, row % _WIDTH)
        prefixes[row, _WIDTH - len(words) - 1 :] = [Vocabulary.BOS, *words]
    expected = rng.integers(Vocabulary.FIRST_WORD, size, _ROWS)
    rows = target.log_probs(prefixes, expected)
    if rows.shape != (_ROWS, size) or rows.dtype != np.float64:
        raise ValueError(f"log_probs must give {(_ROWS, size)} float64, not {rows.shape} {rows.dtype}")
    if np.isnan(rows).any() or rows.max() > atol:
        raise ValueError(f"a log-probability must be a number not above 0, but the largest is {rows.max()}")
    sums = np.exp(rows).sum(1)
    worst = int(np.abs(sums - 1.0).argmax())
    if abs(sums[worst] - 1.0) > atol:
        raise ValueError(
            f"probabilities must add up to 1, but after {prefixes[worst].tolist()} they do to {sums[worst]}"
        )
    tokens = rng.integers(0, size, _ROWS)
    single = target.log_prob(prefixes, tokens, expected)
    _same("log_prob", single, "that entry of log_probs", rows[np.arange(_ROWS), tokens], atol)
    alone = np.concatenate([target.log_probs(prefixes[i : i + 1], expected[i : i + 1]) for i in range(_ROWS)])
    _same("log_probs of one prefix", alone, "its row in a batch", rows, atol)
    padded = np.concatenate([np.zeros((_ROWS, 3), np.int64), prefixes], axis=1)
    _same("log_probs with more padding", target.log_probs(padded, expected), "those with less", rows, atol)
    if torch_too:
        import torch

        given = torch.from_numpy(prefixes), torch.from_numpy(tokens), torch.from_numpy(expected)
        of_rows, of_tokens = target.log_probs(given[0], given[2]), target.log_prob(*given)
        if not isinstance(of_rows, torch.Tensor) or not isinstance(of_tokens, torch.Tensor):
            raise ValueError(f"tensors must be answered with tensors, not {type(of_rows).__name__}")
        _same("log_probs on tensors", of_rows.numpy(), "those on arrays", rows, atol)
        _same("log_prob on tensors", of_tokens.numpy(), "that on arrays", single, atol)


def _same(what: str, got: Any, other: str, expected: Any, atol: float) -> None:
    if not np.allclose(got, expected, rtol=0.0, atol=atol):
        # Subtracting two infinities warns; where both are, they are the same.
        apart = np.abs(np.where(got == expected, 0.0, np.nan_to_num(got) - np.nan_to_num(expected))).max()
        raise ValueError(f"{what} must equal {other}, but they are {apart} apart")
