"""Scores of whole texts as rewards: paid once, with the last token of an episode."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

from . import metrics
from .arguments import load_named, nearest

Score = Callable[[str, str], float]

# Each takes (hypothesis, reference) and gives 0 to 1, so that a value has a bound; see `metrics`.
SCORES: dict[str, Score] = {
    "bleu": metrics.sentence_bleu,
    "chrf": metrics.sentence_chrf,
    "exact_match": metrics.exact_match,
    "f1": metrics.token_f1,
    "accuracy": metrics.accuracy,
}


@lru_cache(maxsize=16)
def sequence_score(name: str) -> Score:
    """The score called `name`: one of `SCORES`, or a function "module:function" of (hypothesis, reference) texts.

    A function of the user's is held to the range 0 to 1 at every call.

    Raises ValueError for an unknown name, a missing module or function, and something that cannot be called.
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
        raise ValueError(f"sequence_reward {name!r} cannot be called; name a function of (hypothesis, reference)")

    def checked(hypothesis: str, reference: str) -> float:
        score = float(own(hypothesis, reference))
        if not 0.0 <= score <= 1.0:
            raise ValueError(f"sequence_reward {name!r} gave {score}; a score lies between 0 and 1")
        return score

    return checked
