"""The score of a return, between a reference and the optimum."""

from __future__ import annotations


def normalized_score(reached: float | None, random: float | None, optimal: float | None) -> float | None:
    """(reached - random)/(optimal - random): 0 for the uniform policy, 1 for the optimum.

    Args:
        reached: return, nats; None where it is not known.
        random: return of the uniform policy; None where it is not known.
        optimal: largest return; None where it is not known.

    Returns: the score; None where one of them is not known, or the optimum is no better than the uniform policy.
    """
    if reached is None or random is None or optimal is None or optimal == random:
        return None
    return (reached - random) / (optimal - random)
