"""The learners. They see the world through the public names of `tokenlm.envs`."""

from .baselines.maximum_likelihood import MaximumLikelihood
from .configuration import AgentConfig
from .dqn.agent import DQN
from .evaluation import evaluate, play, score_text
from .network_config import NetworkConfig
from .protocol import Agent
from .run_config import RunConfig
from .schedules import Schedule

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
