"""The normalised score of a return."""

from __future__ import annotations


def normalized_score(reached: float | None, random: float | None, optimal: float | None) -> float | None:
    """(reached - random)/(optimal - random): 0 for the uniform policy, 1 for the optimum.

    Args:
        reached: return, nats; None if unknown.
        random: return of the uniform policy, nats; None if unknown.
        optimal: optimal return, nats; None if unknown.

    Returns: the score; None if one of them is unknown, or the optimum equals the return of the uniform policy.
    """
    if reached is None or random is None or optimal is None or optimal == random:
        return None
    return (reached - random) / (optimal - random)
