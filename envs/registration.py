"""Registering ids with Gymnasium, with the episode length that the environment itself keeps."""

from __future__ import annotations

import copy
from typing import Any

from gymnasium.envs.registration import EnvSpec, register


class EpisodeLength(int):
    """The length that an environment's own arguments give its episodes, as `EnvSpec.max_episode_steps`.

    `gym.make` puts the wrapper `TimeLimit` around every id with a `max_episode_steps`. The environment ends its
    episodes itself: `TimeLimit` would cut one made with a larger `max_new_tokens`, and would report a terminated one as
    truncated too. No count of steps reaches an `EpisodeLength`, so that wrapper does nothing.
    """

    def __le__(self, steps: Any) -> bool:
        # Python asks the subclass first, so this answers `steps >= length` too.
        return False


class _Spec(EnvSpec):
    """An `EnvSpec` that keeps the length of the environment as it was made, whatever the id registered."""

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "max_episode_steps" and isinstance(value, EpisodeLength) and self.max_episode_steps is not None:
            return
        super().__setattr__(name, value)


def with_length(spec: EnvSpec | None, steps: int) -> EnvSpec | None:
    """A copy of `spec` whose `max_episode_steps` is `steps`, which `TimeLimit` with a number of its own replaces."""
    if spec is None:
        return None
    own = copy.copy(spec)
    own.__class__ = _Spec
    object.__setattr__(own, "max_episode_steps", EpisodeLength(steps))
    return own


UNMASKED = "unmasked/"  # Gymnasium's namespace of the ids for libraries without action masks


def register_id(name: str, max_new_tokens: int, settings: dict[str, Any]) -> None:
    """Register `name` for `TokenLMEnv` and `TokenLMVectorEnv` with `settings`, which give `max_new_tokens` tokens.

    `unmasked/NAME` is the same with `invalid_action="random"`.
    """
    for own, values in ((name, settings), (UNMASKED + name, {**settings, "invalid_action": "random"})):
        register(
            id=own,
            entry_point="tokenlm.envs:TokenLMEnv",
            vector_entry_point="tokenlm.envs:TokenLMVectorEnv",
            max_episode_steps=EpisodeLength(max_new_tokens),
            kwargs=values,
        )
