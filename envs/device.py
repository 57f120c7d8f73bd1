"""`TokenLM-v0` as torch tensors on one device: thousands of episodes, and nothing of them ever on the host."""

from __future__ import annotations

from typing import Any

import torch
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from torch import Tensor

from .config import EnvConfig
from .episodes import Episodes
from .oracle import Oracle
from .single import NotRunning, TokenLMEnv, always_valid, row_seeds, start_episodes
from .spaces import token_spaces
from .world import World


class TokenLMDeviceEnv(VectorEnv[Tensor, Tensor, Tensor]):
    """Many TokenLM episodes as tensors on a GPU, or on the CPU; the manual is that of `TokenLMEnv`.

    Its episodes are those of `TokenLMVectorEnv` with autoreset SAME_STEP, number for number. On a GPU a step launches
    the same kernels whatever happens and never waits for the device, so it can run ahead of it and be captured in a
    CUDA graph. That has two consequences. `infos["final_obs"]` is a plain (B, L) tensor, the last observation of every
    row whether its episode is over (`infos["_final_obs"]`) or not. And actions are not looked at: a masked one earns
    -inf, one out of range is an error of the device; `check_actions=True` checks them first and waits for that.

    Args:
        num_envs: B, episodes side by side.
        config: the environment's arguments, or
        settings: the same as keywords.
        device: "cpu", "cuda", "cuda:1", or "auto" for the GPU where there is one. MPS has no float64.
        check_actions: raise ValueError for a masked action or one out of range, as the other environments do.
    """

    def __init__(
        self,
        num_envs: int = 1,
        config: EnvConfig | None = None,
        *,
        device: str | torch.device = "auto",
        check_actions: bool = False,
        **settings: Any,
    ) -> None:
        if num_envs < 1:
            raise ValueError(f"num_envs must be at least 1, not {num_envs}")
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        self.config = EnvConfig.of(config, settings)
        self.world = World.of(self.config)
        self.num_envs = num_envs
        self.check_actions = check_actions
        self.autoreset_mode = AutoresetMode.SAME_STEP
        self.metadata = {**TokenLMEnv.metadata, "render_modes": [], "autoreset_mode": self.autoreset_mode}
        self.single_observation_space, self.single_action_space = token_spaces(
            always_valid(self.world, self.config), self.config.context_length
        )
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.oracle = Oracle(self.world, self.config)
        self._episodes = Episodes(self.world, self.config, num_envs, like=torch.zeros(0, device=device))
        self.device: torch.device = self._episodes.device
        self._rows = torch.arange(num_envs, device=self.device)
        # Which episodes are over is known to the host at once where the device is the host: only those start anew.
        self._runs_ahead = self.device.type != "cpu"
        self._begun = False

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Tensor, dict[str, Any]]:
        """Start an episode in every row; may wait for the device.

        Args:
            seed: row i is seeded with seed + i, or with seed[i].
            options: may hold "prompt" (and "target"): one text, or one for each row.

        Returns: observations (B, L) int64 and no infos.
        """
        if seed is not None:
            self._episodes.seed_all(row_seeds(seed, self.num_envs))
        if options and "reset_mask" in options:
            raise ValueError("reset_mask has no use here: an episode that ends is followed by the next one in the step")
        start_episodes(self._episodes, self._rows, options)
        self._begun = True
        return self._episodes.observe(), {}

    def step(self, actions: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, dict[str, Any]]:
        """Write one token, `actions` (B,) int64 on the device, in every row; never waits for the device.

        Returns: observations (B, L) int64, of the next episode where one is over; rewards (B,) float64, nats;
        terminated and truncated (B,) bool; infos "log_prob" (B,) log p*(action | s), "final_obs" (B, L) the observation
        before the next episode began, "_final_obs" (B,) bool where one did.
        """
        if not self._begun:
            raise NotRunning("no episode has begun; call reset() before step()")
        if not isinstance(actions, Tensor) or actions.shape != (self.num_envs,) or actions.dtype != torch.int64:
            raise ValueError(f"expected actions as a ({self.num_envs},) int64 tensor, not {_described(actions)}")
        episodes = self._episodes
        if self.check_actions:
            episodes.check(actions)
        rewards, terminated, truncated, log_probs = episodes.step(actions)
        over = terminated | truncated
        last = episodes.observe()
        if self._runs_ahead:
            episodes.start(self._rows, where=over)
        elif len(rows := over.nonzero().squeeze(1)):
            episodes.start(rows)
        observations = torch.where(over[:, None], episodes.first_observation(), last)
        infos = {"log_prob": log_probs, "final_obs": last, "_final_obs": over}
        return observations, rewards, terminated, truncated, infos

    def action_masks(self) -> Tensor:
        """(B, V) bool, True where the action may be chosen now."""
        masks: Tensor = self._episodes.action_masks()
        return masks

    def target_log_probs(self) -> Tensor:
        """(B, V) float64 log p*(· | s) over the valid actions, in nats, -inf elsewhere; may wait for the device."""
        log_probs: Tensor = self._episodes.target_log_probs()
        return log_probs

    @property
    def texts(self) -> list[str]:
        """The text so far in each row, prompt included."""
        return [self.world.tokenizer.decode(self._episodes.tokens(row)) for row in range(self.num_envs)]

    def state_dict(self) -> dict[str, Any]:
        """All that changes while the environment runs, on the CPU; `load_state_dict` continues exactly there."""
        return {
            "episodes": {name: value.cpu() for name, value in self._episodes.state_dict().items()},
            "begun": self._begun,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue exactly where `state_dict` was taken."""
        self._episodes.load_state_dict(state["episodes"])
        self._begun = bool(state["begun"])


def _described(actions: Any) -> str:
    return f"{tuple(actions.shape)} {actions.dtype}" if isinstance(actions, Tensor) else repr(actions)
