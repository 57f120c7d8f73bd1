"""What tokens earned after the tokens that a model of rewards reads."""

from __future__ import annotations

import itertools
import math

import numpy as np
import numpy.typing as npt

from ...envs.arrays import Floats, Ints

_AGREE = 1e-6  # nats


class Remembered:
    """The rewards of tokens after what was read before them, as long as they were always the same.

    A reward that was another one the next time depends on more than was read: it is forgotten for good.
    """

    def __init__(self) -> None:
        self._rows: dict[bytes, dict[int, float]] = {}  # nan where rewards did not agree

    def add(self, read: Ints, tokens: Ints, rewards: Floats) -> None:
        """Remember what `tokens` (N,) earned after reading (N, P) tokens, `rewards` (N,)."""
        for key, token, reward in zip(_keys(read), tokens.tolist(), rewards.tolist(), strict=True):
            row = self._rows.setdefault(key, {})
            before = row.setdefault(token, reward)
            if not abs(reward - before) <= _AGREE:
                row[token] = math.nan

    def knows(self, read: Ints, tokens: Ints) -> npt.NDArray[np.bool_]:
        """(N,) whether it is remembered what `tokens` (N,) earn after reading (N, P) tokens."""
        none: dict[int, float] = {}
        pairs = zip(_keys(read), tokens.tolist(), strict=True)
        return ~np.isnan([self._rows.get(key, none).get(token, math.nan) for key, token in pairs])

    def find(self, read: Ints) -> tuple[Ints, Ints, Floats]:
        """What is remembered after reading (N, P) tokens: (M,) places in `read`, tokens and rewards."""
        rows = [(place, row) for place, row in enumerate(map(self._rows.get, _keys(read))) if row]
        places = np.repeat(
            np.fromiter((place for place, _ in rows), np.int64, len(rows)),
            np.fromiter((len(row) for _, row in rows), np.int64, len(rows)),
        )
        tokens = np.fromiter(itertools.chain.from_iterable(row for _, row in rows), np.int64, len(places))
        rewards = np.fromiter(itertools.chain.from_iterable(row.values() for _, row in rows), float, len(places))
        agreed = ~np.isnan(rewards)
        return places[agreed], tokens[agreed], rewards[agreed]

    def arrays(self, places: int) -> tuple[Ints, Ints, Floats]:
        """Everything: (M, P) tokens read, for P `places`, with (M,) tokens and rewards, nan where forgotten."""
        entries = [(key, token, reward) for key, row in self._rows.items() for token, reward in row.items()]
        read = np.frombuffer(b"".join(key for key, _, _ in entries), np.int64).reshape(len(entries), places)
        tokens = np.array([token for _, token, _ in entries], np.int64)
        return read, tokens, np.array([reward for _, _, reward in entries], np.float64)


def _keys(read: Ints) -> list[bytes]:
    rows = np.ascontiguousarray(read, np.int64).view(np.dtype((np.void, 8 * read.shape[1])))
    keys: list[bytes] = rows.ravel().tolist()
    return keys
