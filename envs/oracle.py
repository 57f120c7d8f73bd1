"""Exact optimal values, policies and texts, by dynamic programming on the target's automaton."""

from __future__ import annotations

import dataclasses
import math
from functools import lru_cache
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from .arrays import Floats
from .bounds import beam_search, relaxed_optimum
from .config import EnvConfig
from .solver import Horizon, NotExact, Solver
from .starts import shown_prompt
from .text import Vocabulary
from .world import World, checked_prompt


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


class Oracle(Solver):
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

    @classmethod
    def of(cls, world: World, config: EnvConfig) -> Oracle:
        """The oracle of an environment; the last two are cached, because their tables cost seconds."""
        return _cached(world, dataclasses.replace(config, split="train", invalid_action="raise", mask_in_info=False))

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


@lru_cache(maxsize=2)
def _cached(world: World, config: EnvConfig) -> Oracle:
    return Oracle(world, config)
