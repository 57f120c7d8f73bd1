"""`TokenLMVectorEnv`: TokenLM environments stepped as NumPy arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium.envs.registration import EnvSpec
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from .config import EnvConfig
from .episodes import Episodes
from .oracle import Oracle
from .picture import Painter
from .registration import EpisodeLength, with_length
from .rendering import render_ansi
from .single import RESET_OPTIONS, NotRunning, TokenLMEnv, always_valid, row_seeds, start_episodes, token_ids
from .spaces import token_spaces
from .world import World

Array = npt.NDArray[Any]


class TokenLMVectorEnv(VectorEnv[Array, Array, Array]):
    """A batch of TokenLM environments stepped as arrays; see `TokenLMEnv` for the manual.

    Args:
        num_envs: number of environments.
        autoreset_mode: what follows the end of an episode. NEXT_STEP: the next step ignores the action, starts a new
            episode and has reward 0. SAME_STEP: the step returns the first observation of the new episode, and
            `infos["final_obs"]` has the last one of the old. DISABLED: call `reset(options={"reset_mask": mask})`.
        render_mode: "ansi", "rgb_array" or None.
        max_episode_steps: a time limit, as `gym.make` takes it: episodes are truncated after this many tokens, and
            nothing else changes. None, -1 or the length registered with the id sets no limit.
        config: the environment's arguments.
        settings: arguments that replace those of `config`.
    """

    def __init__(
        self,
        num_envs: int = 1,
        config: EnvConfig | None = None,
        *,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        render_mode: str | None = None,
        max_episode_steps: int | None = None,
        **settings: Any,
    ) -> None:
        if num_envs < 1:
            raise ValueError(f"num_envs must be at least 1, not {num_envs}")
        if render_mode not in (None, "ansi", "rgb_array"):
            raise ValueError(f"render_mode {render_mode!r} is unknown; use 'ansi', 'rgb_array' or None")
        self._time_limit = _time_limit(max_episode_steps)
        self.config = EnvConfig.of(config, settings)
        self.world = World.of(self.config)
        self.num_envs = num_envs
        self.render_mode = render_mode
        self._painter = Painter.of(self.world) if render_mode == "rgb_array" else None
        self.autoreset_mode = AutoresetMode(autoreset_mode)
        self.metadata = {**TokenLMEnv.metadata, "autoreset_mode": self.autoreset_mode}
        self.single_observation_space, self.single_action_space = token_spaces(
            always_valid(self.world, self.config), self.config.context_length
        )
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.oracle = Oracle(self.world, self.config)
        self._episodes = Episodes(self.world, self.config, num_envs)
        self._log_probs = np.zeros((num_envs, self.config.max_new_tokens))
        self._over = np.zeros(num_envs, np.bool_)
        self._spec: EnvSpec | None = None
        self._begun = False

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Array, dict[str, Any]]:
        """Start episodes in all environments, or in those of `options["reset_mask"]` (num_envs,) bool.

        Args:
            seed: environment i is seeded with seed + i, or with seed[i].
            options: "reset_mask", and "prompt" (and "target") with one text, or one per environment to reset.
        """
        rows = np.flatnonzero(self._reset_mask(options))
        if seed is not None:
            seeds = row_seeds(seed, self.num_envs)
            for row in rows:
                self._episodes.seed_row(int(row), seeds[row])
        if not self._begun and len(rows) < self.num_envs:
            raise NotRunning("no episode has begun; call reset() without a reset_mask first")
        start_episodes(self._episodes, rows, options, (*RESET_OPTIONS, "reset_mask"))
        self._over[rows] = False
        self._begun = True
        return self._episodes.observe(), self._info()

    def step(self, actions: Any) -> tuple[Array, Array, Array, Array, dict[str, Any]]:
        """Write one token in every environment."""
        if not self._begun:
            raise NotRunning("no episode has begun; call reset() before step()")
        ended = self._over
        if self.autoreset_mode == AutoresetMode.DISABLED and ended.any():
            raise NotRunning(
                f"the episode of environment {int(np.argmax(ended))} is over; "
                'start a new one with reset(options={"reset_mask": mask}) before step()'
            )
        waiting = bool(ended.any())
        active = ~ended
        running = active if waiting else None
        ids = token_ids(actions, self.num_envs)
        self._episodes.check(ids, running)
        rewards, terminated, truncated, log_probs = self._episodes.step(ids, running)
        if self._time_limit is not None:
            truncated = truncated | (active & (self._episodes.written >= self._time_limit))
        log_probs = np.where(active, log_probs, 0.0)  # a copy, since it may be the array of rewards
        if self.render_mode is not None:
            self._log_probs[active, self._episodes.written[active] - 1] = log_probs[active]
        infos: dict[str, Any] = {"log_prob": log_probs, "_log_prob": active}

        if waiting:
            self._episodes.start(np.flatnonzero(ended))
        over = terminated | truncated
        if self.autoreset_mode == AutoresetMode.SAME_STEP and over.any():
            infos = self._final(infos, over)
            self._episodes.start(np.flatnonzero(over))
            over = np.zeros_like(over)
        self._over = over
        return self._episodes.observe(), rewards, terminated, truncated, {**infos, **self._info()}

    @property
    def spec(self) -> EnvSpec | None:
        """How Gymnasium makes this environment; `max_episode_steps` is its time limit, else its `max_new_tokens`."""
        return self._spec

    @spec.setter
    def spec(self, spec: EnvSpec | None) -> None:
        self._spec = with_length(spec, self.config.max_new_tokens)
        if self._spec is not None and self._time_limit is not None:
            self._spec.max_episode_steps = self._time_limit

    def action_masks(self) -> npt.NDArray[np.bool_]:
        """(num_envs, V) bool, the actions that are valid now."""
        return self._episodes.action_masks()

    def target_log_probs(self) -> npt.NDArray[np.float64]:
        """(num_envs, V) log p*(· | s) over the valid actions, in nats, -inf elsewhere."""
        return self._episodes.target_log_probs()

    @property
    def prompts(self) -> list[list[int]]:
        """Ids of the first observation of each episode, `<bos>` included, without padding."""
        written = self._episodes.written
        return [self._episodes.tokens(row)[: -int(n) or None] for row, n in enumerate(written)]

    @property
    def texts(self) -> list[str]:
        """The text so far in each environment, prompt included."""
        return [self.world.tokenizer.decode(self._episodes.tokens(row)) for row in range(self.num_envs)]

    def render(self) -> tuple[str | npt.NDArray[np.uint8], ...] | None:
        """The texts so far, coloured by log-likelihood: strings ("ansi") or images ("rgb_array")."""
        if self.render_mode is None:
            return None
        frames: list[str | npt.NDArray[np.uint8]] = []
        for row, count in enumerate(self._episodes.written):
            ids = self._episodes.tokens(row)
            cut = len(ids) - int(count)
            shown = ids[:cut], ids[cut:], self._log_probs[row, :count].tolist()
            frames.append(self._painter.paint(*shown) if self._painter else render_ansi(self.world.tokenizer, *shown))
        return tuple(frames)

    def state_dict(self) -> dict[str, Any]:
        """The state of the environment, for `load_state_dict`."""
        return {
            "episodes": self._episodes.state_dict(),
            "log_probs": self._log_probs.copy(),
            "over": self._over.copy(),
            "begun": self._begun,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore `state_dict`; the environment then continues exactly from there."""
        self._episodes.load_state_dict(state["episodes"])
        self._log_probs[...] = np.from_dlpack(state["log_probs"])
        self._over[...] = np.from_dlpack(state["over"])
        self._begun = bool(state["begun"])

    def _reset_mask(self, options: dict[str, Any] | None) -> npt.NDArray[np.bool_]:
        mask = (options or {}).get("reset_mask")
        if mask is None:
            return np.ones(self.num_envs, np.bool_)
        if (
            not isinstance(mask, np.ndarray)
            or mask.dtype != np.bool_
            or mask.shape != (self.num_envs,)
            or not mask.any()
        ):
            raise ValueError(
                f'options["reset_mask"] must be a ({self.num_envs},) bool array with at least one True, not {mask!r}'
            )
        return mask

    def _info(self) -> dict[str, Any]:
        if not self.config.mask_in_info:
            return {}
        masks = self.action_masks().astype(np.int8)
        return {"action_mask": masks, "_action_mask": np.ones(self.num_envs, np.bool_)}

    def _final(self, infos: dict[str, Any], over: npt.NDArray[np.bool_]) -> dict[str, Any]:
        """Infos plus the final observation and info of the episodes that are `over`, in Gymnasium's format."""
        final_obs = np.full(self.num_envs, None, object)
        final_obs[over] = np.fromiter(self._episodes.observe()[over], object, np.count_nonzero(over))
        final_info = {**infos, **self._info()}
        return {
            **infos,
            "final_obs": final_obs,
            "_final_obs": over.copy(),
            "final_info": {k: v & over if k.startswith("_") else v.copy() for k, v in final_info.items()},
            "_final_info": over.copy(),
        }


def _time_limit(steps: int | None) -> int | None:
    """The steps after which a time limit truncates, None for no limit; ValueError for what is no number of steps."""
    if steps is None or isinstance(steps, EpisodeLength) or (isinstance(steps, int) and steps == -1):
        return None
    if not isinstance(steps, int) or isinstance(steps, bool) or steps < 1:
        raise ValueError(f"max_episode_steps must be a whole number of at least 1, or -1 for no limit, not {steps!r}")
    return steps
