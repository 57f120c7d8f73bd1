"""`PhraseActions`: a wrapper whose actions write one token or a whole phrase."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt

from .phrases import Phrases, mine_phrases
from .single import Observation, TokenLMEnv, always_valid, token_ids
from .spaces import TokenSpace


class PhraseActions(gym.Wrapper[Observation, np.int64, Observation, np.int64], gym.utils.RecordConstructorArgs):
    """`TokenLM-v0` as a semi-Markov decision process: `Discrete(V + P)`, action V + p writes phrase p.

    The tokens of a phrase are written in order; if the episode ends first, the rest is dropped. The reward is
    Σ γ^i r_i over the k tokens written, and `info["duration"]` is k, so a learner discounts the next value by γ^k
    (Sutton, Precup & Singh 1999, eq. 10). `info["log_prob"]` is the log-likelihood of the tokens written. At γ = 1 the
    optimal return is the same as without phrases.

    For several environments: `gym.make_vec(id, num_envs=N, vectorization_mode="sync", wrappers=[PhraseActions])`.

    Args:
        env: a `TokenLMEnv`, wrapped or not, with the transition "free".
        phrases: the phrases, or the number to mine from the training documents.
        longest: most tokens in a mined phrase.
        gamma: discount γ within a phrase.
    """

    def __init__(
        self, env: gym.Env[Observation, np.int64], phrases: Phrases | int = 100, longest: int = 4, gamma: float = 1.0
    ) -> None:
        gym.utils.RecordConstructorArgs.__init__(self, phrases=phrases, longest=longest, gamma=gamma)
        super().__init__(env)
        inner = env.unwrapped
        if not isinstance(inner, TokenLMEnv):
            raise ValueError(
                f"PhraseActions wraps TokenLM environments, not {env}; make it with gym.make('TokenLM-v0')"
            )
        if inner.config.transition != "free":
            raise ValueError(
                f"phrases need the transition 'free', not {inner.config.transition!r}, which appends the document's "
                "tokens"
            )
        if inner.config.no_repeat:
            raise ValueError("phrases would repeat tokens, so no_repeat must be 0")
        if inner.config.form:
            raise ValueError(f"phrases know nothing of the form {inner.config.form!r}; use no form")
        self._inner = inner
        self.gamma = gamma
        if isinstance(phrases, int):
            phrases = mine_phrases(inner.world, inner.config, phrases, longest)
        self.phrases = phrases
        tokens = always_valid(inner.world, inner.config)
        self.action_space = TokenSpace(phrases.mask(tokens, 0, inner.config.min_new_tokens))

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Start an episode; see the environment."""
        observation, info = self.env.reset(seed=seed, options=options)
        return observation, self._with_mask(info)

    def step(self, action: Any) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Write one token or phrase; ValueError for an invalid action, before any token is written."""
        number = int(token_ids(action, 1)[0])
        phrases = self.phrases
        if not 0 <= number < phrases.num_actions:
            raise ValueError(f"action {number} is out of range; actions are the numbers 0 to {phrases.num_actions - 1}")
        if number >= phrases.vocab_size and not self.action_masks()[number]:
            text = self._inner.world.tokenizer.decode(list(phrases.ids[number - phrases.vocab_size]))
            raise ValueError(f"action {number}, the phrase {text!r}, is masked in this state; see action_masks()")
        total, log_prob, weight, duration = 0.0, 0.0, 1.0, 0
        for token in phrases.table[number, : phrases.lengths[number]]:
            observation, reward, terminated, truncated, info = self.env.step(token)
            total += weight * float(reward)
            log_prob += info["log_prob"]
            weight *= self.gamma
            duration += 1
            if terminated or truncated:
                break
        info = {**info, "log_prob": log_prob, "duration": duration}
        return observation, total, terminated, truncated, self._with_mask(info)

    def action_masks(self) -> npt.NDArray[np.bool_]:
        """(V + P,) bool; a phrase is valid if its first token is, and its final `<eos>` will be by then."""
        config, written = self._inner.config, self._inner.written
        return self.phrases.mask(self._inner.action_masks(), written, config.min_new_tokens)

    def _with_mask(self, info: dict[str, Any]) -> dict[str, Any]:
        return {**info, "action_mask": self.action_masks().astype(np.int8)} if "action_mask" in info else info
