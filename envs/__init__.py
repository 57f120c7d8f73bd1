"""The world: text generation as a decision process. Knows nothing of agents."""

from .config import EnvConfig, Split, nearest
from .episodes import Episodes
from .forced import Forced, force
from .single import NotRunning, TokenLMEnv
from .targets import ConditionedTarget
from .text import Vocabulary
from .vector import TokenLMVectorEnv
from .world import World

__all__ = [
    "ConditionedTarget",
    "EnvConfig",
    "Episodes",
    "Forced",
    "NotRunning",
    "Split",
    "TokenLMEnv",
    "TokenLMVectorEnv",
    "Vocabulary",
    "World",
    "force",
    "nearest",
]
