"""Maximum likelihood: the same networks, trained by cross-entropy on the corpus, in the same learner."""

from __future__ import annotations

from typing import Any

from .agent import DQN
from .config import MAXIMUM_LIKELIHOOD, AgentConfig


class MaximumLikelihood(DQN):
    """The ordinary language model that every curve is shown beside; it never acts and sees no reward.

    Arguments are those of `DQN`; the settings that make it one are fixed: loss, corpus share and temperature.
    """

    def __init__(self, env: Any = "TokenLM-v0", config: AgentConfig | None = None, **settings: Any) -> None:
        super().__init__(env, config, **{**settings, **MAXIMUM_LIKELIHOOD})
