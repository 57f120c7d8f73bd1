"""The rule that a token may not be written again within the next n places (`no_repeat`)."""

from __future__ import annotations

from typing import Any

import numpy as np
from array_api_compat import device

from .arrays import Ints, namespace
from .config import EnvConfig
from .targets import ConditionedTarget
from .text import Vocabulary
from .world import World

_BLOCK = 1 << 22  # (state, token) entries in memory at once
_ALMOST_ALL = 1.0 - 2.0**-53
_MOST = 2**62  # codes of states are int64


def banned_among(recent: Any, tokens: Any) -> Any:
    """(B,) bool, whether each of the `tokens` (B,) is one of the recent ones (B, n)."""
    return namespace(recent).any(recent == tokens[:, None], axis=1)


def without(recent: Any, rows: Any, value: Any) -> Any:
    """`rows` (B, V), a fresh array, with `value` at the recent tokens (B, n); `<eos>` is never banned."""
    xp = namespace(recent)
    eos = xp.asarray(rows[:, Vocabulary.EOS], copy=True)
    numbers = xp.arange(recent.shape[0], device=device(recent))
    for place in range(recent.shape[1]):
        rows[numbers, recent[:, place]] = value
    rows[:, Vocabulary.EOS] = eos
    return rows


def first_of_equals(recent: Any, valid: Any) -> Any:
    """(B, n) bool, which recent tokens (B, n) count: those of the `valid` (V,) tokens, each once."""
    xp = namespace(recent)
    kept = []
    for place in range(recent.shape[1]):
        token = recent[:, place]
        own = valid[token] & (token != Vocabulary.EOS)
        for before in range(place):
            own = own & (recent[:, before] != token)
        kept.append(own)
    return xp.stack(kept, axis=1)


def log_rest(target: ConditionedTarget, states: Any, recent: Any, eos_valid: Any, expected: Any = None) -> Any:
    """(B,) log of the probability of all valid actions but the recent tokens (B, n), nats."""
    xp = namespace(recent)
    where = device(recent)
    valid = xp.asarray(target.valid, device=where)
    counted = first_of_equals(recent, valid)
    spare = xp.asarray(np.flatnonzero(target.valid)[-1], device=where)
    banned = xp.zeros(recent.shape[0], dtype=xp.float64, device=where)
    rows = None if target.tracks_states else target.log_probs(states, eos_valid, expected)
    for place in range(recent.shape[1]):
        tokens = xp.where(counted[:, place], recent[:, place], spare)
        if rows is None:
            chances = xp.exp(target.log_prob(states, tokens, eos_valid))
        else:
            chances = xp.exp(rows[xp.arange(tokens.shape[0], device=where), tokens])
        banned = banned + xp.where(counted[:, place], chances, 0.0)
    return xp.log1p(-xp.clip(banned, 0.0, _ALMOST_ALL))  # rounding must not give more than all


class NoRepeat:
    """p* conditioned on the valid actions without the last n tokens, as a finite automaton for the oracle.

    A state is a state of p* and the last n tokens, as one number.

    Args:
        target: p* conditioned on the valid actions, a finite automaton.
        places: n.

    Raises ValueError where the states do not fit 64 bits.
    """

    tracks_states = True

    def __init__(self, target: ConditionedTarget, places: int) -> None:
        self._target, self._places, self.vocab_size = target, places, target.vocab_size
        self.num_states = target.automaton.num_states * self.vocab_size**places
        if self.num_states >= _MOST:
            raise ValueError(
                f"no_repeat={places} with {self.vocab_size} tokens has more states than 64 bits can number; use fewer "
                "places"
            )
        self.valid = target.valid

    @property
    def automaton(self) -> NoRepeat:
        """The states and where tokens lead."""
        return self

    def track(self, prefixes: Any) -> Ints:
        """(B, L) prefixes to (B,) int64 states."""
        windows = np.asarray(prefixes, np.int64)
        last = np.pad(windows, ((0, 0), (self._places, 0)))[:, -self._places :]
        return self._number(self._target.track(windows), last)

    def log_prob(self, states: Ints, tokens: Ints, eos_valid: Any, expected: Any = None) -> Any:
        """(B,) log p*(token | state, valid), nats; -inf for a token that is not valid."""
        own, recent = self._parts(states)
        rest = log_rest(self._target, own, recent, eos_valid)
        found = self._target.log_prob(own, tokens, eos_valid) - rest
        return np.where(banned_among(recent, tokens) & (tokens != Vocabulary.EOS), -np.inf, found)

    def log_probs(self, states: Ints, eos_valid: Any, expected: Any = None) -> Any:
        """(B, V) log p*(· | state, valid), nats, -inf for invalid actions."""
        own, recent = self._parts(states)
        rows = without(recent, self._target.log_probs(own, eos_valid), -np.inf)
        return rows - log_rest(self._target, own, recent, eos_valid)[:, None]

    def allowed(self, states: Ints) -> Any:
        """(B, V) bool, the tokens that may be written after the recent ones."""
        return without(self._parts(states)[1], np.tile(self.valid, (len(states), 1)), False)

    def next_state(self, states: Ints, tokens: Ints) -> Ints:
        """(B,) states after (B,) tokens."""
        own, recent = self._parts(states)
        following = self._target.automaton.next_state(own, tokens)
        return self._number(following, np.column_stack([recent[:, 1:], tokens]))

    def next_states(self, states: Ints) -> Ints:
        """(B, V) int64, the state after each token."""
        own, recent = self._parts(states)
        following = self._target.automaton.next_states(own)
        tokens = np.arange(self.vocab_size)
        base = self._number(np.zeros_like(own), np.column_stack([recent[:, 1:], np.zeros_like(own)]))
        result: Ints = following * self.vocab_size**self._places + base[:, None] + np.where(self.valid, tokens, 0)
        return result

    def _number(self, own: Ints, recent: Ints) -> Ints:
        code = own
        for place in range(self._places):  # words that cannot be written ban nothing
            token = recent[:, place]
            code = code * self.vocab_size + np.where(self.valid[token], token, Vocabulary.PAD)
        return code

    def _parts(self, states: Ints) -> tuple[Ints, Ints]:
        """(B,) states of p* and the (B, n) last tokens."""
        recent = np.empty((len(states), self._places), np.int64)
        for place in reversed(range(self._places)):
            states, recent[:, place] = np.divmod(states, self.vocab_size)
        return states, recent


def target_in(world: World, config: EnvConfig) -> ConditionedTarget | NoRepeat:
    """p* over the valid actions of an environment, whose target is a finite automaton."""
    return NoRepeat(world.target, config.no_repeat) if config.no_repeat else world.target


def reachable(target: NoRepeat, words: Ints, seeds: Ints, most: int) -> Ints | None:
    """(S,) ascending, the states that words lead to from the seeds, these among them; None if more than `most`."""
    known = frontier = np.unique(seeds)
    step = max(1, _BLOCK // target.vocab_size)
    while len(frontier) and len(known) <= most:
        parts = [np.zeros(0, np.int64)]
        for first in range(0, len(frontier), step):
            some = frontier[first : first + step]
            following = target.next_states(some)[:, words]
            parts.append(np.unique(following[target.allowed(some)[:, words]]))
        frontier = np.setdiff1d(np.concatenate(parts), known)
        known = np.union1d(known, frontier)
    return known if len(known) <= most else None
