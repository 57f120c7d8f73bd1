"""Texts and what the environment paid for their tokens."""

from __future__ import annotations

import numpy as np

from ...envs import EnvConfig, World, force
from ...envs.arrays import Floats, Ints, sliding_windows
from ..networks.prefixes import windows_at
from ..replay.corpus import starts_of_documents


class PaidTexts:
    """Texts that were written in an environment, with the rewards of their tokens.

    Args:
        env: the environment's arguments.

    Attributes:
        texts: (N, L + T) first observations, and the tokens after them.
        rewards: (N, T) nats; nan after the end of a text.
        payments: (M, 2) row and first step of what was paid together.
    """

    def __init__(self, env: EnvConfig) -> None:
        self._window, self._horizon = env.context_length, env.max_new_tokens
        self._every = env.reward_every or env.max_new_tokens
        self.texts: Ints = np.zeros((0, self._window + self._horizon), np.int64)
        self.rewards: Floats = np.zeros((0, self._horizon))
        self.payments: Ints = np.zeros((0, 2), np.int64)

    def add(self, texts: Ints, rewards: Floats) -> Ints:
        """Add (R, L + T) texts and their rewards (R, T); returns their payments, as in `payments`."""
        row, payment = np.nonzero(~np.isnan(rewards[:, :: self._every]))
        new = np.stack([len(self.texts) + row, payment * self._every], axis=1)
        self.payments = np.concatenate([self.payments, new])
        self.texts = np.concatenate([self.texts, texts])
        self.rewards = np.concatenate([self.rewards, rewards])
        return new

    def tokens_of(self, payments: Ints) -> tuple[Ints, Ints, Ints]:
        """Rows and steps (N,) of the tokens of (M, 2) payments, and the number (N,) of the payment of each."""
        steps = payments[:, 1:] + np.arange(self._every)
        inside = np.minimum(steps, self._horizon - 1)
        paid, after = np.nonzero((steps == inside) & ~np.isnan(self.rewards[payments[:, :1], inside]))
        return payments[paid, 0], steps[paid, after], paid

    def states(self, row: Ints, step: Ints) -> tuple[Ints, Ints, Ints]:
        """(N, L) first observations and (N, L) windows of states of the texts, and the tokens taken (N,)."""
        windows = sliding_windows(self.texts, self._window)[row, step]
        return self.texts[row, : self._window], windows, self.texts[row, self._window + step]


def paid_documents(world: World, env: EnvConfig, rng: np.random.Generator, most: int) -> tuple[Ints, Floats]:
    """Training documents as `PaidTexts` keeps texts, with the rewards of writing them.

    Args:
        world: of the environment.
        env: its arguments.
        rng: of the order of the documents, and of where longer ones begin.
        most: tokens that are enough; the last document is whole.

    Returns: (R, L + T) texts and (R, T) rewards, nats, nan after their ends.
    """
    starts, order = starts_of_documents(world, env, rng), rng.permutation(len(world.documents["train"]))
    lengths = np.minimum(world.documents["train"].lengths[order] - starts[order] + 1, env.max_new_tokens)
    rows = order[: 1 + int(np.searchsorted(lengths.cumsum(), most))]
    forced = force(world, env, "train", rows, starts[rows])
    every = np.arange(len(rows))
    first = windows_at(forced.tokens, every, forced.prompt_lengths - 1, env.context_length)
    unwritten = np.arange(env.max_new_tokens) >= forced.lengths[:, None]
    kept = forced.lengths > 0
    return np.concatenate([first, forced.actions], axis=1)[kept], np.where(unwritten, np.nan, forced.rewards)[kept]
