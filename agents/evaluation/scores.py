"""Regret and score: 0 is the best policy that does not look at the text, 1 is the optimum."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from ...envs import EnvConfig, NotExact, Oracle, World, env_config_from
from ...envs.trivial import policy_returns, start_distribution, starts_of

_LEAST_GAP = 1e-9  # nats; below this, nothing lies between the best trivial policy and the optimum


def trivial_returns(env: str | EnvConfig | Any, temperature: float = 0.0) -> dict[str, float]:
    """Exact mean returns of the trivial policies over the start distribution of `env`, nats a text.

    Args:
        env: a registered id, an `EnvConfig`, or an environment made from one.
        temperature: τ; above 0 the returns are soft ones, E[Σ r] + τ·entropy of the policy over whole texts.

    Returns: by name, "random" (uniform over the valid actions); "constant" (the best single token, written until the
    episode ends); "constant_eos" (the best single token and then `<eos>`); "unigram_sampled" and "unigram_greedy"
    (frequencies of the training documents); where prompts differ, "same_text" (the best text found that is written
    after every prompt alike). A policy that no episode allows is left out.

    Raises NotExact where p* is no finite automaton, actions change no state, or rewards depend on the whole text.
    """
    config = env_config_from(env)
    oracle = Oracle.of(World.of(config), config)
    return policy_returns(oracle, start_distribution(oracle, config.split), temperature)


def normalized_score(reached: float | None, trivial: float | None, optimal: float | None) -> float | None:
    """(reached - trivial)/(optimal - trivial): 0 for the best trivial policy, 1 for the optimum; never above 1.

    Args:
        reached: return, nats; None if unknown.
        trivial: return of the best trivial policy, nats; None if unknown.
        optimal: optimal return, nats; None if unknown.

    Returns: the score; None if one of them is unknown, or the best trivial policy is optimal.
    """
    if reached is None or trivial is None or optimal is None or not optimal - trivial > _LEAST_GAP:
        return None
    return (reached - trivial) / (optimal - trivial)


@dataclass(frozen=True)
class Scale:
    """What returns on given prompts are measured by, nats a text. For τ > 0 all returns are soft ones.

    Args:
        temperature: τ.
        optimal: mean optimal return; None if it is unknown.
        trivial: mean returns of the trivial policies by name; empty if they are unknown.
    """

    temperature: float = 0.0
    optimal: float | None = None
    trivial: dict[str, float] = field(default_factory=dict)

    @classmethod
    def of(cls, world: World, config: EnvConfig, prefixes: npt.NDArray[np.int64], temperature: float = 0.0) -> Scale:
        """The exact scale on the prompts of (B, L) first observations.

        At the temperature `log_prob_weight` p* itself is optimal, and its soft return is 0, whatever p* is.
        """
        oracle = Oracle.of(world, config)
        known = oracle.is_exact and config.transition == "free"
        optimal: float | None = None
        if is_p_star(config, temperature):
            optimal = 0.0
        elif known:
            optimal = float(oracle.optimal_value(prefixes, temperature=temperature, horizon="episode").mean())
        try:
            return cls(temperature, optimal, policy_returns(oracle, starts_of(oracle, prefixes), temperature))
        except NotExact:
            return cls(temperature, optimal)

    @property
    def best(self) -> str | None:
        """Name of the best trivial policy; None if unknown."""
        return max(self.trivial, key=lambda name: self.trivial[name], default=None)

    @property
    def trivial_return(self) -> float | None:
        """Return of the best trivial policy; None if unknown."""
        return max(self.trivial.values(), default=None)

    @property
    def constant_return(self) -> float | None:
        """Return of the best constant token, with or without `<eos>` after it; None if unknown."""
        found = [self.trivial[name] for name in ("constant", "constant_eos") if name in self.trivial]
        return max(found, default=None)

    @property
    def trivial_regret(self) -> float | None:
        """Regret of the best trivial policy; None if unknown."""
        return self.regret(self.trivial_return)

    def regret(self, reached: float | None) -> float | None:
        """Optimal minus reached return; None if one is unknown."""
        return None if reached is None or self.optimal is None else self.optimal - reached

    def score(self, regret: float | None) -> float | None:
        """The normalised score of a policy with this regret; see `normalized_score`."""
        reached = None if regret is None or self.optimal is None else self.optimal - regret
        return normalized_score(reached, self.trivial_return, self.optimal)


def is_p_star(config: EnvConfig, temperature: float) -> bool:
    """Whether p* itself is the optimal policy at this temperature, because of the rewards alone."""
    return (
        config.transition == "free"
        and not config.sequence_reward
        and not config.pays_bonus
        and config.log_prob_weight > 0.0
        and temperature == config.log_prob_weight
    )
