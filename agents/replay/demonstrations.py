"""Corpus episodes as transitions, for off-policy algorithms of other libraries that can use demonstrations."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from ...envs import EnvConfig, World
from ..networks.prefixes import windows_at
from .corpus import corpus_replay

Array = npt.NDArray[Any]
_BLOCK = 256  # episodes per batch


@dataclass(frozen=True)
class Demonstrations:
    """N transitions of consecutive corpus episodes.

    Args:
        observation: (N, L) int64, the windows that the environment would give.
        actions: (N,) int64, the document's own tokens.
        rewards: (N,) float32, the environment's rewards, nats.
        after: (N, L) int64, the next observations.
        terminated: (N,) bool.
        truncated: (N,) bool.
    """

    observation: Array
    actions: Array
    rewards: Array
    after: Array
    terminated: Array
    truncated: Array

    def side_by_side(self, count: int) -> Iterator[Demonstrations]:
        """Yield the steps of `count` parallel environments, each with its own range of transitions, truncated last."""
        length = len(self.actions) // count
        columns = np.arange(count) * length
        for step in range(length):
            part = Demonstrations(**{f.name: getattr(self, f.name)[columns + step] for f in fields(self)})
            if step == length - 1:
                part.truncated[...] = ~part.terminated
            yield part


def demonstrations(world: World, config: EnvConfig, count: int, seed: int) -> Demonstrations:
    """`count` transitions of training documents in random order; documents repeat if the corpus has fewer.

    Args:
        world: of the environment.
        config: the environment's arguments.
        count: N.
        seed: of the order and of the starts of longer documents.
    """
    replay = corpus_replay(world, config, seed)
    rng = np.random.default_rng(seed)
    parts: list[dict[str, Array]] = []
    found, waiting = 0, np.zeros(0, np.int64)
    while found < count:
        if not len(waiting):
            waiting = rng.permutation(len(replay))
        rows, waiting = waiting[:_BLOCK], waiting[_BLOCK:]
        batch = replay.rows(torch.from_numpy(rows))
        tokens, is_action = batch.tokens.numpy(), batch.is_action.numpy()
        row, column = np.nonzero(is_action)
        over = ~np.pad(is_action[:, 1:], ((0, 0), (0, 1)))[row, column]
        terminated = batch.terminal.numpy()[row, column]
        parts.append(
            {
                "observation": windows_at(tokens, row, column, config.context_length),
                "actions": batch.actions.numpy()[row, column],
                "rewards": batch.rewards.numpy()[row, column],
                "after": windows_at(tokens, row, column + 1, config.context_length),
                "terminated": terminated,
                "truncated": over & ~terminated,
            }
        )
        found += len(row)
    return Demonstrations(**{name: np.concatenate([part[name] for part in parts])[:count] for name in parts[0]})
