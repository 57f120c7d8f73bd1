"""Maximum likelihood: the same networks, trained by cross-entropy on the corpus, in the same learner."""

from __future__ import annotations

from typing import Any

from .agent import DQN
from .config import MAXIMUM_LIKELIHOOD, AgentConfig


class MaximumLikelihood(DQN):
    """The ordinary language model that every curve is shown beside; it never acts and sees no reward.

    Arguments are those of `DQN`. The settings that make it one are fixed, whatever `config` says: loss, corpus share,
    temperature, no exploration by itself.

    Raises ValueError for one of these given as a keyword.
    """

    def __init__(self, env: Any = "TokenLM-v0", config: AgentConfig | None = None, **settings: Any) -> None:
        for name, value in settings.items():
            if name in MAXIMUM_LIKELIHOOD and value != MAXIMUM_LIKELIHOOD[name]:
                raise ValueError(f"maximum likelihood has a fixed {name}, not {value!r}; leave it out or use DQN")
        super().__init__(env, config, **{**settings, **MAXIMUM_LIKELIHOOD})
