"""What planners do, and what they need of a model."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from torch import Tensor

from ...envs import EnvConfig, World
from ...envs.arrays import Floats, Ints


class Model(Protocol):
    """A model of the rewards."""

    env_config: EnvConfig
    world: World

    @property
    def temperature(self) -> float:
        """τ of the objective."""
        ...

    def rewards(self, first: Ints, windows: Ints, written: Ints, optimism: float = 0.0) -> Tensor:
        """(B, V) modelled rewards of the next tokens, -inf where not valid; see `RewardModel.rewards`."""
        ...


class Episodes(Protocol):
    """Plans of episodes that are being written."""

    def actions(self, windows: Ints, written: int) -> Ints:
        """(B,) next tokens in observations (B, L) after `written` tokens."""
        ...


class Planner(Protocol):
    """Plans with a model, and remembers what it planned until the model changes."""

    def episodes(self, first: Ints, noise: Floats, optimism: float, rng: np.random.Generator) -> Episodes:
        """Plans of episodes with first observations (B, L), to learn from.

        Args:
            first: (B, L) first observations.
            noise: (B,) factors of Gumbel noise on what is planned with; infinite for random texts.
            optimism: see `RewardEstimate.rewards`.
            rng: source of the noise.
        """
        ...

    def values(self, first: Ints, windows: Ints, written: Ints) -> Floats:
        """(B, V) values of the next tokens; arguments as `Positioned.state_values`."""
        ...

    def forget(self) -> None:
        """The model has changed."""
        ...
