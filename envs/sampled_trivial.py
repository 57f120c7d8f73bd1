"""Returns of trivial policies from episodes, for a p* whose texts cannot be followed through states: a neural model."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt

from .arrays import Floats, Ints
from .config import EnvConfig
from .episodes import Episodes
from .oracle import Oracle
from .read_texts import why_not_read
from .solver import NotExact
from .text import Vocabulary
from .trivial import Starts, constant_texts, unigram_weights
from .world import World

SAMPLED = ("random", "unigram_sampled")  # policies whose returns are estimates
_TEXTS = 256  # of each policy that is sampled
_CONSTANTS = 1_024  # constant texts that are tried, after all prompts together
_ROWS = 256  # episodes side by side
_SEED = 0


def sampled_policy_returns(oracle: Oracle, starts: Starts, temperature: float = 0.0) -> dict[str, Floats]:
    """Soft returns E[Σ r] + τ·entropy of the trivial policies, nats a text, where `policy_returns` is not exact.

    Args:
        oracle: of the environment.
        starts: where episodes begin.
        temperature: τ; 0 for the return alone.

    Returns: by the names of `policy_returns`, arrays whose means are the returns. Those of `SAMPLED` have an entry for
    each of 256 sampled texts, in which every step counts with its expectation over the actions. The others are exact
    and have one. "constant" and "constant_eos" are the best of the words that are the most frequent, 1,024 texts after
    all prompts together. "same_text" is left out: without states its search has no end.

    Raises NotExact where the reward of a text is not its log-likelihood after the prompt.
    """
    prefixes, weights = _distinct(oracle, starts)
    found = _returns(oracle.world, oracle.config, prefixes.tobytes(), weights.tobytes())
    return {name: returns + temperature * entropies for name, (returns, entropies) in found.items()}


@lru_cache(maxsize=8)  # every evaluation in a training asks for them again
def _returns(world: World, config: EnvConfig, prefixes: bytes, weights: bytes) -> dict[str, tuple[Floats, Floats]]:
    chances, frequencies = np.frombuffer(weights), unigram_weights(world)
    begins = np.frombuffer(prefixes, np.int64).reshape(len(chances), -1)
    shares = (np.arange(_TEXTS) + 0.5) / _TEXTS  # every prompt as often as its weight asks for
    drawn = begins[np.minimum(np.searchsorted(chances.cumsum(), shares), len(begins) - 1)]
    found = {
        "random": _sampled(world, config, drawn, np.ones(world.vocab_size)),
        "unigram_sampled": _sampled(world, config, drawn, frequencies),
    }
    for name, (returns, _) in _constants(world, config, begins, chances).items():
        found[name] = returns.max(keepdims=True), np.zeros(1)
    greedy = [_greedy(world, config, some, frequencies) for some in _blocks(begins)]
    found["unigram_greedy"] = np.array([np.concatenate(greedy) @ chances]), np.zeros(1)
    return {name: both for name, both in found.items() if both[0].max() > -np.inf}


def read_constant(oracle: Oracle, starts: Starts) -> Ints:
    """`best_constant` where p* has no states: the best of the constant texts whose returns are computed here."""
    prefixes, weights = _distinct(oracle, starts)
    found = _constants(oracle.world, oracle.config, prefixes, weights)
    returns, texts = (np.concatenate(parts) for parts in zip(*found.values(), strict=True))
    if returns.max() == -np.inf:
        raise NotExact("no constant text is allowed in this environment, because no_repeat forbids it")
    best: Ints = texts[returns.argmax()]
    return best


def _distinct(oracle: Oracle, starts: Starts) -> Starts:
    if (reason := why_not_read(oracle.config)) is not None:
        raise NotExact(reason)
    return starts.distinct()


def _constants(world: World, config: EnvConfig, begins: Ints, chances: Floats) -> dict[str, tuple[Floats, Ints]]:
    """By name, the mean returns (N,) of constant texts after the prompts, and these texts (N, T)."""
    found, frequencies = {}, unigram_weights(world)
    for name, texts in constant_texts(Oracle.of(world, config)).items():
        order = np.argsort(-frequencies[texts[:, 0]], kind="stable")[: max(1, _CONSTANTS // len(begins))]
        pairs = np.repeat(texts[order], len(begins), axis=0), np.tile(begins, (len(order), 1))
        found[name] = _given(world, config, *pairs).reshape(len(order), -1) @ chances, texts[order]
    return found


def _blocks(rows: Ints) -> list[Ints]:
    return np.split(rows, range(_ROWS, len(rows), _ROWS))


def _started(world: World, config: EnvConfig, begins: Ints) -> Episodes:
    """Episodes (R,) that begin with the first observations (R, L)."""
    running = Episodes(world, config, len(begins))
    ids = [row[row != Vocabulary.PAD].tolist() for row in begins]
    prompts = [row[1:] if row[0] == Vocabulary.BOS else row for row in ids]
    running.start_from_prompts(np.arange(len(begins)), prompts, None)
    return running


def _sampled(world: World, config: EnvConfig, begins: Ints, weights: Floats) -> tuple[Floats, Floats]:
    """Returns and entropies (R,) along texts drawn by the (V,) weights, every step with its mean over the actions."""
    running, rng = _started(world, config, begins), np.random.default_rng(_SEED)
    returns, entropies, active = np.zeros(len(begins)), np.zeros(len(begins)), np.ones(len(begins), np.bool_)
    while active.any():
        chances = np.where(running.action_masks(), weights, 0.0)
        chances /= chances.sum(1, keepdims=True)
        possible = chances > 0
        rewards = np.where(possible, running.target_log_probs(), 0.0)
        returns += np.where(active, config.log_prob_weight * (chances * rewards).sum(1), 0.0)
        entropies -= np.where(active, (chances * np.log(np.where(possible, chances, 1.0))).sum(1), 0.0)
        drawn = rng.random((len(begins), 1)) * chances.sum(1, keepdims=True)
        actions = np.minimum((chances.cumsum(1) <= drawn).sum(1), world.vocab_size - 1)
        active = _stepped(running, actions, active)[1]
    return returns, entropies


def _given(world: World, config: EnvConfig, texts: Ints, begins: Ints) -> Floats:
    """(R,) returns of the texts (R, T), `<pad>` after their ends; -inf for a text with an action that is not valid."""
    found = []
    for some, first in zip(_blocks(texts), _blocks(begins), strict=True):
        running = _started(world, config, first)
        total, active = np.zeros(len(some)), np.ones(len(some), np.bool_)
        for tokens in some.T:
            wrong = active & ~running.is_valid(tokens)
            total[wrong], active = -np.inf, active & ~wrong
            gained, active = _stepped(running, tokens, active)
            total += gained
        found.append(total)
    return np.concatenate(found)


def _greedy(world: World, config: EnvConfig, begins: Ints, weights: Floats) -> Floats:
    """(R,) returns of the texts whose every token is the valid one of the largest of the (V,) weights."""
    running = _started(world, config, begins)
    total, active = np.zeros(len(begins)), np.ones(len(begins), np.bool_)
    while active.any():
        actions = np.where(running.action_masks(), weights, -np.inf).argmax(1)
        gained, active = _stepped(running, actions, active)
        total += gained
    return total


def _stepped(running: Episodes, actions: Ints, active: npt.NDArray[np.bool_]) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """Rewards (R,) of the actions in the active rows, paid when they are earned, and which rows go on."""
    _, terminated, truncated, log_probs = running.step(actions, active)
    gained = np.where(active, running.config.log_prob_weight * log_probs, 0.0)
    return gained, active & ~(terminated | truncated)
