"""Dynamic programming on a target's finite automaton, for the oracle."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import Any

import numpy as np

from .arrays import Floats, Ints, places_in
from .no_repeat import NoRepeat
from .targets import ConditionedTarget
from .text import Vocabulary

_BLOCK = 1 << 17  # entries of a block of rows, so that it fits the processor's cache
_TOLERANCE = 1e-12  # nats, on the fixed point of `stationary`
_MAX_SWEEPS = 100_000
_FEW = 0.1  # fraction of the table


class TabularMDP:
    """Rewards and transitions of all states of a target, as dense tables over the words.

    Args:
        target: p* conditioned on the valid actions, a finite automaton.
        words: (W,) ids of the valid actions except `<eos>`.
        numbers: (S,) ascending, the states by their number in the automaton, closed under all words; None for all.

    Attributes:
        words: as above.
        log_probs: (S, W) log p*(word | state), nats, given that the action is valid; `<eos>` is one of the valid
            actions unless the ending is "fixed". -inf for a word that is not valid in a state.
        next_states: (S, W) int32, state after each word.
        log_eos: (S,) log p*(<eos> | state), nats; -inf with the ending "fixed".
        without_eos: (S,) increase of the state's `log_probs` while `<eos>` is masked, nats.
    """

    def __init__(self, target: ConditionedTarget | NoRepeat, words: Ints, numbers: Ints | None = None) -> None:
        size = target.automaton.num_states if numbers is None else len(numbers)
        self.words, self._numbers = words, numbers
        self.log_probs = np.empty((size, len(words)))
        self.next_states = np.empty((size, len(words)), np.int32)
        self.log_eos = np.full(size, -np.inf)
        self._allowed = None if numbers is None else np.empty((size, len(words)), np.bool_)
        rows = max(1, _BLOCK // target.vocab_size)
        for start in range(0, size, rows):
            states = np.arange(start, min(start + rows, size))
            known = states if numbers is None else numbers[states]
            every = target.log_probs(known, np.ones(len(states), np.bool_))
            self.log_probs[states] = every[:, words]
            self.log_eos[states] = every[:, Vocabulary.EOS]
            following = target.automaton.next_states(known)[:, words]
            if self._allowed is not None and isinstance(target, NoRepeat):
                allowed = target.allowed(known)[:, words]
                following = np.where(allowed, self.index(following), states[:, None])
                self._allowed[states] = allowed
            self.next_states[states] = following
        self.without_eos = -np.log1p(-np.exp(self.log_eos))

    def size(self, written: int) -> int:
        """Number of states, the same after any number of tokens."""
        return len(self)

    def index(self, numbers: Ints, written: int = 0) -> Ints:
        """Rows of the tables of states, given by their number in the automaton; -1 for those that are not in them."""
        return numbers if self._numbers is None else places_in(self._numbers, numbers)

    def __len__(self) -> int:
        return len(self.log_eos)

    def allowed_among(self, states: Ints, columns: Ints) -> Any:
        """(B, n) bool, whether the words in the `columns` (n,) are valid in states (B,); True if all are."""
        return True if self._allowed is None else self._allowed[states[:, None], columns]

    def reached(self, states: Ints, columns: Ints) -> Ints:
        """(R,) ascending, the states that the words in the `columns` (n,) lead to from states (B,)."""
        step, found = max(1, _BLOCK // max(1, len(columns))), np.zeros(len(self), np.bool_)
        for first in range(0, len(states), step):
            some = states[first : first + step]
            following = self.next_states[some[:, None], columns]
            valid = self.allowed_among(some, columns)
            found[following if valid is True else following[valid]] = True
        return np.flatnonzero(found)

    def q_values(
        self, states: Ints, value: Floats, gamma: float, eos_valid: bool, weight: float = 1.0, written: int = 0
    ) -> tuple[Floats, Floats]:
        """Action values by one-step look-ahead.

        Args:
            states: (B,) automaton states.
            value: (S,) values of the states after the step, nats.
            gamma: discount of `value`.
            eos_valid: whether `<eos>` is a valid action now.
            weight: factor of the step's reward.
            written: tokens written before; here it makes no difference.

        Returns: (B, W) action values of the words and (B,) of `<eos>`, -inf where it is masked.
        """
        words = self.log_probs[states]
        if not eos_valid:
            words = words + self.without_eos[states, None]
        if weight != 1.0:
            words = weight * words
        words = words + discounted(value, gamma)[self.next_states[states]]
        eos = weight * self.log_eos[states] if eos_valid else np.full(len(states), -np.inf)
        return words, eos

    def backup(
        self, value: Floats, temperature: float, gamma: float, eos_valid: bool, weight: float = 1.0, written: int = 0
    ) -> Floats:
        """(S,) soft Bellman backup of (S,) values: τ·log Σ exp(Q/τ) over the valid actions, the maximum at τ = 0."""

        def block(states: Ints) -> Floats:
            return soft_maximum(*self.q_values(states, value, gamma, eos_valid, weight), temperature)

        return self._in_blocks(block)

    def policy_value(self, policy: Floats | None, temperature: float, eos_valid: Sequence[bool]) -> Floats:
        """(S,) soft value E[Σ r] + τ·entropy of a fixed policy at the beginning of an episode, nats.

        Args:
            policy: (V,) weights above 0 of a policy that looks at no context, conditioned on the valid actions; None
                for p* itself.
            temperature: τ.
            eos_valid: whether `<eos>` is a valid action at each step of the episode.
        """
        value, known = np.zeros(len(self)), None
        for valid in reversed(eos_valid):
            if valid is not known:
                rewards, chances = self._policy_step(policy, temperature, valid)
                known = valid
            value = rewards + self._mean_after(chances, value)
        return value

    def _policy_step(self, policy: Floats | None, temperature: float, eos_valid: bool) -> tuple[Floats, Floats]:
        """(S,) mean reward of a step plus τ·entropy, and the chances of the words, (W,) or (S, W)."""
        if policy is not None and self._allowed is not None:
            return self._masked_step(policy, temperature, eos_valid)
        if policy is not None:
            weights = np.append(policy[self.words], policy[Vocabulary.EOS] if eos_valid else 0.0)
            chances = weights / weights.sum()
            entropy = -float((chances * np.log(np.where(chances > 0.0, chances, 1.0))).sum())

            def mean(states: Ints) -> Floats:
                words, eos = self._rewards(states, eos_valid)
                return words @ chances[:-1] + (chances[-1] * eos if eos_valid else 0.0) + temperature * entropy

            return self._in_blocks(mean), chances[:-1]

        every = np.empty(self.log_probs.shape)

        def mean_of_target(states: Ints) -> Floats:  # the entropy of p* is -Σ p log p
            words, eos = self._rewards(states, eos_valid)
            every[states] = np.exp(words)
            earned: Floats = (every[states] * finite(words)).sum(1) + np.exp(eos) * finite(eos)
            return (1.0 - temperature) * earned

        return self._in_blocks(mean_of_target), every

    def _masked_step(self, policy: Floats, temperature: float, eos_valid: bool) -> tuple[Floats, Floats]:
        """`_policy_step` where the valid words differ from state to state."""
        weights = policy[self.words] * (1.0 if self._allowed is None else self._allowed)
        ends = policy[Vocabulary.EOS] if eos_valid else 0.0
        total = weights.sum(1) + ends
        weights /= total[:, None]

        def mean(states: Ints) -> Floats:
            words, eos = self._rewards(states, eos_valid)
            own, last = weights[states], ends / total[states]
            entropy = -(own * np.log(np.where(own > 0.0, own, 1.0))).sum(1)
            earned: Floats = (own * np.where(own > 0.0, words, 0.0)).sum(1) + temperature * entropy
            return earned + last * (eos - temperature * np.log(last)) if eos_valid else earned

        return self._in_blocks(mean), weights

    def _rewards(self, states: Ints, eos_valid: bool) -> tuple[Floats, Floats]:
        return self.q_values(states, np.zeros(len(self)), 0.0, eos_valid)

    def _mean_after(self, chances: Floats, value: Floats) -> Floats:
        """(S,) mean value of the next state, from chances of the words, (W,) or (S, W), and (S,) values."""
        usual, rows, columns = self._exceptions
        if rows is None:
            return self._in_blocks(lambda states: _weighted(chances, states, value[self.next_states[states]]))
        more = value[self.next_states[rows, columns]] - value[usual[columns]]
        some = chances[columns] if chances.ndim == 1 else chances[rows, columns]
        result: Floats = chances @ value[usual] + np.bincount(rows, some * more, len(self))
        return result

    @cached_property
    def _exceptions(self) -> tuple[Ints, Ints | None, Ints]:
        """(W,) next states of state 0, and where those of other states differ; None if that is often.

        In an n-gram model most words lead to the same state from everywhere.
        """
        usual = self.next_states[0]
        rows, columns = np.nonzero(self.next_states != usual)
        return usual, rows if len(rows) < _FEW * self.next_states.size else None, columns

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


def _weighted(chances: Floats, states: Ints, after: Floats) -> Floats:
    """(B,) sums of (B, W) values with chances (W,), or (S, W) of all states."""
    result: Floats = after @ chances if chances.ndim == 1 else (after * chances[states]).sum(1)
    return result


def finite(log_probs: Floats) -> Floats:
    """Log-probabilities with 0 for -inf, to be multiplied by their probability."""
    return np.where(np.isneginf(log_probs), 0.0, log_probs)


def discounted(value: Floats, gamma: float) -> Floats:
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
