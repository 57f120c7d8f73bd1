"""The score of a policy that any library has learned, from its action values alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from ...envs import EnvConfig, World, env_config_from
from ..protocol import BaseAgent
from .playing import play, short_of_optimum
from .scores import Scale

Values = Callable[[npt.NDArray[np.int64]], Any]


def greedy_score(env: str | EnvConfig | Any, values: Values, episodes: int = 256, seed: int = 0) -> float | None:
    """The normalised score of greedy texts: 0 for the best trivial policy, 1 for the optimum.

    Args:
        env: a registered id, an `EnvConfig`, or an environment made from one.
        values: from (N, L) int64 observations to the (N, V) values of the actions, an array or a tensor, such as Q or
            log π. The valid action with the largest value is taken.
        episodes: number of texts.
        seed: of the prompts.

    Returns: the score; None if the optimum is not known exactly.
    """
    config = env_config_from(env)
    world = World.of(config)
    played = play(_Greedy(config, values), world, config, episodes, seed, temperature=0.0)
    return Scale.of(world, config, played.prefixes).score(float(short_of_optimum(played, world, config).mean()))


class _Greedy(BaseAgent):
    """Takes the valid action with the largest value."""

    def __init__(self, config: EnvConfig, values: Values) -> None:
        super().__init__(config)
        self._values = values

    def predict(
        self,
        observation: npt.ArrayLike,
        state: Any = None,
        episode_start: npt.ArrayLike | None = None,
        deterministic: bool = False,
        action_masks: npt.ArrayLike | None = None,
    ) -> tuple[npt.NDArray[np.int64], Any]:
        with torch.no_grad():
            values = torch.as_tensor(self._values(np.asarray(observation, np.int64))).cpu().numpy()
        if action_masks is not None:
            values = np.where(action_masks, values, -np.inf)
        return values.argmax(-1), state
