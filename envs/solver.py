"""The dynamic programme of an environment: which states it has, their tables, and their values."""

from __future__ import annotations

import math
from functools import cached_property
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from .arrays import Floats, Ints
from .config import EnvConfig
from .dynamic_programming import TabularMDP
from .form_programme import FormProgramme, TooLarge
from .form_target import FormTarget, target_in
from .no_repeat import NoRepeat, reachable
from .starts import first_observations
from .targets import ConditionedTarget
from .text import Vocabulary
from .world import World

MAX_ENTRIES = 130_000_000  # (state, token) pairs that the dense tables may hold: 12 bytes each
TEACHER = 'with transition="teacher" actions do not influence the next state: the problem is a contextual bandit'
Horizon = Literal["episode", "unlimited", "complete"]


class NotExact(ValueError):
    """The exact optimum cannot be computed for this environment."""


class Solver:
    """Values of the states (automaton state, tokens written), with `no_repeat` the last tokens as well.

    The value table of a temperature and discount is computed at the first call and cached; V = 10,000 at order 2 takes
    1.3 GB. See `Oracle`, which asks for them.

    Args:
        world: tokenizer, documents and target.
        config: the environment's arguments.
    """

    def __init__(self, world: World, config: EnvConfig) -> None:
        self.world = world
        self.config = config
        self._values: dict[tuple[float, float, Horizon], list[Floats]] = {}
        self._table: TabularMDP | FormProgramme | None = None
        self._seeds: Ints = np.zeros(0, np.int64)
        self._form_seeds: dict[int, Ints] = {}

    @property
    def why_no_states(self) -> str | None:
        """The reason why texts cannot be followed through the states of a finite automaton, None if they can."""
        target, config = self.world.target, self.config
        if config.sequence_reward:
            return (
                f"the exact optimum is that of log-likelihood alone, and the sequence reward "
                f"{config.sequence_reward!r} depends on the whole text"
            )
        if config.log_prob_weight == 0.0:
            return "the exact optimum needs a log_prob_weight above 0, not 0"
        if not target.tracks_states:
            return (
                f"the exact optimum needs a target that looks at the last few tokens only, not {config.target!r}, "
                "whose log-probabilities depend on more"
            )
        if (longest := self.world.length_to_show(config)) is not None:
            return (
                f"the states of {config.target!r} depend on the whole text, of which an observation shows the last "
                f"{config.context_length} tokens; the exact optimum needs context_length {longest}"
            )
        return None

    @property
    def why_not_followed(self) -> str | None:
        """The reason why the returns of given texts cannot be computed, None if they can."""
        return self.why_no_states or (TEACHER if self.config.transition == "teacher" else None)

    @property
    def why_not(self) -> str | None:
        """The reason why the exact optimum cannot be computed, None if it can."""
        if (reason := self.why_no_states) is not None:
            return reason
        if self.config.form or self.config.no_repeat:
            return self._why_too_many
        entries = self.world.target.automaton.num_states * self.world.vocab_size
        if entries > MAX_ENTRIES:
            return (
                f"the exact optimum needs a table of {entries:,} (state, token) pairs, more than the limit of "
                f"{MAX_ENTRIES:,}; use bounds(), a lower order or a smaller vocabulary"
            )
        return None

    @property
    def is_exact(self) -> bool:
        """Whether the exact optimum can be computed."""
        return self.why_not is None

    @cached_property
    def target(self) -> ConditionedTarget | NoRepeat | FormTarget:
        """p* over the valid actions, whose states `track` gives."""
        try:
            return target_in(self.world, self.config)
        except ValueError as problem:
            raise NotExact(str(problem)) from None

    def track(self, prefixes: npt.ArrayLike) -> Ints:
        """(B, L) prefixes to (B,) states of the target."""
        states: Ints = self.target.track(np.atleast_2d(np.asarray(prefixes, np.int64)))
        return states

    def allowed(self, states: Ints) -> npt.NDArray[np.bool_]:
        """(B, V) bool, or (1, V) if equal for all: the tokens valid in (B,) states, `<eos>` if `eos_valid` too."""
        if isinstance(self.target, (NoRepeat, FormTarget)):
            return self.target.allowed(states)
        return self.world.valid[None, :]

    def eos_valid(self, written: int) -> bool:
        """Whether `<eos>` is a valid action after `written` tokens."""
        return self.config.ending == "eos" and written >= self.config.min_new_tokens

    @property
    def _mdp(self) -> TabularMDP | FormProgramme:
        if self._table is None:
            if isinstance(self.target, FormTarget):  # its tables begin with the states that `_rows` is asked for
                raise NotExact("no state under the form has been asked for yet")
            self._table = TabularMDP(self.target, self.world.words)
        return self._table

    def _rows(self, numbers: Ints, written: int = 0) -> Ints:
        """(B,) rows of the tables of states after `written` tokens, given by their number in the target's automaton."""
        if isinstance(self.target, FormTarget):
            return self._form_rows(self.target, numbers, written)
        if not isinstance(self.target, NoRepeat):
            return numbers
        if self._table is None or (self._table.index(numbers) < 0).any():
            self._seeds = np.union1d(self._seeds, numbers)
            most = MAX_ENTRIES // self.world.vocab_size
            known = reachable(self.target, self.world.words, self._seeds, most)
            if known is None:
                raise NotExact(self._too_many(f"more than {most:,}"))
            self._table = TabularMDP(self.target, self.world.words, known)
            self._values.clear()
        return self._table.index(numbers)

    def _form_rows(self, target: FormTarget, numbers: Ints, written: int) -> Ints:
        if self._table is None or (self._table.index(numbers, written) < 0).any():
            self._form_seeds[written] = np.union1d(self._form_seeds.get(written, np.zeros(0, np.int64)), numbers)
            valid = [self.eos_valid(count) for count in range(self.config.max_new_tokens)]
            known = self._table.tables if isinstance(self._table, FormProgramme) else None
            try:
                self._table = FormProgramme(target, self.world.words, self._form_seeds, valid, MAX_ENTRIES, known)
            except TooLarge as problem:
                raise NotExact(str(problem)) from None
            self._values.clear()
        return self._table.index(numbers, written)

    @cached_property
    def _why_too_many(self) -> str | None:
        """The reason why the tables with `no_repeat` or a form would be too large, None if they are not."""
        places, words = self.config.no_repeat, len(self.world.words)
        least = math.perm(words, min(places, self.config.max_new_tokens))
        if least * self.world.vocab_size > MAX_ENTRIES:
            return self._too_many(f"at least {least:,}")
        try:
            for split in self.world.documents:
                for prefixes, _ in first_observations(self.world, self.config, split):
                    self._seeds = np.union1d(self._seeds, self.track(prefixes))
            self._rows(self._seeds)
        except ValueError as problem:
            return str(problem)
        return None

    def _too_many(self, states: str) -> str:
        return (
            f"the exact optimum with no_repeat={self.config.no_repeat} needs {states} states of "
            f"{self.world.vocab_size} tokens each, more than the limit of {MAX_ENTRIES:,} pairs; use fewer places or a "
            "smaller vocabulary"
        )

    def _weight(self) -> float:
        """`log_prob_weight`; raises NotExact if there is no exact optimum."""
        if (reason := self.why_not) is not None:
            raise NotExact(reason)
        return self.config.log_prob_weight

    def _solve(self, temperature: float, gamma: float, horizon: Horizon) -> list[Floats]:
        """(S,) values after 0, 1, … written tokens; the last entry holds for all later ones."""
        self._refuse(gamma)
        if not 0.0 <= temperature < math.inf or not 0.0 <= gamma <= 1.0:
            raise ValueError(
                "temperature must not be negative or infinite and gamma must lie between 0 and 1, "
                f"not {temperature} and {gamma}"
            )
        if horizon not in get_args(Horizon):
            raise ValueError(f"horizon {horizon!r} is unknown; use one of {', '.join(get_args(Horizon))}")
        key = (float(temperature), float(gamma), horizon)
        if key not in self._values:
            mdp, config = self._mdp, self.config
            if isinstance(mdp, TabularMDP) and config.ending == "eos" and horizon == "unlimited":
                steps, value = config.min_new_tokens, mdp.stationary(temperature, gamma)
            else:
                steps = config.max_new_tokens
                impossible = config.ending == "eos" and horizon == "complete"
                value = np.full(mdp.size(steps), -np.inf if impossible else 0.0)
            values = [value]
            for count in reversed(range(steps)):
                weight = self._reward_weight(count, gamma)
                value = mdp.backup(value, temperature, gamma, self.eos_valid(count), weight, count)
                values.insert(0, value)
            self._values[key] = values
        return self._values[key]

    def _look_ahead(self, states: Ints, written: int, solution: list[Floats], gamma: float) -> tuple[Floats, Floats]:
        after = solution[min(written + 1, len(solution) - 1)]
        weight = self._reward_weight(written, gamma)
        return self._mdp.q_values(states, after, gamma, self.eos_valid(written), weight, written)

    def _refuse(self, gamma: float) -> None:
        """Raise NotExact if there is no exact optimum at discount `gamma`."""
        if (reason := self.why_not) is not None:
            raise NotExact(reason)
        config = self.config
        if config.transition == "teacher" and gamma > 0:
            raise NotExact(f"{TEACHER}; use gamma=0")
        if config.reward_every != 1 and gamma < 1 and config.ending == "eos":
            raise NotExact(
                f"with reward_every={config.reward_every}, gamma={gamma:g} and ending='eos' the optimum depends on the "
                'rewards still unpaid; use gamma=1, reward_every=1 or ending="fixed"'
            )

    def _reward_weight(self, written: Any, gamma: float) -> Any:
        """Discount from a token to the step that pays its reward."""
        every, horizon = self.config.reward_every, self.config.max_new_tokens
        if every == 1 or gamma == 1.0:
            return 1.0
        paid = np.minimum((written // every + 1) * every, horizon) if every else horizon
        return float(gamma) ** (paid - 1 - written)

    def _owed(self, written: Ints, unpaid: npt.ArrayLike, gamma: float) -> Floats:
        owed: Floats = self._reward_weight(written, gamma) * np.broadcast_to(
            np.asarray(unpaid, np.float64), written.shape
        )
        return owed

    def _states(self, prefixes: npt.ArrayLike, written: npt.ArrayLike) -> tuple[Ints, Ints]:
        windows = np.atleast_2d(np.asarray(prefixes, np.int64))
        counts = np.broadcast_to(np.asarray(written, np.int64), (len(windows),))
        if not self.is_exact:
            return np.zeros(len(windows), np.int64), counts
        if not isinstance(self.target, FormTarget):
            return self._rows(self.track(windows)), counts
        # A form has no states after the end of a text; a count of -1 marks those rows, whose value is 0.
        counts = np.where((windows[:, -1] == Vocabulary.EOS) | (counts >= self.config.max_new_tokens), -1, counts)
        states, going = np.zeros(len(windows), np.int64), np.flatnonzero(counts >= 0)
        codes = self.target.track(windows[going], counts[going])
        for _ in range(2):  # a state met for the first time may renumber the others
            for count in np.unique(counts[going]):
                rows = counts[going] == count
                states[going[rows]] = self._rows(codes[rows], int(count))
        return states, counts

    def __deepcopy__(self, memo: dict[int, Any]) -> Solver:
        return self

    def __getstate__(self) -> dict[str, Any]:
        return {
            "world": self.world,
            "config": self.config,
            "_values": {},
            "_table": None,
            "_seeds": self._seeds,
            "_form_seeds": {},
        }
