"""Exact optimal values, policies and texts, by dynamic programming on the target's automaton."""

from __future__ import annotations

import dataclasses
import math
from functools import cached_property, lru_cache
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import numpy.typing as npt

from .arrays import Floats, Ints
from .bounds import beam_search, relaxed_optimum
from .config import EnvConfig
from .dynamic_programming import TabularMDP
from .form_programme import FormProgramme, TooLarge
from .form_target import FormTarget, target_in
from .no_repeat import NoRepeat, reachable
from .starts import first_observations, shown_prompt
from .targets import ConditionedTarget
from .text import Vocabulary
from .world import World, checked_prompt

MAX_ENTRIES = 130_000_000  # (state, token) pairs that the dense tables may hold: 12 bytes each
TEACHER = 'with transition="teacher" actions do not influence the next state: the problem is a contextual bandit'
Horizon = Literal["episode", "unlimited", "complete"]


class NotExact(ValueError):
    """The exact optimum cannot be computed for this environment."""


class Text(NamedTuple):
    """A text and its log-probability.

    Args:
        text: prompt and continuation.
        tokens: ids of the continuation, `<eos>` included.
        log_prob: log p*(continuation | prompt), nats.
    """

    text: str
    tokens: list[int]
    log_prob: float


class Bounds(NamedTuple):
    """Bounds, not values: `lower` <= the optimal return <= `upper`, (B,) each, nats."""

    lower: Floats
    upper: Floats


class Oracle:
    """Optimal values of an environment whose target looks at the last n - 1 tokens.

    The state of the dynamic programme is (automaton state, tokens written), with `no_repeat` the last tokens as well.
    The value table of a temperature and discount is computed at the first call and cached; V = 10,000 at order 2 takes
    1.3 GB.

    With the ending "eos" there are three horizons. "unlimited": reaching `max_new_tokens` is a truncation, and values
    continue beyond it, like those of an agent that bootstraps there. "episode": the environment as it is, in which a
    truncated text keeps what it has earned and earns nothing more, so its value is 0 at every temperature; no policy
    has a higher return, and V* = 0 at temperature 1 here too. "complete": a text must end within `max_new_tokens`, and
    all others have probability 0; the most likely text and samples of texts use it. With the ending "fixed" all are the
    same. With a form values never continue beyond `max_new_tokens`, and its bonus counts in all of them: the most
    likely text is the one of the highest return, and samples of texts weigh by exp(bonus/τ) too.

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

    @classmethod
    def of(cls, world: World, config: EnvConfig) -> Oracle:
        """The oracle of an environment; the last two are cached, because their tables cost seconds."""
        return _cached(world, dataclasses.replace(config, split="train", invalid_action="raise", mask_in_info=False))

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
        if target.context_size is None and (longest := self.world.longest_text(config)) > config.context_length:
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

    def optimal_value(
        self,
        prefixes: npt.ArrayLike,
        written: npt.ArrayLike = 0,
        *,
        temperature: float = 1.0,
        gamma: float = 1.0,
        unpaid: npt.ArrayLike = 0.0,
        horizon: Horizon = "unlimited",
    ) -> Floats:
        """V*(s), nats.

        Args:
            prefixes: (L,) or (B, L) observations.
            written: () or (B,) tokens the episode has written.
            temperature: τ >= 0.
            gamma: discount, 0 to 1.
            unpaid: () or (B,) log-probabilities not yet paid as reward (`reward_every` other than 1), nats.
            horizon: see the class.

        Returns: () or (B,).
        """
        states, wrote = self._states(prefixes, written)
        weight = self._weight()  # Q/τ is the same with weight 1 and temperature τ/w
        solution = self._solve(temperature / weight, gamma, horizon)
        value = np.zeros(len(states))
        for count in np.unique(wrote):
            rows = wrote == count
            if count >= 0:
                value[rows] = solution[min(count, len(solution) - 1)][states[rows]]
        return self._shaped(weight * value + self._owed(wrote, unpaid, gamma), prefixes)

    def optimal_q(
        self,
        prefixes: npt.ArrayLike,
        written: npt.ArrayLike = 0,
        *,
        temperature: float = 1.0,
        gamma: float = 1.0,
        unpaid: npt.ArrayLike = 0.0,
        horizon: Horizon = "unlimited",
    ) -> Floats:
        """Q*(s, ·), (V,) or (B, V), nats, -inf for invalid actions; arguments as in `optimal_value`."""
        states, wrote = self._states(prefixes, written)
        weight = self._weight()
        solution = self._solve(temperature / weight, gamma, horizon)
        q_values = np.full((len(states), self.world.vocab_size), -np.inf)
        for count in np.unique(wrote):
            rows = np.flatnonzero(wrote == count)
            if count < 0:
                q_values[rows] = 0.0
                continue
            words, eos = self._look_ahead(states[rows], int(count), solution, gamma)
            q_values[np.ix_(rows, self._mdp.words)] = words
            q_values[rows, Vocabulary.EOS] = eos
        return self._shaped(weight * q_values + self._owed(wrote, unpaid, gamma)[:, None], prefixes)

    def optimal_policy(
        self,
        prefixes: npt.ArrayLike,
        written: npt.ArrayLike = 0,
        *,
        temperature: float = 1.0,
        gamma: float = 1.0,
        horizon: Horizon = "unlimited",
    ) -> Floats:
        """π*(· | s) ∝ exp(Q*/τ), (V,) or (B, V); at τ = 0 a single best action has probability 1."""
        q_values = self.optimal_q(prefixes, written, temperature=temperature, gamma=gamma, horizon=horizon)
        best = q_values.max(-1, keepdims=True)
        if temperature == 0.0:
            chosen = q_values.argmax(-1, keepdims=True)
            return (np.arange(q_values.shape[-1]) == chosen).astype(np.float64)
        with np.errstate(over="ignore"):  # at a tiny temperature all but the best are infinitely far below
            weights = np.exp((q_values - best) / temperature)
        policy: Floats = weights / weights.sum(-1, keepdims=True)
        return policy

    def optimal_return(self, prefixes: npt.ArrayLike) -> Floats:
        """(B, L) prefixes to (B,) highest returns of an episode after each, nats, at τ = 0 and γ = 1.

        This is the log-probability of the best text times `log_prob_weight`, which scales all values here. With the
        ending "eos" the best text may be one that `max_new_tokens` truncates, since that earns its log-probability too.
        """
        return self.optimal_value(prefixes, temperature=0.0, horizon="episode")

    def expected_return(
        self, policy: Literal["random", "target"] | Floats, prefixes: npt.ArrayLike, temperature: float = 0.0
    ) -> Floats:
        """(B,) exact undiscounted soft return E[Σ r] + τ·entropy of a policy that does not learn, nats.

        Args:
            policy: "random" (uniform over the valid actions), "target" (p* itself), or (V,) weights above 0 of one that
                draws from the same distribution at every step, conditioned on the valid actions.
            prefixes: (B, L) first observations.
            temperature: τ; 0 for the return alone.
        """
        self._refuse(1.0)
        states, _ = self._states(prefixes, 0)
        weights = np.ones(self.world.vocab_size) if isinstance(policy, str) else policy
        fixed = None if isinstance(policy, str) and policy == "target" else weights
        valid = [self.eos_valid(count) for count in range(self.config.max_new_tokens)]
        value = self._mdp.policy_value(fixed, temperature / self._weight(), valid)
        return self._shaped(self._weight() * value[states], prefixes)

    def most_likely_text(self, prompt: str = "") -> Text:
        """The most likely text after `prompt` that ends within the episode (Viterbi algorithm).

        Its log-probability is `optimal_return` unless a text that `max_new_tokens` truncates earns more: `best_text`.
        """
        return self._write([self._prompted(prompt)], 0.0, None, "complete")[0]

    def best_text(self, prompt: str = "") -> Text:
        """The text of the highest return after `prompt`, of the environment as it is: `optimal_return` is its return.

        With the ending "eos" it may be one that `max_new_tokens` truncates, unlike `most_likely_text`: it has no
        `<eos>` then.
        """
        return self._write([self._prompted(prompt)], 0.0, None, "episode")[0]

    def best_texts(self, prefixes: npt.ArrayLike) -> list[Text]:
        """`best_text` after each of the first observations (B, L)."""
        windows = np.atleast_2d(np.asarray(prefixes, np.int64)).tolist()
        return self._write([shown_prompt(row) for row in windows], 0.0, None, "episode", windows)

    def sample_power(self, prompt: str = "", temperature: float = 0.5, count: int = 1, seed: int = 0) -> list[Text]:
        """Exact samples from p*(text | prompt)^{1/τ}, normalised over all texts that end within the episode.

        Args:
            prompt: beginning of the texts.
            temperature: τ > 0; 1 samples p* itself, given that the text ends in time.
            count: number of independent texts.
            seed: seed of the samples.
        """
        if not 0.0 < temperature < math.inf:
            raise ValueError(
                f"temperature must be above 0 and finite, not {temperature}; for its limit 0 use most_likely_text"
            )
        if count < 1:
            raise ValueError(f"count must be at least 1, not {count}")
        return self._write([self._prompted(prompt)] * count, temperature, np.random.default_rng(seed), "complete")

    def bounds(self, prefixes: npt.ArrayLike, width: int = 64) -> Bounds:
        """Bounds of `optimal_return` for targets too large for it: beam search below, a relaxation above.

        The relaxation maximises, at every step, over all contexts with the same last token.
        """
        if not self.world.target.tracks_states or not self.config.pays_log_likelihood:
            raise NotExact(self.why_not or f"bounds need log_prob_weight 1, not {self.config.log_prob_weight}")
        windows = np.atleast_2d(np.asarray(prefixes, np.int64))
        lower = beam_search(self.world, self.config, windows, width).log_probs
        return Bounds(lower, relaxed_optimum(self.world, self.config, windows))

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

    @staticmethod
    def _shaped(array: Floats, prefixes: npt.ArrayLike) -> Floats:
        return array if np.ndim(prefixes) > 1 else array[0]

    def _prompted(self, prompt: str) -> list[int]:
        """Ids of a prompt."""
        self._refuse(1.0)
        return checked_prompt(prompt, self.world, self.config)

    def _write(
        self,
        prompts: list[list[int]],
        temperature: float,
        rng: np.random.Generator | None,
        horizon: Horizon,
        windows: list[list[int]] | None = None,
    ) -> list[Text]:
        """Texts of the optimal policy after prompts: greedy if `rng` is None, else sampled.

        The first observations `windows` show less of a prompt where it is longer than they are; None to make them.
        """
        self._refuse(1.0)
        length = self.config.context_length
        first_seen = windows or [([Vocabulary.PAD] * length + [Vocabulary.BOS, *ids])[-length:] for ids in prompts]
        decode, states, count = self.world.tokenizer.decode, self.track(first_seen), len(prompts)
        first = self._rows(states)
        solution = self._solve(temperature, 1.0, horizon)
        if len(lost := np.flatnonzero(~np.isfinite(solution[0][first]))):
            raise NotExact(
                f"no text after {decode(prompts[lost[0]])!r} ends within max_new_tokens={self.config.max_new_tokens}; "
                "raise it"
            )
        tokens = np.zeros((count, self.config.max_new_tokens), np.int64)
        log_probs, active = np.zeros(count), np.ones(count, np.bool_)
        choices = np.append(self._mdp.words, Vocabulary.EOS)
        for step in range(self.config.max_new_tokens):
            words, eos = self._look_ahead(self._mdp.index(states, step), step, solution, 1.0)
            q_values = np.concatenate([words, eos[:, None]], axis=1)
            if rng is not None:  # Gumbel-max: the argmax is a sample of the softmax
                q_values = q_values + temperature * rng.gumbel(size=q_values.shape)
            chosen = np.where(active, choices[q_values.argmax(1)], Vocabulary.PAD)
            eos_valid = np.full(count, self.eos_valid(step))
            gained = self.target.log_prob(states, np.where(active, chosen, choices[0]), eos_valid)
            log_probs += np.where(active, gained, 0.0)
            tokens[:, step] = chosen
            states = self.target.automaton.next_state(states, chosen)
            active &= chosen != Vocabulary.EOS
            if not active.any():
                break
        rows = [[int(t) for t in row if t != Vocabulary.PAD] for row in tokens]
        return [
            Text(decode(prompt + row), row, float(p)) for prompt, row, p in zip(prompts, rows, log_probs, strict=True)
        ]

    def __deepcopy__(self, memo: dict[int, Any]) -> Oracle:
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


@lru_cache(maxsize=2)
def _cached(world: World, config: EnvConfig) -> Oracle:
    return Oracle(world, config)
