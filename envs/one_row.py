"""One episode on Python numbers: the dynamics of `Episodes` with a number where a batch has an array (B,)."""

from __future__ import annotations

from typing import Any

import numpy as np

from .arrays import Ints
from .config import EnvConfig
from .episodes import Episodes
from .world import World

_NUMBERS = ("written", "unpaid", "seed", "episode", "_states")
_TABLES = ("_offsets", "_shortest", "_longest", "_valid_at", "_choices")


class OneRow(Episodes):
    """A batch of one that keeps what has one value per row as Python numbers.

    All rules are those of `Episodes`, whose methods run on numbers as on arrays; only how values are kept differs.
    """

    def __init__(self, world: World, config: EnvConfig) -> None:
        super().__init__(world, config, 1)
        self._look_up_numbers()

    @staticmethod
    def of(world: World, config: EnvConfig) -> Episodes:
        """One episode: on numbers if the target takes them and no step needs an array, else a batch of one."""
        arrays = config.no_repeat or config.form or config.sequence_reward or config.transition == "teacher"
        return OneRow(world, config) if world.target.takes_numbers and not arrays else Episodes(world, config, 1)

    def _look_up_numbers(self) -> None:
        self._rows = 0
        for name in _TABLES:
            setattr(self, name, getattr(self, name).data.toreadonly())

    def __getstate__(self) -> dict[str, Any]:
        state = super().__getstate__()
        return {**state, **{name: np.asarray(state[name]) for name in _TABLES}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._look_up_numbers()

    def _row_zeros(self, dtype: Any) -> Any:
        return 0.0 if dtype is np.float64 else 0

    def _track_from(self, prefixes: Any) -> Any:
        return self.world.target.track(prefixes[0].tolist())

    def _at(self, rows: Any, values: Any) -> Any:
        return values

    def _first(self, values: Any, chosen: Any) -> int:
        return int(values)

    def _put(self, name: str, values: Any, rows: Any = ..., where: Any = None) -> None:
        if name in _NUMBERS:
            setattr(self, name, _number(values))
        else:
            super()._put(name, values, rows, where)

    def _kept(self, name: str) -> Any:
        value = super()._kept(name)
        return np.array([value]) if name in _NUMBERS else value

    def seed_row(self, row: int, seed: int) -> None:
        self.seed_all([seed])

    def start_from(self, rows: Any, tokens: Any, begin: Any, end: Any, prompt: Any, where: Any = None) -> None:
        super().start_from(0, tokens, *(_number(value) for value in (begin, end, prompt)))

    def observe(self) -> Ints:
        return self._windows[:, self.written].copy()

    def target_log_probs(self) -> Any:
        return self.world.target.log_probs(np.array([self._states]), self.eos_valid())

    def write(self, action: int) -> tuple[float, bool, bool, float]:
        self.check(action)
        return self.step(action)


def _number(value: Any) -> Any:
    """A number, or the only one of an array."""
    return value.item() if isinstance(value, np.ndarray) else value
