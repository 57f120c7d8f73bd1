"""Dynamic programming on a target's finite automaton, for the oracle."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from .arrays import Floats, Ints
from .text import Vocabulary
from .world import World

_BLOCK = 1 << 17  # entries of a block of rows, so that it fits the processor's cache
_TOLERANCE = 1e-12  # nats, on the fixed point of `stationary`
_MAX_SWEEPS = 100_000


class TabularMDP:
    """Rewards and transitions of all automaton states, as dense tables over the words.

    Args:
        world: its target must be a finite automaton.

    Attributes:
        words: (W,) ids of the valid actions except `<eos>`.
        log_probs: (S, W) log p*(word | state), nats, given that the action is valid; `<eos>` is one of the valid
            actions unless the ending is "fixed".
        next_states: (S, W) int32, state after each word.
        log_eos: (S,) log p*(<eos> | state), nats; -inf with the ending "fixed".
        without_eos: (S,) increase of the state's `log_probs` while `<eos>` is masked, nats.
    """

    def __init__(self, world: World) -> None:
        target, size = world.target, world.target.automaton.num_states
        self.words = world.words
        self.log_probs = np.empty((size, len(self.words)))
        self.next_states = np.empty((size, len(self.words)), np.int32)
        self.log_eos = np.full(size, -np.inf)
        rows = max(1, _BLOCK // world.vocab_size)
        for start in range(0, size, rows):
            states = np.arange(start, min(start + rows, size))
            every = target.log_probs(states, np.ones(len(states), np.bool_))
            self.log_probs[states] = every[:, self.words]
            self.log_eos[states] = every[:, Vocabulary.EOS]
            self.next_states[states] = target.automaton.next_states(states)[:, self.words]
        self.without_eos = -np.log1p(-np.exp(self.log_eos))

    def __len__(self) -> int:
        return len(self.log_eos)

    def q_values(
        self, states: Ints, value: Floats, gamma: float, eos_valid: bool, weight: float = 1.0
    ) -> tuple[Floats, Floats]:
        """Action values by one-step look-ahead.

        Args:
            states: (B,) automaton states.
            value: (S,) values of the states after the step, nats.
            gamma: discount of `value`.
            eos_valid: whether `<eos>` is a valid action now.
            weight: factor of the step's reward.

        Returns: (B, W) action values of the words and (B,) of `<eos>`, -inf where it is masked.
        """
        words = self.log_probs[states]
        if not eos_valid:
            words = words + self.without_eos[states, None]
        if weight != 1.0:
            words = weight * words
        words = words + _discounted(value, gamma)[self.next_states[states]]
        eos = weight * self.log_eos[states] if eos_valid else np.full(len(states), -np.inf)
        return words, eos

    def backup(self, value: Floats, temperature: float, gamma: float, eos_valid: bool, weight: float = 1.0) -> Floats:
        """(S,) soft Bellman backup of (S,) values: τ·log Σ exp(Q/τ) over the valid actions, the maximum at τ = 0."""

        def block(states: Ints) -> Floats:
            return soft_maximum(*self.q_values(states, value, gamma, eos_valid, weight), temperature)

        return self._in_blocks(block)

    def expectation(self, value: Floats, policy: Floats | None, eos_valid: bool, temperature: float = 0.0) -> Floats:
        """(S,) soft Bellman backup of (S,) values under a fixed policy: E[r + value + τ·entropy].

        Args:
            value: (S,) values of the states after the step, nats.
            policy: (V,) weights above 0 of a policy that looks at no context, conditioned on the valid actions; None
                for p* itself.
            eos_valid: whether `<eos>` is a valid action now.
            temperature: τ.
        """
        fixed = np.ones(0) if policy is None else np.append(policy[self.words], policy[Vocabulary.EOS] * eos_valid)
        fixed = fixed / fixed.sum()
        entropy = -float((fixed * np.log(np.where(fixed > 0.0, fixed, 1.0))).sum())

        def block(states: Ints) -> Floats:
            words, eos = self.q_values(states, np.zeros_like(value), 0.0, eos_valid)
            later = value[self.next_states[states]]
            if policy is None:  # the entropy of p* is -Σ p log p
                chances, own = np.exp(words), (1.0 - temperature) * _finite(words)
                result: Floats = (chances * (own + later)).sum(1) + np.exp(eos) * (1.0 - temperature) * _finite(eos)
                return result
            result = (words + later) @ fixed[:-1] + temperature * entropy
            return result + fixed[-1] * eos if eos_valid else result

        return self._in_blocks(block)

    def stationary(self, temperature: float, gamma: float) -> Floats:
        """(S,) fixed point of the backup with `<eos>` valid: soft value iteration, a shortest path at τ = 0, γ = 1.

        Every tenth sweep extrapolates along the slowest mode of the error (Lyusternik's acceleration); without it,
        long texts take hundreds of sweeps.

        Raises ValueError if there is no finite fixed point, as can happen with τ > 1 and γ = 1.
        """
        shortest_path = temperature == 0.0 and gamma == 1.0
        # From -inf, sweep k of the shortest path has the best texts of up to k tokens.
        value = np.full(len(self), -np.inf if shortest_path else 0.0)
        last = np.zeros(len(self))  # previous change, zero after an extrapolation
        for sweep in range(1, _MAX_SWEEPS):
            new = self.backup(value, temperature, gamma, True)
            if np.array_equal(new, value):
                return value
            if shortest_path:
                value = new
                continue
            change = new - value
            overlap = float(last @ last)
            rate = float(change @ last) / overlap if overlap else 0.0
            size = float(np.abs(change).max())
            if size <= _TOLERANCE * max(1.0 - rate, 1e-3):
                return new
            if sweep > 200 and gamma == 1.0 and temperature > 1.0 and rate > 1.0 - 1e-5:
                break
            value, last = new, change
            if sweep % 10 == 0 and 0.0 < rate < 1.0 - 1e-6:
                value, last = new + change * (rate / (1.0 - rate)), np.zeros(len(self))
        raise ValueError(
            f"at temperature {temperature:g} and discount {gamma:g} the values have no finite fixed point, because the "
            'number of texts grows faster than their weights fall; use horizon="episode" or a lower temperature'
        )

    def _in_blocks(self, block: Callable[[Ints], Floats]) -> Floats:
        """Apply `block` to all states in blocks of rows, one thread per processor (NumPy releases the GIL)."""
        rows = max(1, _BLOCK // max(1, len(self.words)))
        parts = [np.arange(s, min(s + rows, len(self))) for s in range(0, len(self), rows)]
        if len(parts) == 1:
            return block(parts[0])
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            return np.concatenate(list(pool.map(block, parts)))


def _finite(log_probs: Floats) -> Floats:
    """Log-probabilities with 0 for -inf, to be multiplied by their probability."""
    return np.where(np.isneginf(log_probs), 0.0, log_probs)


def _discounted(value: Floats, gamma: float) -> Floats:
    """γ·value; -inf stays -inf at γ = 0."""
    return np.where(np.isneginf(value), -np.inf, gamma * np.maximum(value, np.finfo(np.float64).min))


def soft_maximum(words: Floats, eos: Floats, temperature: float) -> Floats:
    """(B,) τ·log Σ exp(Q/τ) over (B, W) words and (B,) `<eos>`; the maximum at τ = 0, -inf if all are -inf."""
    top = np.maximum(words.max(1), eos)
    if temperature == 0.0:
        return top
    base = np.where(np.isfinite(top), top, 0.0)
    scaled = words - base[:, None]
    with np.errstate(divide="ignore", over="ignore"):  # at a tiny temperature differences become infinite
        scaled /= temperature
        np.exp(scaled, out=scaled)
        result: Floats = base + temperature * np.log(scaled.sum(1) + np.exp((eos - base) / temperature))
    return result
