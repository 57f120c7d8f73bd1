"""The training loop for another library's DQN: act, store, update, on our vector environment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from gymnasium.vector import AutoresetMode

from ...envs import EnvConfig, TokenLMVectorEnv
from ..replay.demonstrations import Demonstrations
from .adapter import Adapter, Callback, Self

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Transitions:
    """One step of all B environments.

    Args:
        observation: (B, L) int64.
        masks: (B, V) bool, valid actions.
        actions: (B,) int64.
        rewards: (B,) float32, nats.
        after: (B, L) int64, next observations; at the end of an episode its final observation.
        masks_after: (B, V) bool, valid actions there.
        terminated: (B,) bool.
        truncated: (B,) bool.
    """

    observation: Array
    masks: Array
    actions: Array
    rewards: Array
    after: Array
    masks_after: Array
    terminated: Array
    truncated: Array


class OffPolicy(Adapter):
    """A library's networks, policy, replay and update, with our vector environment.

    The libraries' collectors step environments one by one in Python or need vector environments of their own. This loop
    gives all libraries the same arrays, with action masks.

    Settings, in addition to those of a subclass:
        learning_rate: of Adam.
        gamma: discount.
        batch_size: transitions per update.
        buffer_size: capacity of the replay in transitions.
        learning_starts: environment steps before the first update.
        updates_per_step: updates per step of the vector environment.
        target_update_interval: updates between copies into the target network.
        epsilon_start, epsilon_end, exploration_share: ε decays linearly over this fraction of `learn`.
    """

    values = True
    masked = True
    _env: TokenLMVectorEnv
    _observation: Array | None
    _epsilon: float
    defaults: ClassVar[dict[str, Any]] = {
        "learning_rate": 1e-3,
        "gamma": 1.0,
        "batch_size": 128,
        "buffer_size": 100_000,
        "learning_starts": 1_000,
        "updates_per_step": 1,
        "target_update_interval": 100,
        "epsilon_start": 1.0,
        "epsilon_end": 0.05,
        "exploration_share": 0.5,
    }

    @property
    def epsilon(self) -> float:
        """The current ε."""
        return self._epsilon

    def learn(self: Self, total_steps: int, callback: Callback | None = None) -> Self:
        """See `Adapter`."""
        self._learn(total_steps, callback)  # type: ignore[attr-defined]
        return self

    def _learn(self, total_steps: int, callback: Callback | None) -> None:
        env, first = self._env, self.env_steps
        if self._observation is None:
            self._observation, _ = env.reset(seed=self.seed)
        while (done := self.env_steps - first) < total_steps:
            self._epsilon = self._epsilon_at(done / total_steps)
            masks = env.action_masks()
            actions = self._act(self._observation, masks)
            after, rewards, terminated, truncated, infos = env.step(actions)
            over = terminated | truncated
            last, masks_after = after, env.action_masks()
            if over.any():  # with SAME_STEP `after` already has the first observation of the next episode
                last, masks_after = after.copy(), masks_after.copy()
                last[over] = np.stack(infos["final_obs"][over])
                masks_after[over] = self.world.valid
            self._remember(
                Transitions(
                    self._observation, masks, actions, rewards.astype(np.float32), last, masks_after, terminated,
                    truncated,
                )
            )  # fmt: skip
            self._observation = after
            self.env_steps += env.num_envs
            if self.env_steps >= self.settings["learning_starts"]:
                for _ in range(self.settings["updates_per_step"]):
                    self._update()
            if callback is not None and callback(self) is False:
                break

    def _pretrain(self, corpus: Demonstrations) -> None:
        masks = np.tile(self.world.valid, (self.num_envs, 1))
        for part in corpus.side_by_side(self.num_envs):
            self._remember(Transitions(masks=masks, masks_after=masks, **vars(part)))

    def _epsilon_at(self, progress: float) -> float:
        s = self.settings
        passed = min(1.0, progress / s["exploration_share"]) if s["exploration_share"] else 1.0
        return float(s["epsilon_start"] + (s["epsilon_end"] - s["epsilon_start"]) * passed)

    def _make(self, env: EnvConfig) -> None:
        self._refuse_unknown(self.defaults)
        self.env_steps = 0
        self._epsilon = float(self.settings["epsilon_start"])
        self._observation = None
        self._env = TokenLMVectorEnv(self.num_envs, env, autoreset_mode=AutoresetMode.SAME_STEP)
        np.random.seed(self.seed)  # noqa: NPY002  the libraries use it
        self._make_learner()

    def _make_learner(self) -> None:
        """Make the library's networks, policy, optimiser and replay."""
        raise NotImplementedError

    def _act(self, observation: Array, masks: Array) -> Array:
        """(B, L) observations, (B, V) masks -> (B,) actions of the library's exploration policy."""
        raise NotImplementedError

    def _remember(self, transitions: Transitions) -> None:
        """Add transitions to the library's replay."""
        raise NotImplementedError

    def _update(self) -> None:
        """One update by the library's algorithm."""
        raise NotImplementedError

    def _restore(self, saved: dict[str, Any]) -> None:
        self.env_steps = saved["env_steps"]
        self._epsilon = saved["epsilon"]
