"""Spaces of observations and actions; samples of an action space are valid tokens."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium.spaces import Box, Discrete, MultiDiscrete, Space
from gymnasium.vector.utils import batch_space


class TokenSpace(Discrete):
    """`Discrete(V)` that, without a mask, samples only tokens that are valid in every state.

    Args:
        valid: (V,) bool, the tokens to sample from.
        seed: seed of the space's own generator.
    """

    def __init__(self, valid: npt.NDArray[np.bool_], seed: int | np.random.Generator | None = None) -> None:
        super().__init__(len(valid), seed=seed)
        self.valid = valid.astype(np.int8)

    def sample(self, mask: Any = None, probability: Any = None) -> Any:
        """A uniformly random valid token; with `mask` or `probability`, as `Discrete.sample`."""
        if mask is None and probability is None:
            mask = self.valid
        return super().sample(mask=mask, probability=probability)


class MultiTokenSpace(MultiDiscrete):
    """A batch of `num_envs` token spaces."""

    def __init__(
        self,
        valid: npt.NDArray[np.int8],
        num_envs: int,
        seed: int | np.random.Generator | None = None,
    ) -> None:
        super().__init__(np.full(num_envs, len(valid)), seed=seed)
        self.valid = valid

    def sample(self, mask: Any = None, probability: Any = None) -> Any:
        """(num_envs,) uniformly random valid tokens; with `mask` or `probability`, as `MultiDiscrete.sample`."""
        if mask is None and probability is None:
            return self.np_random.choice(np.flatnonzero(self.valid), size=self.shape).astype(self.dtype)
        return super().sample(mask=mask, probability=probability)


def token_spaces(valid: npt.NDArray[np.bool_], context_length: int) -> tuple[Space[npt.NDArray[np.int64]], TokenSpace]:
    """The observation and action space of one environment.

    Args:
        valid: (V,) bool, the tokens to sample from.
        context_length: tokens in an observation.
    """
    return Box(0, len(valid) - 1, (context_length,), np.int64), TokenSpace(valid)


@batch_space.register(TokenSpace)
def _batch_token_space(space: TokenSpace, n: int = 1) -> MultiTokenSpace:
    return MultiTokenSpace(space.valid, n, seed=space.np_random.spawn(1)[0])
