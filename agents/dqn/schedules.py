"""Numbers that change over the course of training."""

from __future__ import annotations

import math
import numbers
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from ...envs.arguments import check_types, make_settings

Shape = Literal["linear", "cosine", "exponential"]


@dataclass(frozen=True)
class Schedule:
    """From `start` to `end` over the first `share` of training, constant after that.

    Args:
        start: value at the beginning.
        end: value from `share` of training on.
        share: part of training, 0 to 1, over which the value moves.
        shape: "linear", "cosine" (slow at both ends) or "exponential" (equal ratios; both ends positive).
    """

    start: float
    end: float
    share: float = 1.0
    shape: Shape = "linear"

    def __post_init__(self) -> None:
        """Refuse values that cannot work, each with one sentence."""
        check_types(self)
        if self.shape not in get_args(Shape):
            raise ValueError(f"schedule shape {self.shape!r} is unknown; use one of {', '.join(get_args(Shape))}")
        if not 0.0 <= self.share <= 1.0:
            raise ValueError(f"a schedule's share of training must lie between 0 and 1, not {self.share}")
        if not (0.0 <= self.start < math.inf and 0.0 <= self.end < math.inf):
            raise ValueError(f"a schedule's values must be finite and not negative, not {self.start} to {self.end}")
        if self.shape == "exponential" and min(self.start, self.end) <= 0:
            raise ValueError(f"an exponential schedule needs positive ends, not {self.start} and {self.end}")

    @classmethod
    def of(cls, value: Any, name: str = "a schedule") -> Schedule:
        """A schedule from a schedule, a constant, a (start, end, …) sequence or a mapping of its fields.

        Args:
            value: what was given.
            name: of the setting, for the message.

        Raises ValueError for anything else.
        """
        if isinstance(value, Schedule):
            return value
        if isinstance(value, Mapping):
            return make_settings(cls, value, name)
        if isinstance(value, (list, tuple)) and 2 <= len(value) <= 4:
            return cls(*value)
        if isinstance(value, bool) or not isinstance(value, numbers.Real):
            raise ValueError(f"{name} must be a number or a schedule, {{start: …, end: …}}, not {value!r}")
        return cls(float(value), float(value))

    def __call__(self, progress: float) -> float:
        """The value at `progress`, the part of training that is done, 0 to 1."""
        part = 1.0 if progress >= self.share else max(0.0, progress) / self.share
        if self.shape == "cosine":
            part = 0.5 - 0.5 * math.cos(math.pi * part)
        if self.shape == "exponential":
            return float(self.start * (self.end / self.start) ** part)
        return self.start + (self.end - self.start) * part
