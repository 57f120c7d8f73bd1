"""Dynamic programming under a form, layer by layer: contexts of p* times states of the form."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .arrays import Floats, Ints, places_in
from .dynamic_programming import TabularMDP, discounted, finite, soft_maximum
from .form_target import FormTarget
from .no_repeat import NoRepeat, reachable
from .text import Vocabulary

_BLOCK = 1 << 19  # entries of a block of rows
MAX_FORM_ENTRIES = 60_000_000  # (state of the form, token) pairs of all layers, 13 bytes each
MAX_VALUES = 60_000_000  # values of all layers, 8 bytes each


class TooLarge(ValueError):
    """The tables would take too much memory."""


@dataclass(frozen=True)
class _Layer:
    """The states after a number of tokens: C contexts times F states of the form; every pair is a state.

    Args:
        contexts: (C,) ascending, rows of the tables of p*.
        numbers: (F,) ascending, states of the form.
        allowed: (F, W) bool, which words the form allows.
        bonus: (F, W) what it pays for them, nats of log p*.
        following: (F, W) int32, place in the next layer of the form's state after each word.
        eos_allowed: (F,) bool.
        eos_bonus: (F,) nats.
        groups: which states of the form allow the same tokens, each with those words' columns.
    """

    contexts: Ints
    numbers: Ints
    allowed: npt.NDArray[np.bool_]
    bonus: Floats
    following: npt.NDArray[np.int32]
    eos_allowed: npt.NDArray[np.bool_]
    eos_bonus: Floats
    groups: list[tuple[Ints, Ints]]

    def __len__(self) -> int:
        return len(self.contexts) * len(self.numbers)


class FormProgramme:
    """Rewards and transitions of all states that can be reached under a form, by the tokens written.

    A form mostly counts where in the text one is, so its states are few in every layer and many over all: what it
    allows is asked once for each of them, and p* is read once for all contexts. The methods are those of `TabularMDP`.

    Args:
        target: p* under the form.
        words: (W,) ids of the valid actions except `<eos>`.
        seeds: for every number of tokens written, states from which the others are reached.
        eos_valid: (T,) whether `<eos>` is a valid action at each step, apart from the form.
        most: largest number of entries of the tables of p*.
        tables: those of p* if they were made before; they are used if they have all seeds.

    Raises TooLarge where the tables would take too much memory.
    """

    def __init__(
        self,
        target: FormTarget,
        words: Ints,
        seeds: dict[int, Ints],
        eos_valid: Sequence[bool],
        most: int,
        tables: TabularMDP | None = None,
    ) -> None:
        self._target, self.words, self._eos_valid = target, words, list(eos_valid)
        starts = np.concatenate([target.parts(states)[0] for states in seeds.values()])
        known = tables is not None and bool((tables.index(starts) >= 0).all())
        self.tables = tables if tables is not None and known else _tables(target, words, starts, most)
        self._layers: list[_Layer] = []
        contexts, numbers = (np.zeros(0, np.int64) for _ in range(2))
        entries = values = 0
        for written in range(len(eos_valid) + 1):
            if written in seeds:
                own, more = target.parts(seeds[written])
                contexts = np.union1d(contexts, self.tables.index(own))
                numbers = np.union1d(numbers, more)
            entries, values = entries + len(numbers) * len(words), values + len(numbers) * len(contexts)
            if entries > MAX_FORM_ENTRIES or values > MAX_VALUES:
                raise TooLarge(
                    f"the exact optimum under this form needs {len(numbers):,} states of the form times "
                    f"{len(contexts):,} contexts after {written} tokens, more than are tabulated; use a form with "
                    "fewer states or a smaller vocabulary"
                )
            layer, contexts, numbers = self._layer(contexts, numbers, seeds.get(written + 1))
            self._layers.append(layer)

    def size(self, written: int) -> int:
        """Number of states after `written` tokens."""
        return len(self._layers[written])

    def index(self, states: Ints, written: int = 0) -> Ints:
        """Rows of the tables of states (B,) after `written` tokens; -1 for those that are not in them."""
        own, numbers = self._target.parts(states)
        layer, base = self._layers[written], self.tables.index(own)
        context, form = places_in(layer.contexts, base), places_in(layer.numbers, numbers)
        found: Ints = np.where((context < 0) | (form < 0) | (base < 0), -1, context * len(layer.numbers) + form)
        return found

    def q_values(
        self, states: Ints, value: Floats, gamma: float, eos_valid: bool, weight: float = 1.0, written: int = 0
    ) -> tuple[Floats, Floats]:
        """(B, W) values of the words and (B,) of `<eos>`, -inf for those not valid; see `TabularMDP`."""
        layer = self._layers[written]
        context, form = np.divmod(states, len(layer.numbers))
        words = np.full((len(states), len(self.words)), -np.inf)
        eos = np.full(len(states), -np.inf)
        for group, columns in layer.groups:
            for number in np.intersect1d(group, form):
                rows = np.flatnonzero(form == number)
                step = _Step(self, written, context[rows], number[None], columns, eos_valid)
                later, eos_bonus = step.later(value, gamma, weight)
                words[np.ix_(rows, columns)] = weight * step.log_probs + later[..., 0]
                eos[rows] = weight * step.log_eos + eos_bonus[0]
        return words, eos

    def backup(
        self, value: Floats, temperature: float, gamma: float, eos_valid: bool, weight: float = 1.0, written: int = 0
    ) -> Floats:
        """Soft Bellman backup of the values of the next layer; see `TabularMDP`."""
        layer = self._layers[written]
        result = np.empty((len(layer.contexts), len(layer.numbers)))
        for step in self._steps(written, eos_valid):
            result[np.ix_(step.rows, step.group)] = step.backup(value, temperature, gamma, weight)
        return result.reshape(-1)

    def policy_value(self, policy: Floats | None, temperature: float, eos_valid: Sequence[bool]) -> Floats:
        """Soft value of a fixed policy at the beginning of an episode; see `TabularMDP`."""
        value = np.zeros(self.size(len(eos_valid)))
        for written in reversed(range(len(eos_valid))):
            layer = self._layers[written]
            result = np.empty((len(layer.contexts), len(layer.numbers)))
            for step in self._steps(written, eos_valid[written]):
                log_pi = step.log_policy(policy, self.words)
                result[np.ix_(step.rows, step.group)] = step.mean(value, log_pi, temperature)
            value = result.reshape(-1)
        return value

    def _steps(self, written: int, eos_valid: bool) -> Iterator[_Step]:
        """All states of a layer, in blocks that share what is allowed."""
        layer = self._layers[written]
        for group, columns in layer.groups:
            size = max(1, _BLOCK // max(1, len(columns)))
            for first in range(0, len(layer.contexts), size):
                rows = np.arange(first, min(first + size, len(layer.contexts)))
                yield _Step(self, written, rows, group, columns, eos_valid)

    def _layer(self, contexts: Ints, numbers: Ints, seeds: Ints | None) -> tuple[_Layer, Ints, Ints]:
        """A layer, and the contexts and states of the form that it leads to."""
        target, words = self._target, self.words
        rows, form = target.rows(numbers), target.form
        allowed = np.asarray(form.allowed(rows, words[None, :]))
        bonus = target.unit * np.asarray(form.bonus(rows, words[None, :]))
        eos = np.full((1, 1), Vocabulary.EOS)
        after = np.zeros(allowed.shape, np.int64)
        for i, row in enumerate(rows):
            columns = np.flatnonzero(allowed[i])
            after[i, columns] = target.number(form.next(np.tile(row, (len(columns), 1)), words[columns]))
        wanted = [after[allowed], *([] if seeds is None else [target.parts(seeds)[1]])]
        following = np.unique(np.concatenate(wanted))
        reached = self.tables.reached(contexts, np.flatnonzero(allowed.any(0)))
        _, first, place = np.unique(np.packbits(allowed, axis=1), axis=0, return_index=True, return_inverse=True)
        groups = [(np.flatnonzero(place.reshape(-1) == g), np.flatnonzero(allowed[i])) for g, i in enumerate(first)]
        layer = _Layer(
            contexts, numbers, allowed, bonus, np.searchsorted(following, after).astype(np.int32),
            np.asarray(form.allowed(rows, eos))[:, 0], target.unit * np.asarray(form.bonus(rows, eos))[:, 0], groups,
        )  # fmt: skip
        return layer, reached, following


class _Step:
    """One step from (R,) contexts of a layer, in states of the form that allow the same words.

    Attributes:
        rows: (R,) places of the contexts in the layer.
        group: places of the states of the form.
        log_probs: (R, n) log p* of the allowed words, conditioned on all that is allowed, nats.
        log_eos: (R,) that of `<eos>`.
        after: (R, n) places of the contexts in the next layer, or (1, n) if they are equal for all.
    """

    def __init__(
        self, programme: FormProgramme, written: int, rows: Ints, group: Ints, columns: Ints, eos_valid: bool
    ) -> None:
        self.rows, self.group, self.columns = rows, group, columns
        self._layer, following = programme._layers[written], programme._layers[written + 1]
        base, contexts = programme.tables, self._layer.contexts[rows]
        self._width = len(following.numbers)
        self.log_probs = base.log_probs[contexts[:, None], columns]
        ends = eos_valid & self._layer.eos_allowed[group[0]]
        self.log_eos = base.log_eos[contexts] if ends else np.full(len(rows), -np.inf)
        mass = _soft(self.log_probs, self.log_eos, 1.0)
        mass = np.where(np.isfinite(mass), mass, 0.0)
        self.log_probs -= mass[:, None]
        self.log_eos = self.log_eos - mass
        self.valid = base.allowed_among(contexts, columns)
        after = base.next_states[contexts[:, None], columns]
        self.after = np.searchsorted(following.contexts, after[:1] if (after == after[:1]).all() else after)
        self.after = np.minimum(self.after, len(following.contexts) - 1)  # of words that are not valid

    def later(self, value: Floats, gamma: float, weight: float = 1.0) -> tuple[Floats, Floats]:
        """What follows each word in each state of the group: bonus and value of the state after.

        Returns: (R, n, G), or (1, n, G) if equal for all contexts, and the (G,) bonus of `<eos>`.
        """
        layer = self._layer
        form = layer.following[np.ix_(self.group, self.columns)].T
        found = value[self.after[:, :, None] * self._width + form]
        found = discounted(found, gamma) if gamma < 1.0 else found
        return found + weight * layer.bonus[np.ix_(self.group, self.columns)].T, weight * layer.eos_bonus[self.group]

    def backup(self, value: Floats, temperature: float, gamma: float, weight: float) -> Floats:
        """(R, G) soft values of the states."""
        later, eos_bonus = self.later(value, gamma, weight)
        rewards, eos = weight * self.log_probs, weight * self.log_eos[:, None] + eos_bonus
        if temperature > 0.0 and len(later) == 1 and rewards.shape[1]:
            words = _log_product(rewards / temperature, later[0] / temperature)
            pair = np.stack([temperature * words, eos], axis=-1).reshape(-1, 2)
            return soft_maximum(pair, np.full(len(pair), -np.inf), temperature).reshape(eos.shape)
        result = np.empty(eos.shape)
        for place in range(eos.shape[1]):
            result[:, place] = _soft(rewards + later[..., place], eos[:, place], temperature)
        return result

    def log_policy(self, policy: Floats | None, words: Ints) -> tuple[Floats, Floats]:
        """(R, n) and (R,) log-probabilities under p*, or under weights (V,) over the valid actions."""
        if policy is None:
            return self.log_probs, self.log_eos
        weights = np.broadcast_to(np.log(policy[words[self.columns]]), self.log_probs.shape)
        chosen = np.where(self.valid, weights, -np.inf)
        eos = np.where(np.isneginf(self.log_eos), -np.inf, np.log(policy[Vocabulary.EOS]))
        total = _soft(chosen, eos, 1.0)
        return chosen - total[:, None], eos - total

    def mean(self, value: Floats, log_pi: tuple[Floats, Floats], temperature: float) -> Floats:
        """(R, G) mean soft values of a policy: reward, entropy and what follows."""
        later, eos_bonus = self.later(value, 1.0)
        words, eos = (np.exp(log_chance) for log_chance in log_pi)
        own = _mean(words, self.log_probs - temperature * finite(log_pi[0]))
        own += _mean(eos[:, None], (self.log_eos - temperature * finite(log_pi[1]))[:, None])
        if len(later) == 1 and np.isfinite(later).all():
            after = words @ later[0]
        else:
            after = np.stack([_mean(words, later[..., place]) for place in range(len(self.group))], axis=1)
        result: Floats = own[:, None] + after + eos[:, None] * eos_bonus
        return result


_LEAST = 1e-200  # below this, terms of a sum may have been lost


def _log_product(left: Floats, right: Floats) -> Floats:
    """(R, G) log Σ_n exp(left (R, n) + right (n, G)), as a product of matrices wherever that loses nothing."""
    row, column = left.max(1, keepdims=True), right.max(0, keepdims=True)
    row, column = (np.where(np.isfinite(part), part, 0.0) for part in (row, column))
    with np.errstate(divide="ignore", under="ignore"):
        total = np.exp(left - row) @ np.exp(right - column)
        result: Floats = row + column + np.log(total)
    for place in np.flatnonzero((total < _LEAST).any(0)):
        lost = np.flatnonzero(total[:, place] < _LEAST)
        sums = left[lost] + right[:, place]
        result[lost, place] = soft_maximum(sums, np.full(len(lost), -np.inf), 1.0)
    return result


def _mean(chances: Floats, values: Floats) -> Floats:
    """(R,) sums of values (R, n) with their chances, where these are above 0."""
    with np.errstate(invalid="ignore"):
        terms = chances * values
    result: Floats = np.where(chances > 0.0, terms, 0.0).sum(1)
    return result


def _soft(words: Floats, eos: Floats, temperature: float) -> Floats:
    """`soft_maximum`, also of no words (R, 0)."""
    return soft_maximum(words, eos, temperature) if words.shape[1] else eos


def _tables(target: FormTarget, words: Ints, seeds: Ints, most: int) -> TabularMDP:
    """The tables of p* without the form."""
    plain = target.target
    states = plain.automaton.num_states
    known: Ints | None = None
    if isinstance(plain, NoRepeat):
        known = reachable(plain, words, np.unique(seeds), most // target.vocab_size)
        states = most + 1 if known is None else len(known)
    if states * target.vocab_size > most:
        raise TooLarge(
            f"the exact optimum under a form needs a table of more than {most:,} (state, token) pairs of p*; use a "
            "lower order, fewer places of no_repeat or a smaller vocabulary"
        )
    return TabularMDP(plain, words, known)
