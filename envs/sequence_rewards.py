"""Scores of whole texts, paid as reward with the last token of an episode."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache

from . import metrics
from .arguments import load_named, nearest
from .text.opening import shown

Score = Callable[[str, str], float]

# From (hypothesis, reference) to a number from 0 to 1, so that values are bounded.
SCORES: dict[str, Score] = {
    "bleu": metrics.sentence_bleu,
    "chrf": metrics.sentence_chrf,
    "exact_match": metrics.exact_match,
    "f1": metrics.token_f1,
    "accuracy": metrics.accuracy,
}


@lru_cache(maxsize=16)
def sequence_score(name: str) -> Score:
    """The score called `name`: one of `SCORES`, or "module:function" of (hypothesis, reference) texts.

    A user's function that returns a number outside 0 to 1 raises ValueError at that call, or FloatingPointError for nan
    and infinity.

    Raises ValueError for an unknown name, a missing module or function, or an object that is not callable.
    """
    if name in SCORES:
        return SCORES[name]
    if ":" not in name:
        raise ValueError(
            f"sequence_reward {name!r} is unknown{nearest(name, SCORES)}; use one of {', '.join(SCORES)} or "
            "'module:function'"
        )
    own = load_named(name, "sequence_reward")
    if not callable(own):
        raise ValueError(f"sequence_reward {name!r} is not callable; name a function of (hypothesis, reference)")

    def checked(hypothesis: str, reference: str) -> float:
        value = own(hypothesis, reference)
        try:
            score = float(value)
        except (TypeError, ValueError):
            raise ValueError(f"sequence_reward {name!r} returned {value!r}; a score must be a number") from None
        if not math.isfinite(score):
            raise FloatingPointError(
                f"sequence_reward {name!r} returned {score} for the text {shown(hypothesis)}; a score must lie between "
                "0 and 1"
            )
        if not 0.0 <= score <= 1.0:
            raise ValueError(f"sequence_reward {name!r} returned {score}; a score must lie between 0 and 1")
        return score

    return checked
