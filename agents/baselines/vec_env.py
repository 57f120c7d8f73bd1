"""Our vector environment as a `VecEnv` of stable-baselines3."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt
from gymnasium.vector import AutoresetMode
from stable_baselines3.common.vec_env import VecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvIndices, VecEnvStepReturn

from ...envs import TokenLMVectorEnv


class TokenLMVecEnv(VecEnv):
    """A `TokenLMVectorEnv` as `VecEnv`; there is no Python loop over rows, except those whose episode ends.

    The infos are a list of dicts, as SB3 requires. Running episodes share one empty dict. The dict of an ended episode
    has "terminal_observation", "TimeLimit.truncated" and "episode": its return "r" in nats, its length "l" in tokens
    and the time "t" in seconds since the environment was made, like SB3's `Monitor`.

    Args:
        env: its autoreset mode must be SAME_STEP, else ValueError.
    """

    def __init__(self, env: TokenLMVectorEnv) -> None:
        if env.autoreset_mode != AutoresetMode.SAME_STEP:
            raise ValueError(f"stable-baselines3 needs autoreset_mode SAME_STEP, not {env.autoreset_mode}")
        self.env = env
        super().__init__(env.num_envs, env.single_observation_space, env.single_action_space)
        self._actions = np.zeros(env.num_envs, np.int64)
        self._returns = np.zeros(env.num_envs)
        self._lengths = np.zeros(env.num_envs, np.int64)
        self._began = time.perf_counter()

    def reset(self) -> npt.NDArray[np.int64]:
        """(num_envs, L) first observations, with the seeds and options that were set before."""
        seeds = None if all(s is None for s in self._seeds) else list(self._seeds)
        observations, _ = self.env.reset(seed=seeds, options=self._merged_options())
        self._returns[:] = 0.0
        self._lengths[:] = 0
        self._reset_seeds()
        self._reset_options()
        return observations

    def step_async(self, actions: npt.NDArray[Any]) -> None:
        """Store the actions for `step_wait`."""
        self._actions = actions

    def step_wait(self) -> VecEnvStepReturn:
        """Take one step in all environments: observations, rewards (float32), dones and infos."""
        observations, rewards, terminated, truncated, final = self.env.step(self._actions)
        over = terminated | truncated
        self._returns += rewards
        self._lengths += 1
        running: dict[str, Any] = {}
        infos = [running] * self.num_envs
        for row in np.flatnonzero(over):
            infos[row] = {
                "terminal_observation": final["final_obs"][row],
                "TimeLimit.truncated": bool(truncated[row]),
                "episode": {
                    "r": float(self._returns[row]),
                    "l": int(self._lengths[row]),
                    "t": time.perf_counter() - self._began,
                },
            }
        self._returns[over] = 0.0
        self._lengths[over] = 0
        return observations, rewards.astype(np.float32), over, infos

    def close(self) -> None:
        """Close the vector environment."""
        self.env.close()

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        """The vector environment's attribute, which all rows share, once for each index."""
        value = getattr(self.env, attr_name)
        return [value for _ in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        """Not supported: rows have no attributes of their own."""
        raise NotImplementedError(
            f"all rows share one environment, so {attr_name} cannot be set; make a new one, or use set_options()"
        )

    def env_method(self, method_name: str, *args: Any, indices: VecEnvIndices = None, **kwargs: Any) -> list[Any]:
        """Call a method of the vector environment, such as "action_masks", and return the rows of its result."""
        rows = getattr(self.env, method_name)(*args, **kwargs)
        return [rows[index] for index in self._get_indices(indices)]

    def env_is_wrapped(self, wrapper_class: type[gym.Wrapper], indices: VecEnvIndices = None) -> list[bool]:
        """False: rows have no wrappers."""
        return [False for _ in self._get_indices(indices)]

    def get_images(self) -> Sequence[npt.NDArray[np.uint8] | None]:
        """A rendered image of every episode, with render_mode "rgb_array"."""
        frames: Any = self.env.render()
        return list(frames)

    def _merged_options(self) -> dict[str, Any] | None:
        """The options of the vector environment: for each name a list with the value of each row."""
        names = set().union(*self._options)
        if any(set(options) != names for options in self._options):
            raise ValueError(f"the options of all environments must have the same names, not {self._options}")
        return {name: [options[name] for options in self._options] for name in names} or None
