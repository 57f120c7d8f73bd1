"""`Decoding`, the settings of decoding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ...envs.arguments import check_settings, number
from ..acting.choosing import checked_temperature

_MOST_PENALTY = 10.0


@dataclass(frozen=True)
class Decoding:
    """Settings of decoding.

    Args:
        temperature: τ of the policy π ∝ exp(Q/τ), nats; 0 is greedy.
        top_k: sample among the k best tokens only; None for all.
        top_p: sample among the smallest set of tokens with at least this probability; None for all.
        beams: width of the beam search; 1 samples instead.
        length_penalty: scores are divided by the number of tokens to this power, -10 to 10; 0 for no effect, positive
            values favour longer texts.
        stop: a stop string, or several; the text ends before the first one.
        max_new_tokens: longest continuation in tokens; None for the environment's.

    Raises ValueError for settings that cannot work.
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    beams: int = 1
    length_penalty: float = number(0.0, -_MOST_PENALTY, _MOST_PENALTY)
    stop: str | Sequence[str] | None = None
    max_new_tokens: int | None = None

    def __post_init__(self) -> None:
        checked_temperature(self.temperature)
        check_settings(self)
        object.__setattr__(self, "stop", (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ()))
        if self.top_p is not None and not 0.0 < self.top_p <= 1.0:
            raise ValueError(f"top_p must be above 0 and at most 1, not {self.top_p}")
        for name, value in (("top_k", self.top_k), ("beams", self.beams), ("max_new_tokens", self.max_new_tokens)):
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, not {value}")
        if self.beams > 1 and (self.top_k, self.top_p) != (None, None):
            raise ValueError(
                f"top_k and top_p are for sampling and cannot be combined with beams {self.beams}; "
                "use beams 1 or leave them out"
            )
        if "" in self.stop_strings:
            raise ValueError("a stop string must have at least one character; '' would end every text at once")

    @property
    def stop_strings(self) -> tuple[str, ...]:
        """`stop` as a tuple."""
        return tuple(self.stop or ())
