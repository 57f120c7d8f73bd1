"""`TokenLMDeviceEnv`: TokenLM environments as torch tensors that stay on one device."""

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
    """A batch of TokenLM environments as tensors on a GPU or the CPU; see `TokenLMEnv` for the manual.

    Its episodes are exactly those of `TokenLMVectorEnv` with autoreset SAME_STEP. On a GPU every step launches the same
    kernels and never synchronises, so it runs asynchronously and can be captured in a CUDA graph. This has two
    consequences. `infos["final_obs"]` is a (B, L) tensor with the last observation of every row, and
    `infos["_final_obs"]` says which episodes are over. Actions are not checked: a masked action has reward -inf, and
    one out of range is a device-side error. `check_actions=True` checks them and synchronises.

    Args:
        num_envs: B, the number of environments.
        config: the environment's arguments.
        settings: arguments that replace those of `config`.
        device: "cpu", "cuda", "cuda:1", or "auto" for the GPU if there is one, else the CPU. MPS has no float64.
        check_actions: raise ValueError for an invalid action, like the other environments.
        world: what its episodes share; None: made from the arguments.
    """

    def __init__(
        self,
        num_envs: int = 1,
        config: EnvConfig | None = None,
        *,
        device: str | torch.device = "auto",
        check_actions: bool = False,
        world: World | None = None,
        **settings: Any,
    ) -> None:
        if num_envs < 1:
            raise ValueError(f"num_envs must be at least 1, not {num_envs}")
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        self.config = EnvConfig.of(config, settings)
        self.world = world or World.of(self.config)
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
        # On the CPU only the rows whose episode is over are started again; on a GPU finding them would synchronise.
        self._runs_ahead = self.device.type != "cpu"
        self._begun = False

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Tensor, dict[str, Any]]:
        """Start an episode in every row; may synchronise.

        Args:
            seed: row i is seeded with seed + i, or with seed[i].
            options: "prompt" (and "target") with one text, or one per row.

        Returns: observations (B, L) int64, and infos with "action_mask" (B, V) int8 if `mask_in_info`.
        """
        if seed is not None:
            self._episodes.seed_all(row_seeds(seed, self.num_envs))
        if options and "reset_mask" in options:
            raise ValueError("reset_mask is not supported: the step that ends an episode also starts the next one")
        start_episodes(self._episodes, self._rows, options)
        self._begun = True
        return self._episodes.observe(), self._info()

    def step(self, actions: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, dict[str, Any]]:
        """Write one token, `actions` (B,) int64 on the device, in every row, without synchronisation on a GPU.

        Returns: observations (B, L) int64, of the new episode if the old one is over; rewards (B,) float64, nats;
        terminated and truncated (B,) bool; infos "log_prob" (B,) log p*(action | s) in nats, "final_obs" (B, L) the
        observation before any new episode, "_final_obs" (B,) bool, True if there is a new episode; and "action_mask"
        (B, V) int8 of the observation returned if `mask_in_info`.
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
        infos = {"log_prob": log_probs, "final_obs": last, "_final_obs": over, **self._info()}
        return observations, rewards, terminated, truncated, infos

    def action_masks(self) -> Tensor:
        """(B, V) bool, the actions that are valid now."""
        masks: Tensor = self._episodes.action_masks()
        return masks

    def target_log_probs(self) -> Tensor:
        """(B, V) float64 log p*(· | s) over the valid actions, in nats, -inf elsewhere; may synchronise."""
        log_probs: Tensor = self._episodes.target_log_probs()
        return log_probs

    def _info(self) -> dict[str, Any]:
        return {"action_mask": self.action_masks().to(torch.int8)} if self.config.mask_in_info else {}

    @property
    def texts(self) -> list[str]:
        """The text so far in each row, prompt included."""
        return [self.world.tokenizer.decode(self._episodes.tokens(row)) for row in range(self.num_envs)]

    def state_dict(self) -> dict[str, Any]:
        """The state of the environment on the CPU, for `load_state_dict`."""
        return {
            "episodes": {name: value.cpu() for name, value in self._episodes.state_dict().items()},
            "begun": self._begun,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore `state_dict`; the environment then continues exactly from there."""
        self._episodes.load_state_dict(state["episodes"])
        self._begun = bool(state["begun"])


def _described(actions: Any) -> str:
    return f"{tuple(actions.shape)} {actions.dtype}" if isinstance(actions, Tensor) else repr(actions)
