"""The learners. They see the world through the public names of `tokenlm.envs`."""

from .dqn.agent import DQN
from .dqn.config import AgentConfig
from .dqn.maximum_likelihood import MaximumLikelihood
from .dqn.rule import Outcome, Rule
from .dqn.rule_names import register_rule
from .dqn.schedules import Schedule
from .evaluation import evaluate, play, score_text
from .networks import NetworkConfig
from .protocol import Agent, BaseAgent
from .runs.config import RunConfig

__all__ = [
    "DQN",
    "Agent",
    "AgentConfig",
    "BaseAgent",
    "MaximumLikelihood",
    "NetworkConfig",
    "Outcome",
    "Rule",
    "RunConfig",
    "Schedule",
    "evaluate",
    "play",
    "register_rule",
    "score_text",
]
