"""Learning for a number of seconds, measured now and then; the best weights are kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tokenlm.agents import DQN


def learn_in_time(
    agent: DQN, seconds: float, shares: Sequence[float], measure: Callable[[DQN], float], lower: bool = False
) -> list[float]:
    """Let `agent` learn, measure it on the way, and give it the best weights.

    Args:
        agent: ours, or maximum likelihood.
        seconds: of learning; measuring does not count.
        shares: of the time, ascending to 1, after which to measure.
        measure: a figure of the agent on validation texts.
        lower: whether a lower figure is better.

    Returns: the figures.
    """
    found: list[float] = []
    best: dict[str, Any] = {}

    def check(agent: DQN) -> bool:
        if len(found) < len(shares) and agent.progress >= shares[len(found)] - 1e-9:
            found.append(measure(agent))
            if found[-1] == (min if lower else max)(found):
                best.update(agent.weights())
        return True

    agent.learn(1 << 62, check, max_seconds=seconds)
    agent.take_weights(best)
    return found
