"""What an algorithm must offer to be trained, evaluated and raced beside the others."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

Callback = Callable[[Any], "bool | None"]


@runtime_checkable
class Agent(Protocol):
    """Three methods and a count; `DQN` and every adapter have them, and so can a class of your own.

    A run or a race makes the agent as `YourAgent(env_config, seed=…, device=…, **settings)`, where `env_config` is an
    `EnvConfig`; `gym.make("TokenLM-v0", config=env_config)` is its environment.

    Attributes:
        env_steps: environment steps taken so far.
    """

    @property
    def env_steps(self) -> int:
        """Environment steps taken so far."""
        ...

    def learn(self, total_steps: int, callback: Callback | None = None) -> Any:
        """Act and train for `total_steps` environment steps more, or a few more than that.

        Args:
            total_steps: environment steps.
            callback: to be called with the agent now and then, best after every step; where it returns False, `learn`
                returns.
        """

    def predict(
        self,
        observation: npt.ArrayLike,
        state: Any = None,
        episode_start: npt.ArrayLike | None = None,
        deterministic: bool = False,
        action_masks: npt.ArrayLike | None = None,
    ) -> tuple[npt.NDArray[np.int64], Any]:
        """Actions (B,) for observations (B, L) int64, as of stable-baselines3; with `deterministic` the best ones."""

    def log_probs(
        self, observation: npt.ArrayLike, action_masks: npt.ArrayLike | None = None
    ) -> npt.NDArray[np.float64]:
        """Log π(a | s) of the policy as it acts, (B, V) in nats, for observations (B, L) and masks (B, V) bool."""
