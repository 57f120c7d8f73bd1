"""A test that a target is a consistent distribution."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..text.vocabulary import Vocabulary
from .protocol import Target

_ROWS, _WIDTH = 8, 7


def check_target(target: Target, *, seed: int = 0, atol: float = 1e-6, torch_too: bool = True) -> None:
    """Check `target` on random prefixes, for the tests of a target of your own.

    Log-probabilities must have the right shape and dtype, be at most 0, and sum to 1 as probabilities. `log_prob` must
    equal `log_probs`. Neither may depend on the other prefixes of the batch or on padding, and tensors must give the
    same as NumPy arrays.

    Args:
        target: a target with at least one word in addition to the five special tokens.
        seed: seed of the prefixes.
        atol: tolerance of log-probabilities and sums.
        torch_too: check tensors too.

    Raises ValueError for the first failure.
    """
    rng, size = np.random.default_rng(seed), target.vocab_size
    prefixes = np.zeros((_ROWS, _WIDTH), np.int64)
    for row in range(_ROWS):  # of different lengths
        words = rng.integers(Vocabulary.FIRST_WORD, size, row % _WIDTH)
        prefixes[row, _WIDTH - len(words) - 1 :] = [Vocabulary.BOS, *words]
    expected = rng.integers(Vocabulary.FIRST_WORD, size, _ROWS)
    rows = target.log_probs(prefixes, expected)
    if rows.shape != (_ROWS, size) or rows.dtype != np.float64:
        raise ValueError(f"log_probs must return {(_ROWS, size)} float64, not {rows.shape} {rows.dtype}")
    if np.isnan(rows).any() or rows.max() > atol:
        raise ValueError(f"log-probabilities must be numbers of at most 0, but the largest is {rows.max()}")
    sums = np.exp(rows).sum(1)
    worst = int(np.abs(sums - 1.0).argmax())
    if abs(sums[worst] - 1.0) > atol:
        raise ValueError(f"probabilities must sum to 1, but after {prefixes[worst].tolist()} they sum to {sums[worst]}")
    tokens = rng.integers(0, size, _ROWS)
    single = target.log_prob(prefixes, tokens, expected)
    _same("log_prob", single, "the entry of log_probs", rows[np.arange(_ROWS), tokens], atol)
    alone = np.concatenate([target.log_probs(prefixes[i : i + 1], expected[i : i + 1]) for i in range(_ROWS)])
    _same("log_probs of one prefix", alone, "its row in a batch", rows, atol)
    padded = np.concatenate([np.zeros((_ROWS, 3), np.int64), prefixes], axis=1)
    _same("log_probs with more padding", target.log_probs(padded, expected), "log_probs with less", rows, atol)
    if torch_too:
        import torch

        given = torch.from_numpy(prefixes), torch.from_numpy(tokens), torch.from_numpy(expected)
        of_rows, of_tokens = target.log_probs(given[0], given[2]), target.log_prob(*given)
        if not isinstance(of_rows, torch.Tensor) or not isinstance(of_tokens, torch.Tensor):
            raise ValueError(f"tensors as input must give tensors as output, not {type(of_rows).__name__}")
        _same("log_probs of tensors", of_rows.numpy(), "log_probs of arrays", rows, atol)
        _same("log_prob of tensors", of_tokens.numpy(), "log_prob of arrays", single, atol)


def _same(what: str, got: Any, other: str, expected: Any, atol: float) -> None:
    if not np.allclose(got, expected, rtol=0.0, atol=atol):
        # inf - inf would warn; equal entries count as 0 apart.
        apart = np.abs(np.where(got == expected, 0.0, np.nan_to_num(got) - np.nan_to_num(expected))).max()
        raise ValueError(f"{what} must equal {other}, but they differ by {apart}")
