"""The world: text generation as a decision process. Knows nothing of agents."""

from .config import EnvConfig, Split
from .episodes import Episodes
from .forced import Forced, force
from .oracle import NotExact, Oracle
from .single import NotRunning, TokenLMEnv
from .suggestions import nearest
from .targets import ConditionedTarget
from .text import Vocabulary
from .vector import TokenLMVectorEnv
from .world import World, encode_prompt, valid_actions

__all__ = [
    "ConditionedTarget",
    "EnvConfig",
    "Episodes",
    "Forced",
    "NotExact",
    "NotRunning",
    "Oracle",
    "Split",
    "TokenLMEnv",
    "TokenLMVectorEnv",
    "Vocabulary",
    "World",
    "encode_prompt",
    "force",
    "nearest",
    "valid_actions",
]
