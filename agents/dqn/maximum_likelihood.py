"""Maximum likelihood: the same networks, trained by cross-entropy on the corpus, in the same learner."""

from __future__ import annotations

from typing import Any

from .agent import DQN
from .config import MAXIMUM_LIKELIHOOD, AgentConfig

_OF_THE_AGENT = ("seed", "device", "tokenizer", "env_config", "saved")


class MaximumLikelihood(DQN):
    """The ordinary language model that every curve is shown beside; it never acts and sees no reward.

    Arguments are those of `DQN`. The settings that make it one are fixed, whatever `config` says: loss, corpus share,
    temperature, and others (`MAXIMUM_LIKELIHOOD`).

    Raises ValueError for a keyword that says otherwise.
    """

    def __init__(self, env: Any = "TokenLM-v0", config: AgentConfig | None = None, **settings: Any) -> None:
        learner = {name: value for name, value in settings.items() if name not in _OF_THE_AGENT}
        given = AgentConfig.of(config, learner)
        fixed = AgentConfig.of(given, MAXIMUM_LIKELIHOOD)
        for name in AgentConfig.long_form(learner):
            if getattr(given, name) != getattr(fixed, name):
                raise ValueError(f"maximum likelihood has {name} fixed; leave it out, or use DQN")
        super().__init__(env, config, **{**settings, **MAXIMUM_LIKELIHOOD})
