"""The learners. They see the world through the public names of `tokenlm.envs`."""

from .dqn.agent import DQN
from .dqn.config import AgentConfig
from .dqn.maximum_likelihood import MaximumLikelihood
from .dqn.schedules import Schedule
from .evaluation.evaluate import evaluate, play, score_text
from .networks.config import NetworkConfig
from .protocol import Agent
from .runs.config import RunConfig

__all__ = [
    "DQN",
    "Agent",
    "AgentConfig",
    "MaximumLikelihood",
    "NetworkConfig",
    "RunConfig",
    "Schedule",
    "evaluate",
    "play",
    "score_text",
]
