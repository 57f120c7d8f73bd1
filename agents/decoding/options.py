"""How a text is to be written, in one typed place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Decoding:
    """How a policy's texts are found.

    Args:
        temperature: τ of the policy π ∝ exp(Q/τ), nats; 0 is greedy.
        top_k: sample among the k best tokens only; None for all.
        top_p: sample among the fewest tokens that hold this share of the probability; None for all.
        beams: width of a beam search, which finds texts instead of sampling them; 1 for none.
        length_penalty: a beam's score is divided by its number of tokens to this power; 0 leaves it as it is,
            more favours longer texts.
        stop: a text ends before the first of these strings that it writes; one, or several.
        max_new_tokens: longest continuation in tokens; None for the environment's.

    Raises ValueError for what cannot work, one sentence each.
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    beams: int = 1
    length_penalty: float = 0.0
    stop: str | Sequence[str] | None = None
    max_new_tokens: int | None = None

    def __post_init__(self) -> None:
        stop = (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())
        object.__setattr__(self, "stop", stop)
        if not self.temperature >= 0.0:
            raise ValueError(f"temperature must be 0 (greedy) or more, not {self.temperature}")
        if self.top_p is not None and not 0.0 < self.top_p <= 1.0:
            raise ValueError(f"top_p must lie above 0 and be at most 1, not {self.top_p}")
        for name, value in (("top_k", self.top_k), ("beams", self.beams), ("max_new_tokens", self.max_new_tokens)):
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, not {value}")
        if self.beams > 1 and (self.top_k, self.top_p) != (None, None):
            raise ValueError("beams search for the best texts while top_k and top_p sample; use one or the other")
        if "" in self.stop_strings:
            raise ValueError("a stop string must hold at least one character; '' would end every text at once")

    @property
    def stop_strings(self) -> tuple[str, ...]:
        """`stop` as a tuple."""
        return tuple(self.stop or ())
