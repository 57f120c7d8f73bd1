"""Probabilities of a user's own target sum to 1, or the target is refused."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..arrays import Ints, pieces
from ..text.vocabulary import Vocabulary
from .protocol import FiniteStateTarget, Target

ROWS, _WIDTH = 8, 7  # random prefixes
_APART = 1e-3  # probabilities of float32 sum to 1 up to this
_AT_ONCE = 1 << 22  # (state, token) entries


def check_sums(target: Target, name: str) -> None:
    """Refuse a target whose probabilities are none: rewards, optimum and scores would mean nothing.

    A few prefixes are asked for; of a finite automaton all states. Where the target has `mass`, which gives the total
    probability of some tokens in closed form, it must be the sum of theirs.

    Args:
        target: of a user's own.
        name: what it is called.

    Raises ValueError for the first row that does not sum to 1, or whose `mass` is another.
    """
    rng, size = np.random.default_rng(0), target.vocab_size
    prefixes, expected = random_prefixes(rng, size), rng.integers(Vocabulary.FIRST_WORD, size, ROWS)
    rows = target.log_probs(prefixes, expected)
    refuse_sums(rows, size, name, prefixes)
    if (mass := getattr(target, "mass", None)) is not None:
        _refuse_mass(mass, rng.random(size) < 0.5, rows, expected, name)
    if isinstance(target, FiniteStateTarget):
        for some in pieces(int(target.num_states), size, _AT_ONCE):
            states = np.arange(some.start, some.stop)
            refuse_sums(target.state_log_probs(states), size, name, states)


def refuse_sums(rows: Any, size: int, name: str, where: Ints) -> None:
    """Raise ValueError unless the log-probabilities of the target `name` sum to 1.

    Args:
        rows: (B, V) in nats.
        size: V.
        name: what the target is called.
        where: (B, L) the prefixes of the rows, or (B,) their states.
    """
    rows = np.asarray(rows)
    if rows.ndim != 2 or rows.shape[1] != size:
        raise ValueError(f"log_probs of the target {name!r} must have the shape (B, {size}), not {rows.shape}")
    with np.errstate(over="ignore", invalid="ignore"):
        sums = np.exp(rows.astype(np.float64)).sum(1)
    wrong = np.flatnonzero(~(np.abs(sums - 1.0) <= _APART))
    if len(wrong):
        place = where[wrong[0]]
        after = f"in the state {place}" if where.ndim == 1 else f"after the tokens {place[place > 0].tolist()}"
        raise ValueError(
            f"the probabilities of the target {name!r} must sum to 1, but {after} they sum to "
            f"{sums[wrong[0]]:.4g}; subtract the log-sum-exp of each row, as ScoringTarget does"
        )


def _refuse_mass(mass: Any, among: Any, rows: Any, expected: Ints, name: str) -> None:
    """Raise ValueError unless `mass` of the tokens `among` (V,) is the sum of their chances in the rows (B, V)."""
    meaning = "the total probability (B,) of the tokens among (V,) after each prefix"
    if not callable(mass):
        raise ValueError(f"mass of the target {name!r} must be a method that gives {meaning}; rename what is none")
    found, right = np.asarray(mass(among, expected)), np.exp(rows)[:, among].sum(1)
    if found.shape != right.shape or not (np.abs(found - right) <= _APART).all():
        raise ValueError(f"mass of the target {name!r} must be {meaning}, {right}, not {found}")


def random_prefixes(rng: np.random.Generator, size: int) -> Ints:
    """(8, 7) prefixes of different lengths, left-padded, in a vocabulary of `size` tokens."""
    prefixes = np.zeros((ROWS, _WIDTH), np.int64)
    for row in range(ROWS):
        words = rng.integers(Vocabulary.FIRST_WORD, size, row % _WIDTH)
        prefixes[row, _WIDTH - len(words) - 1 :] = [Vocabulary.BOS, *words]
    return prefixes
