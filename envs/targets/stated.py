"""A target of one's own that states its states, as a finite automaton: the exact oracle needs no more."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..arrays import Floats, Ints, namespace
from ..text.vocabulary import Vocabulary
from .automaton import Automaton
from .protocol import FiniteStateTarget, StatedTarget, Target
from .sums import refuse_sums
from .tables import Tables

MAX_ENTRIES = 130_000_000  # (state, token) pairs of the tables, 12 bytes each
_ROWS = 1 << 22  # entries of log-probabilities asked for at once
_PARTS = ("state_of", "num_states", "next_states")


class StatedAutomaton(Automaton):
    """The tables of a `StatedTarget`: its log-probabilities in every state, and the state after every token.

    Log-probabilities are those of the shortest text that leads from `<bos>` to a state.

    Args:
        target: a target with `state_of`, `num_states` and `next_states`.

    Raises ValueError where these have wrong shapes or values, or the tables would be too large.
    """

    takes_numbers = True

    def __init__(self, target: StatedTarget) -> None:
        count, size = int(target.num_states), target.vocab_size
        if count < 1 or count * size > MAX_ENTRIES:
            raise ValueError(
                f"a target that states its states needs a table of num_states x vocab_size = {count:,} x {size:,} "
                f"entries, at least 1 and at most {MAX_ENTRIES:,}"
            )
        following = np.asarray(target.next_states(np.arange(count)))
        if following.shape != (count, size) or following.dtype.kind not in "iu":
            raise ValueError(
                f"next_states must return whole numbers of the shape {(count, size)} (states, tokens), not "
                f"{following.shape} {following.dtype}"
            )
        if following.min() < 0 or following.max() >= count:
            raise ValueError(
                f"states must lie between 0 and num_states - 1 = {count - 1}, but next_states gives "
                f"{following.min()} to {following.max()}"
            )
        self.stated = target
        self.vocab_size, self.num_states = size, count
        self._following = following.astype(np.int32)
        self._first = int(target.state_of(np.array([[Vocabulary.BOS]]))[0])
        log_probs, self._reached = self._rows(target)
        self._tables = Tables(log_probs=log_probs, following=self._following)

    @property
    def context_size(self) -> int | None:
        """Number of last tokens of a prefix that matter; None for all."""
        return self.stated.context_size

    def state_of(self, prefixes: Any) -> Any:
        """(B, L) prefixes to (B,) int64 states."""
        if isinstance(prefixes, list):
            return int(self.state_of(np.array([prefixes]))[0])
        xp = namespace(prefixes)
        on_host = isinstance(prefixes, np.ndarray)
        given = prefixes if on_host else prefixes.cpu().numpy()
        states = np.asarray(self.stated.state_of(given), np.int64)
        states = np.where(given[:, -1] == Vocabulary.PAD, self._first, states)  # before the first episode begins
        for state in np.unique(states):
            if not 0 <= state < self.num_states or not self._reached[state]:
                raise ValueError(f"state_of gives the state {state}, to which next_states leads no text from <bos>")
        return states if on_host else xp.asarray(states, device=prefixes.device)

    def next_state(self, states: Any, tokens: Any) -> Any:
        """(B,) states after (B,) tokens."""
        xp = namespace(states)
        return xp.astype(self._tables.like(states, "following")[states, tokens], xp.int64)

    def state_log_prob(self, states: Any, tokens: Any) -> Any:
        """(B,) log p*(token | state), nats."""
        return self._tables.like(states, "log_probs")[states, tokens]

    def state_log_probs(self, states: Any) -> Any:
        """(B, V) log p*(· | state), nats."""
        return self._tables.like(states, "log_probs")[states]

    def next_states(self, states: Any) -> Any:
        """(B, V) int64, the state after each token."""
        xp = namespace(states)
        return xp.astype(self._tables.like(states, "following")[states], xp.int64)

    def _rows(self, target: StatedTarget) -> tuple[Floats, Any]:
        """(S, V) log-probabilities of the states that texts lead to, and (S,) bool which these are."""
        rows = np.full((self.num_states, self.vocab_size), -np.log(self.vocab_size))  # of states that never occur
        reached = np.zeros(self.num_states, np.bool_)
        prefixes: Ints = np.array([[Vocabulary.BOS]])
        states = np.array([self._first])
        while len(states):
            reached[states] = True
            step = max(1, _ROWS // self.vocab_size)
            for first in range(0, len(states), step):
                some = slice(first, first + step)
                found = target.log_probs(prefixes[some])
                refuse_sums(found, self.vocab_size, type(target).__name__, states[some])
                rows[states[some]] = found
            after = self._following[states]
            after[:, [Vocabulary.PAD, Vocabulary.BOS]] = states[:, None]  # texts have them at their beginning alone
            found, place = np.unique(after, return_index=True)
            new = ~reached[found]
            parent, token = np.divmod(place[new], self.vocab_size)
            prefixes, states = np.column_stack([prefixes[parent], token]), found[new].astype(np.int64)
        return rows, reached


def as_automaton(target: Target) -> Target:
    """`target`, as a finite automaton if it states its states; ValueError if it states them in part."""
    if isinstance(target, FiniteStateTarget):
        return target
    stated = [part for part in _PARTS if hasattr(target, part)]
    if not stated:
        return target
    if len(stated) < len(_PARTS):
        missing = ", ".join(part for part in _PARTS if part not in stated)
        raise ValueError(
            f"the target {type(target).__name__} states its states with {', '.join(stated)}, but it lacks {missing}"
        )
    return StatedAutomaton(target)  # type: ignore[arg-type]
