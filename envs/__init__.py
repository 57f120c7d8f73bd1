"""Text generation as a Markov decision process: environments, target distributions, and their exact optimum."""

from typing import TYPE_CHECKING, Any

from .arguments import nearest
from .config import EnvConfig, Split, env_config_from, env_config_of
from .episodes import Episodes
from .forced import Forced, force
from .named_files import absolute_paths, named_files
from .oracle import Oracle
from .phrase_actions import PhraseActions
from .phrases import Phrases, mine_phrases
from .registration import register_id
from .single import NotRunning, TokenLMEnv
from .solver import NotExact
from .targets import ConditionedTarget
from .targets.making import register_model_folder
from .text import Vocabulary
from .texts import fitted, notices
from .vector import TokenLMVectorEnv
from .world import UnknownWords, World, encode_prompt, encode_target, valid_actions

if TYPE_CHECKING:
    from .device import TokenLMDeviceEnv

__all__ = [
    "ConditionedTarget",
    "EnvConfig",
    "Episodes",
    "Forced",
    "NotExact",
    "NotRunning",
    "Oracle",
    "PhraseActions",
    "Phrases",
    "Split",
    "TokenLMDeviceEnv",
    "TokenLMEnv",
    "TokenLMVectorEnv",
    "UnknownWords",
    "Vocabulary",
    "World",
    "absolute_paths",
    "encode_prompt",
    "encode_target",
    "env_config_from",
    "env_config_of",
    "fitted",
    "force",
    "mine_phrases",
    "named_files",
    "nearest",
    "notices",
    "register_id",
    "register_model_folder",
    "valid_actions",
]


def __getattr__(name: str) -> Any:
    if name == "TokenLMDeviceEnv":  # torch takes a second to import
        from .device import TokenLMDeviceEnv

        return TokenLMDeviceEnv
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
