"""The unigram baseline: token frequencies, without context."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ...envs import EnvConfig, World, env_config_from
from ...envs.text import write_json
from ...envs.trivial import unigram_weights
from ..protocol import BaseAgent, Callback


class Unigram(BaseAgent):
    """Samples tokens by their frequency in the training documents, independent of the prefix; an `Agent`.

    Frequencies use add-one smoothing over the valid tokens; `<eos>` counts once per document.

    Args:
        env: a registered id, an `EnvConfig`, or an environment made from one.
        seed: of the sampling.
        device: not used.
    """

    world: World

    def __init__(self, env: str | EnvConfig | Any = "TokenLM-v0", *, seed: int = 0, device: str = "auto") -> None:
        super().__init__(env_config_from(env), seed)
        self.env_steps = 0
        self._rng = np.random.default_rng(seed)
        self._log_counts = np.log(unigram_weights(self.world))

    def learn(self, total_steps: int, callback: Callback | None = None) -> Unigram:
        """No effect, since the frequencies are known; calls the callback once."""
        if callback is not None:
            callback(self)
        return self

    def save(self, path: str | Path) -> None:
        """Write that it is a unigram into the folder `path`; its frequencies follow from the environment."""
        Path(path).mkdir(parents=True, exist_ok=True)
        write_json(Path(path) / "agent.json", {"class": type(self).__name__})

    @classmethod
    def load(cls, path: str | Path, env: Any, device: str = "auto", trust: bool = False) -> Unigram:
        """The agent that `save` wrote, in the environment `env`."""
        return cls(env, device=device)

    def log_probs(
        self, observation: npt.ArrayLike, action_masks: npt.ArrayLike | None = None
    ) -> npt.NDArray[np.float64]:
        """Log π(a | s), (B, V) in nats, -inf for actions that are not valid."""
        count = len(np.atleast_2d(np.asarray(observation)))
        masks = self.world.valid if action_masks is None else np.asarray(action_masks, np.bool_)
        scores = np.where(np.broadcast_to(masks, (count, self.world.vocab_size)), self._log_counts, -np.inf)
        log_probs: npt.NDArray[np.float64] = scores - np.logaddexp.reduce(scores, axis=1, keepdims=True)
        return log_probs

    def predict(
        self,
        observation: npt.ArrayLike,
        state: Any = None,
        episode_start: npt.ArrayLike | None = None,
        deterministic: bool = False,
        action_masks: npt.ArrayLike | None = None,
    ) -> tuple[npt.NDArray[np.int64], Any]:
        """Actions (B,), the most frequent token if `deterministic`, and `state` unchanged."""
        log_probs = self.log_probs(observation, action_masks)
        if not deterministic:
            log_probs = log_probs + self._rng.gumbel(size=log_probs.shape)
        actions = log_probs.argmax(1)
        return (actions[0] if np.ndim(observation) == 1 else actions), state
