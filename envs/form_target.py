"""p* under a form as one automaton, whose states are those of both."""

from __future__ import annotations

from typing import Any

import numpy as np

from .arrays import Floats, Ints, pieces
from .config import EnvConfig
from .dynamic_programming import soft_maximum
from .forms import Form, conditioned, form_in, states_after
from .no_repeat import NoRepeat
from .no_repeat import target_in as plain_target_in
from .targets import ConditionedTarget
from .world import World

_MOST = 2**62  # codes of states are int64
_ROOM = 2**20  # states of a form that are numbered, at least
_CHUNK = 1 << 22  # entries of a (states, V) block in memory at a time


class FormTarget:
    """p* conditioned on the tokens that a form allows, as a finite automaton for the oracle.

    A state is a state of p* and one of the form, as one number. The form's states are numbered as they are met.

    Args:
        target: p* conditioned on the valid actions, without the form.
        form: the form.
        unit: what 1 of the form's bonus is worth, in nats of log p*.

    Raises ValueError where the states do not fit 64 bits.
    """

    tracks_states = True

    def __init__(self, target: ConditionedTarget | NoRepeat, form: Form, unit: float) -> None:
        self.target, self.form, self.unit = target, form, unit
        self.vocab_size, self.valid = target.vocab_size, target.valid
        self.most_bonus = unit * form.most_bonus
        self._size = target.automaton.num_states
        if self._size >= _MOST // _ROOM:
            raise ValueError(f"a form with a target of {self._size:,} states has more states than 64 bits can number")
        self._numbers: dict[bytes, int] = {}
        self._rows: list[Ints] = []

    @property
    def automaton(self) -> FormTarget:
        """The states and where tokens lead."""
        return self

    def track(self, prefixes: Any, written: Any = 0) -> Ints:
        """(B, L) prefixes, whose last `written` () or (B,) tokens are not of the prompt, to (B,) int64 states."""
        windows = np.asarray(prefixes, np.int64)
        counts = np.broadcast_to(np.asarray(written, np.int64), (len(windows),))
        rows = states_after(self.form, windows, counts)
        return self.joined(self.target.track(windows), self.number(rows))

    def joined(self, own: Ints, numbers: Ints) -> Ints:
        """(B,) states of states (B,) of p* and numbers (B,) of states of the form."""
        return numbers * self._size + own

    def parts(self, states: Ints) -> tuple[Ints, Ints]:
        """(B,) states of p* and (B,) numbers of states of the form."""
        numbers, own = np.divmod(states, self._size)
        return own, numbers

    def number(self, rows: Ints) -> Ints:
        """(B,) numbers of the form's states (B, S)."""
        if not len(rows):
            return np.zeros(0, np.int64)
        distinct, place = _distinct(rows)
        found = np.empty(len(distinct), np.int64)
        for i, row in enumerate(distinct):
            key = row.tobytes()
            if key not in self._numbers:
                self._numbers[key] = len(self._rows)
                self._rows.append(row)
            found[i] = self._numbers[key]
        return found[place]

    def rows(self, numbers: Ints) -> Ints:
        """(B, S) the form's states with these numbers (B,)."""
        if not len(numbers):
            return np.zeros((0, len(self._rows[0])), np.int64)
        return np.stack([self._rows[n] for n in numbers.tolist()])

    def allowed(self, states: Ints) -> Any:
        """(B, V) bool, the tokens that may be written; `<eos>` if the form allows it."""
        own, numbers = self.parts(states)
        every = np.arange(self.vocab_size)[None, :]
        valid = self.target.allowed(own) if isinstance(self.target, NoRepeat) else self.valid[None, :]
        return valid & self._of_form(numbers, lambda rows: self.form.allowed(rows, every))

    def bonuses(self, states: Ints) -> Floats:
        """(B, V) what each token is paid beside log p*, in its nats."""
        every = np.arange(self.vocab_size)[None, :]
        paid: Floats = self._of_form(self.parts(states)[1], lambda rows: self.unit * self.form.bonus(rows, every))
        return paid

    def bonus(self, states: Ints, tokens: Ints) -> Floats:
        """(B,) what tokens (B,) are paid beside log p*, in its nats."""
        paid: Floats = self.unit * self.form.bonus(self.rows(self.parts(states)[1]), tokens[:, None])[:, 0]
        return paid

    def log_probs(self, states: Ints, eos_valid: Any, expected: Any = None) -> Any:
        """(B, V) log p*(· | state, valid), nats, -inf for invalid actions."""
        return conditioned(self.target.log_probs(self.parts(states)[0], eos_valid), self.allowed(states))

    def log_prob(self, states: Ints, tokens: Ints, eos_valid: Any, expected: Any = None) -> Floats:
        """(B,) log p*(token | state, valid), nats; -inf for a token that is not valid."""
        own, numbers = self.parts(states)
        result = np.full(len(states), -np.inf)
        kept = np.flatnonzero(self.form.allowed(self.rows(numbers), tokens[:, None])[:, 0])
        ends = np.broadcast_to(np.asarray(eos_valid, np.bool_), (len(states),))
        # The sum over all tokens that the form allows is the same for all tokens written in a state.
        distinct, first, place = np.unique(2 * states[kept] + ends[kept], return_index=True, return_inverse=True)
        rest = np.empty(len(distinct))
        for some in pieces(len(distinct), self.vocab_size, _CHUNK):
            chosen = kept[first[some]]
            rows = self.target.log_probs(own[chosen], ends[chosen])
            kept_rows = np.where(self.allowed(states[chosen]), rows, -np.inf)
            rest[some] = soft_maximum(kept_rows, np.full(len(kept_rows), -np.inf), 1.0)
        gained = self.target.log_prob(own[kept], tokens[kept], ends[kept])
        result[kept] = np.where(np.isneginf(gained), -np.inf, gained - rest[place.reshape(-1)])
        return result

    def next_state(self, states: Ints, tokens: Ints) -> Ints:
        """(B,) states after (B,) tokens."""
        own, numbers = self.parts(states)
        following = self.target.automaton.next_state(own, tokens)
        pairs, place = np.unique(numbers * self.vocab_size + tokens, return_inverse=True)
        if not len(pairs):
            return following
        before, token = np.divmod(pairs, self.vocab_size)
        after = self.number(self.form.next(self.rows(before), token))
        return self.joined(following, after[place.reshape(-1)])

    def _of_form(self, numbers: Ints, ask: Any) -> Any:
        """(B, V) answers of the form, asked once for each of its states."""
        distinct, place = np.unique(numbers, return_inverse=True)
        return ask(self.rows(distinct))[place.reshape(-1)]


def target_in(world: World, config: EnvConfig) -> ConditionedTarget | NoRepeat | FormTarget:
    """p* over the valid actions of an environment, whose target is a finite automaton."""
    plain, form = plain_target_in(world, config), form_in(world, config)
    # Values are computed for the weight 1 of log p*, so a bonus counts by that weight.
    return plain if form is None else FormTarget(plain, form, config.form_bonus / (config.log_prob_weight or 1.0))


def gains(target: ConditionedTarget | NoRepeat | FormTarget, states: Ints, eos_valid: Any) -> Floats:
    """(B, V) log p*(· | state, valid) and what a form pays beside it, nats."""
    rows: Floats = target.log_probs(states, eos_valid)
    return rows + target.bonuses(states) if isinstance(target, FormTarget) else rows


def gain(target: ConditionedTarget | NoRepeat | FormTarget, states: Ints, tokens: Ints, eos_valid: Any) -> Floats:
    """(B,) log p*(token | state, valid) and what a form pays beside it, nats."""
    found: Floats = target.log_prob(states, tokens, eos_valid)
    return found + target.bonus(states, tokens) if isinstance(target, FormTarget) and len(states) else found


def most_bonus(target: ConditionedTarget | NoRepeat | FormTarget) -> float:
    """Most that a text can still be paid beside log p*, in its nats; infinite if that is unknown."""
    return target.most_bonus if isinstance(target, FormTarget) else 0.0


def _distinct(rows: Ints) -> tuple[Ints, Ints]:
    """The distinct of the rows (B, S), and which of them each is."""
    if (rows == rows[:1]).all():
        return rows[:1], np.zeros(len(rows), np.int64)
    distinct, place = np.unique(rows, axis=0, return_inverse=True)
    return np.ascontiguousarray(distinct), place.reshape(-1)
