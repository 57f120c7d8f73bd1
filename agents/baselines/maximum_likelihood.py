"""Maximum likelihood: the same networks, trained by cross-entropy on the corpus, in the same learner."""

from __future__ import annotations

from typing import Any

from ..configuration import AgentConfig
from ..dqn.agent import DQN
from ..schedules import Schedule


class MaximumLikelihood(DQN):
    """The ordinary language model that every curve is shown beside; it never acts and sees no reward.

    Arguments are those of `DQN`; the settings that make it one are fixed: loss, corpus share and temperature.
    """

    def __init__(self, env: Any = "TokenLM-v0", config: AgentConfig | None = None, **settings: Any) -> None:
        fixed = {
            "loss": "cross_entropy",
            "corpus_share": 1.0,
            "temperature": Schedule(1.0, 1.0),
            "learning_starts": 0,
            "n_step": 1,
            "dueling": None,
            "redistribute": False,
            "priority_exponent": 0.0,
            "phrases": 0,
        }
        super().__init__(env, config, **{**settings, **fixed})
