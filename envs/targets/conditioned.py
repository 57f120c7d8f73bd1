"""p* conditioned on the valid actions, so that it sums to 1 over them."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import numpy.typing as npt
from array_api_compat import device

from ..arrays import namespace
from ..text.vocabulary import Vocabulary
from .protocol import FiniteStateTarget, RecurrentTarget, Target
from .stated import as_automaton
from .tables import Tables

_CHUNK = 1 << 22  # entries of a (states, V) block in memory at a time


class ConditionedTarget:
    """A target distribution conditioned on the valid actions, p*(a | s) / Σ_valid p*(· | s).

    Special tokens other than <eos> are never valid. <eos> is invalid before `min_new_tokens` and with the ending
    "fixed". Because of the conditioning, V*(s) = 0 at temperature 1 in every state, whatever is masked.

    The methods take `states`, which `track` computes from prefixes. Those of a finite automaton are its states, and the
    normaliser is a table over them. Those of a target with a memory are its rows of log-probabilities, and the
    normaliser is their sum. Those of other targets are the prefixes.

    Args:
        target: the distribution p*.
        valid: (V,) bool, the tokens that are valid actions in some state.

    Attributes:
        tracks_states: whether the target is a finite automaton.
        remembers: whether the target has a memory.
        takes_numbers: whether a state and a token may also be Python numbers; see `Automaton`.
    """

    def __init__(self, target: Target, valid: npt.NDArray[np.bool_]) -> None:
        target = as_automaton(target)
        self.target = target
        self.valid = valid
        self.vocab_size = target.vocab_size
        self.context_size = target.context_size
        self.tracks_states = hasattr(target, "state_of")
        self.remembers = hasattr(target, "memory")
        self._has_mass = hasattr(target, "mass")
        self._invalid = np.flatnonzero(~valid)
        self.takes_numbers = getattr(target, "takes_numbers", False)
        if self.tracks_states:
            self._log_mass = self._state_tables()

    @property
    def automaton(self) -> FiniteStateTarget:
        """The target as a finite automaton, if `tracks_states`."""
        return cast(FiniteStateTarget, self.target)

    @property
    def recurrent(self) -> RecurrentTarget:
        """The target as one with a memory, if it `remembers`."""
        return cast(RecurrentTarget, self.target)

    def track(self, prefixes: Any) -> Any:
        """(B, L) prefixes to the `states` of the other methods.

        (B,) int64 for a finite automaton; (B, V) log p*(· | prefix), nats, not yet conditioned, for a target that
        remembers; else the prefixes themselves.
        """
        if self.remembers:
            return self.recurrent.log_probs(prefixes)
        return self.automaton.state_of(prefixes) if self.tracks_states else prefixes

    def log_prob(self, states: Any, tokens: Any, eos_valid: Any, expected: Any = None) -> Any:
        """Log p*(token | state, valid), nats.

        Args:
            states: from `track`.
            tokens: (B,) int64, valid actions.
            eos_valid: bool or (B,) bool, whether <eos> is valid.
            expected: (B,) int64, the next token of the document.

        Returns: (B,) float64.
        """
        if self.tracks_states:
            return self.automaton.state_log_prob(states, tokens) - self._mass(states, eos_valid)
        if self._has_mass:
            return self.target.log_prob(states, tokens, expected) - self._log_rest(states, eos_valid, expected)
        # One pass over all tokens gives the normaliser too.
        rows = namespace(tokens).arange(tokens.shape[0], device=device(tokens))
        return self.log_probs(states, eos_valid, expected)[rows, tokens]

    def step(self, states: Any, tokens: Any, eos_valid: Any, expected: Any = None) -> tuple[Any, Any]:
        """`log_prob`, and the (B,) states after the tokens if the target `tracks_states`, else None."""
        if not self.tracks_states:
            return self.log_prob(states, tokens, eos_valid, expected), None
        log_prob, following = self.automaton.advance(states, tokens)
        return log_prob - self._mass(states, eos_valid), following

    def log_probs(self, states: Any, eos_valid: Any, expected: Any = None) -> Any:
        """(B, V) log p*(· | state, valid), nats, -inf for invalid actions."""
        xp = namespace(states)
        valid = self._valid_now(states, eos_valid)
        if self.tracks_states:
            every = self.automaton.state_log_probs(states) - self._mass(states, eos_valid)[:, None]
            return xp.where(valid, every, -xp.inf)
        every = states if self.remembers else self.target.log_probs(states, expected)
        if self._has_mass:
            return xp.where(valid, every - self._log_rest(states, eos_valid, expected)[:, None], -xp.inf)
        chances = xp.where(valid, every, -xp.inf)
        highest = xp.max(chances, axis=1, keepdims=True)
        return chances - highest - xp.log(xp.sum(xp.exp(chances - highest), axis=1, keepdims=True))

    def _valid_now(self, states: Any, eos_valid: Any) -> Any:
        """(B or 1, V) bool, the valid actions."""
        xp = namespace(states)
        valid = xp.asarray(self.valid, device=device(states))
        is_eos = xp.arange(self.vocab_size, device=device(states)) == Vocabulary.EOS
        ends = eos_valid if isinstance(eos_valid, bool) else eos_valid[:, None]
        return valid[None, :] & (~is_eos[None, :] | ends)

    def _mass(self, states: Any, eos_valid: Any) -> Any:
        """(B,) log of the total probability of the valid actions in states of the automaton."""
        if isinstance(eos_valid, bool):
            return self._log_mass.like(states, "with_eos" if eos_valid else "words")[states]
        return namespace(states).where(
            eos_valid, self._log_mass.like(states, "with_eos")[states], self._log_mass.like(states, "words")[states]
        )

    def _log_rest(self, states: Any, eos_valid: Any, expected: Any) -> Any:
        """(B,) log of the same for a target that has the mass of any tokens in closed form.

        A source vocabulary has thousands of invalid words.
        """
        xp = namespace(states)
        lost = self.target.mass(xp.asarray(~self.valid, device=device(states)), expected)  # type: ignore[attr-defined]
        if self.valid[Vocabulary.EOS] and eos_valid is not True:
            tokens = xp.full((states.shape[0],), Vocabulary.EOS, dtype=xp.int64, device=device(states))
            eos = xp.exp(self.target.log_prob(states, tokens, expected))
            lost = lost + (eos if eos_valid is False else xp.where(eos_valid, 0.0, eos))
        return xp.log1p(-lost)

    def _state_tables(self) -> Tables:
        """(S,) log of the total probability of the valid actions in every state, "words" without and "with_eos"."""
        automaton = self.automaton
        words, with_eos = np.empty(automaton.num_states), np.empty(automaton.num_states)
        step = max(1, _CHUNK // max(1, len(self._invalid)))
        for start in range(0, automaton.num_states, step):
            states = np.arange(start, min(start + step, automaton.num_states))
            lost = sum(
                (np.exp(automaton.state_log_prob(states, np.full_like(states, token))) for token in self._invalid),
                np.zeros(len(states)),
            )
            eos = (
                np.exp(automaton.state_log_prob(states, np.full_like(states, Vocabulary.EOS)))
                if self.valid[Vocabulary.EOS]
                else 0.0
            )
            with np.errstate(divide="ignore"):  # 0 in a state where only <eos> has a probability
                words[states] = np.log(np.maximum(1.0 - lost - eos, 0.0))
            with_eos[states] = np.log1p(-lost)
        return Tables(words=words, with_eos=with_eos)
