"""Regret and score: 0 is the best policy that does not look at the text, 1 is the optimum."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from ...envs import EnvConfig, NotExact, Oracle, World, env_config_from
from ...envs.sampled_trivial import sampled_policy_returns
from ...envs.trivial import policy_returns, start_distribution, starts_of

_LEAST_GAP = 1e-9  # nats; below this, nothing lies between the best trivial policy and the optimum


def trivial_returns(env: str | EnvConfig | Any, temperature: float = 0.0) -> dict[str, float]:
    """Mean returns of the trivial policies over the start distribution of `env`, nats a text.

    They are exact where p* is a finite automaton. For a neural p* those of "random" and "unigram_sampled" are means
    over 256 sampled texts, and "same_text" is left out; see `sampled_policy_returns`.

    Args:
        env: a registered id, an `EnvConfig`, or an environment made from one.
        temperature: τ; above 0 the returns are soft ones, E[Σ r] + τ·entropy of the policy over whole texts.

    Returns: by name, "random" (uniform over the valid actions); "constant" (the best single token, written until the
    episode ends); "constant_eos" (the best single token and then `<eos>`); "unigram_sampled" and "unigram_greedy"
    (frequencies of the training documents); where prompts differ, "same_text" (the best text found that is written
    after every prompt alike). A policy that no episode allows is left out.

    Raises NotExact where actions change no state, or rewards depend on the whole text or on the document.
    """
    config = env_config_from(env)
    oracle = Oracle.of(World.of(config), config)
    starts = start_distribution(oracle, config.split)
    if oracle.why_not_followed is None:
        return policy_returns(oracle, starts, temperature)
    sampled = sampled_policy_returns(oracle, starts, temperature)
    return {name: float(values.mean()) for name, values in sampled.items()}


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
        trivial_ci: 95 % confidence intervals of those that were estimated from sampled texts; empty if all are exact.
    """

    temperature: float = 0.0
    optimal: float | None = None
    trivial: dict[str, float] = field(default_factory=dict)
    trivial_ci: dict[str, list[float]] = field(default_factory=dict)

    @classmethod
    def of(cls, world: World, config: EnvConfig, prefixes: npt.NDArray[np.int64], temperature: float = 0.0) -> Scale:
        """The scale on the prompts of (B, L) first observations, exact where p* is a finite automaton.

        At the temperature `log_prob_weight` p* itself is optimal, and its soft return is 0, whatever p* is. There the
        trivial policies are played where their returns have no exact programme.
        """
        oracle = Oracle.of(world, config)
        known = oracle.is_exact and config.transition == "free"
        optimal: float | None = None
        if is_p_star(config, temperature):
            optimal = 0.0
        elif known:
            optimal = float(oracle.optimal_value(prefixes, temperature=temperature, horizon="episode").mean())
        starts = starts_of(oracle, prefixes)
        try:
            return cls(temperature, optimal, policy_returns(oracle, starts, temperature))
        except NotExact:
            if not is_p_star(config, temperature):
                return cls(temperature, optimal)
        try:
            texts = sampled_policy_returns(oracle, starts, temperature)
        except NotExact:
            return cls(temperature, optimal)
        means = {name: float(values.mean()) for name, values in texts.items()}
        return cls(temperature, optimal, means, {n: interval(v) for n, v in texts.items() if len(v) > 1})

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

    @property
    def trivial_regret_ci(self) -> list[float] | None:
        """95 % confidence interval of `trivial_regret`; None if that is exact or unknown."""
        low_high = self.trivial_ci.get(self.best or "")
        return None if low_high is None or self.optimal is None else [self.optimal - v for v in reversed(low_high)]

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


def why_unknown(world: World, config: EnvConfig, temperature: float) -> str | None:
    """Why no optimum is known at this temperature, and so no regret and no score; None where it is known."""
    if is_p_star(config, temperature):
        return None
    oracle = Oracle.of(world, config)
    reason = oracle.why_not_followed or oracle.why_not
    if reason is None or not is_p_star(config, config.log_prob_weight):
        return reason
    return f"{reason}; at temperature {config.log_prob_weight:g} p* itself is the optimum"


def interval(values: npt.NDArray[np.float64]) -> list[float]:
    """95 % confidence interval of the mean of (N,) independent values: mean ± 1.96 standard errors."""
    mean, count = float(values.mean()), len(values)
    half = 1.96 * float(values.std(ddof=1)) / math.sqrt(count) if count > 1 else math.inf
    return [mean - half, mean + half]
