"""Text generation as reinforcement learning: an exact Gymnasium environment and a DQN that learns it.

Importing this registers the environments: `import gymnasium as gym, tokenlm; gym.make("TokenLM-v0")`.
"""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from gymnasium.envs.registration import register

if TYPE_CHECKING:
    from tokenlm.agents import DQN, MaximumLikelihood
    from tokenlm.envs import EnvConfig

__all__ = ["DQN", "EnvConfig", "MaximumLikelihood"]
__version__ = version("tokenlm")

register(
    id="TokenLM-v0",
    entry_point="tokenlm.envs:TokenLMEnv",
    vector_entry_point="tokenlm.envs:TokenLMVectorEnv",
)


def __getattr__(name: str) -> Any:
    # torch takes a second to import; somebody who only wants the environment should not wait for it.
    if name in ("DQN", "MaximumLikelihood"):
        import tokenlm.agents as agents

        return getattr(agents, name)
    if name == "EnvConfig":
        from tokenlm.envs import EnvConfig

        return EnvConfig
    raise AttributeError(f"module 'tokenlm' has no attribute {name!r}")
