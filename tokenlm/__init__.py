"""Text generation as reinforcement learning: an exact Gymnasium environment and a DQN that learns it.

Importing this registers the environments: `import gymnasium as gym, tokenlm; gym.make("TokenLM-v0")`.
"""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import tokenlm.checkout  # noqa: F401  first: it says where to find the parts of the package
from tokenlm.envs import EnvConfig, register_id, register_model_folder
from tokenlm.threads import settle_threads

if TYPE_CHECKING:
    from tokenlm.agents import DQN, MaximumLikelihood

settle_threads()  # before torch is imported

__all__ = ["DQN", "EnvConfig", "MaximumLikelihood"]
__version__ = version("tokenlm")

# Settings a paper can name: an id never changes what it means, a change gets a new version.
_MARKOV = {"target": "markov", "order": 2, "vocab_size": 200, "max_new_tokens": 16, "context_length": 17}
_TINY = {"target": "markov", "order": 3, "vocab_size": 8, "max_new_tokens": 4, "context_length": 5}
_ONE_START = {"ending": "fixed", "prompt_length": (0, 0)}
_FACTORED = {
    "target": "factored", "vocab_size": 200, "max_new_tokens": 16, "context_length": 19, "prompt_length": (2, 2),
    "ending": "fixed",
}  # fmt: skip
_TEACHER = {"target": "teacher", "vocab_size": 1_000, "max_new_tokens": 64, "context_length": 65}
_PAIRS = {"target": "reference"}
_VERSE = {
    "corpus": "jueju", "tokenizer": "char", "form": "jueju5", "no_repeat": 1, "order": 2, "prompt_length": (12, 12),
    "max_new_tokens": 12, "ending": "fixed", "context_length": 25,
}  # fmt: skip
_IDS: dict[str, dict[str, Any]] = {
    "TokenLM-v0": {},
    # A late reward pays for what was written; a prompt would hide where that began.
    "TokenLM-Sparse-v0": {"reward_every": 0, "prompt_length": (0, 0)},
    "TokenLM-Markov-v0": {**_MARKOV, **_ONE_START},
    "TokenLM-Tiny-v0": {**_TINY, **_ONE_START},
    "TokenLM-QA-v0": {**_PAIRS, "task": "qa", "context_length": 48, "max_new_tokens": 16},
    "TokenLM-Translation-v0": {
        **_PAIRS, "task": "translation", "vocabularies": "separate", "context_length": 64, "max_new_tokens": 32,
    },
    "TokenLM-Classification-v0": {
        **_PAIRS, "task": "classification", "vocabularies": "separate", "context_length": 64, "max_new_tokens": 1,
        "ending": "fixed",
    },
    # Texts of one length: of texts that may end at will the shortest is the most likely.
    "TokenLM-Text-v0": {"ending": "fixed", "prompt_length": (2, 2), "max_new_tokens": 16, "context_length": 19},
    "TokenLM-Factored-v0": _FACTORED,
    "TokenLM-Factored-Sparse-v0": {**_FACTORED, "reward_every": 0},
    "TokenLM-Teacher-v0": {**_TEACHER, **_ONE_START},
    "TokenLM-Teacher-Sparse-v0": {**_TEACHER, **_ONE_START, "reward_every": 0},
    "TokenLM-Form-v0": _VERSE,
    "TokenLM-Form-Sparse-v0": {**_VERSE, "reward_every": 0},
}  # fmt: skip
for _id, _settings in _IDS.items():
    register_id(_id, _settings.get("max_new_tokens", EnvConfig.max_new_tokens), _settings)
# A trained agent can be the target "causal_lm" of another environment.
register_model_folder("agent.json", "tokenlm.agents.dqn.language_model:load_target")


def __getattr__(name: str) -> Any:
    # torch takes a second to import; somebody who only wants the environment should not wait for it.
    if name in ("DQN", "MaximumLikelihood"):
        import tokenlm.agents as agents

        return getattr(agents, name)
    raise AttributeError(f"module 'tokenlm' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
