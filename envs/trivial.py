"""Exact returns of trivial policies, which do not look at the text: what a learner has to beat."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from .arrays import Floats, Ints, pieces
from .config import Split
from .form_target import gain, gains, most_bonus
from .oracle import Oracle
from .solver import NotExact
from .starts import first_observations
from .text import Vocabulary
from .world import World

_PAIRS = 1 << 20  # (text, state) pairs that are followed at once
_ENTRIES = 1 << 22  # (state, token) entries in memory at once
_LATE = 12  # times the width of a search where bonuses come late


class Starts(NamedTuple):
    """Where episodes begin.

    Args:
        prefixes: (N, L) first observations, one for each state of the target that an episode can begin in.
        weights: (N,) their probabilities.
    """

    prefixes: Ints
    weights: Floats

    def distinct(self) -> Starts:
        """The same distribution, every first observation once."""
        prefixes, place = np.unique(self.prefixes, axis=0, return_inverse=True)
        return Starts(prefixes, _sums(place, self.weights, len(prefixes)))


def start_distribution(oracle: Oracle, split: Split = "train") -> Starts:
    """The exact distribution of the first state of an episode: uniform documents, uniform lengths of the prompt."""
    blocks = first_observations(oracle.world, oracle.config, split)
    parts = [starts_of(oracle, prefixes, weights) for prefixes, weights in blocks]
    prefixes, weights = (np.concatenate(field) for field in zip(*parts, strict=True))
    return starts_of(oracle, prefixes, weights / weights.sum())


def starts_of(oracle: Oracle, prefixes: npt.NDArray[np.int64], weights: Floats | None = None) -> Starts:
    """First observations (B, L), each with its weight (B,), as a distribution; equal states count as one."""
    weights = np.full(len(prefixes), 1.0 / len(prefixes)) if weights is None else weights
    if not oracle.world.target.tracks_states:
        return Starts(prefixes, weights)
    _, kept, place = np.unique(oracle.track(prefixes), return_index=True, return_inverse=True)
    return Starts(prefixes[kept], _sums(place, weights, len(kept)))


def unigram_weights(world: World) -> Floats:
    """(V,) how often each token occurs in the training documents, plus one; `<eos>` occurs once a document."""
    documents = world.documents["train"]
    counts = np.bincount(documents.tokens, minlength=world.vocab_size).astype(np.float64)
    counts[Vocabulary.EOS] = len(documents)
    return counts + 1.0


def policy_returns(oracle: Oracle, starts: Starts, temperature: float = 0.0, width: int = 16) -> dict[str, float]:
    """Exact mean soft returns E[Σ r] + τ·entropy of the trivial policies, nats a text.

    Args:
        oracle: of the environment.
        starts: where episodes begin.
        temperature: τ; 0 for the return alone.
        width: hypotheses of the search for the single best text.

    Returns, by name: "random" (uniform over the valid actions); "constant" (the best single token, written until the
    episode ends); "constant_eos" (the best single token, written once, or `min_new_tokens` times, and `<eos>`);
    "unigram_sampled" and "unigram_greedy" (see `unigram_weights`); where prompts differ, "same_text" (the best text
    found that is written after every prompt alike). A policy that no episode allows is left out; the first and
    "unigram_sampled" are left out where the oracle's tables would be too large.

    Raises NotExact where rewards are not those of a finite automaton.
    """
    config, world = oracle.config, oracle.world
    if (reason := oracle.why_not_followed) is not None:
        raise NotExact(reason)
    found: dict[str, float] = {}
    weights = unigram_weights(world)
    if oracle.is_exact:
        for name, policy in (("random", np.ones(world.vocab_size)), ("unigram_sampled", weights)):
            returns = oracle.expected_return(policy, starts.prefixes, temperature)
            found[name] = float(returns @ starts.weights)
    weight = config.log_prob_weight
    for name, texts in constant_texts(oracle).items():
        found[name] = weight * float(text_log_probs(oracle, starts, texts).max())
    found["unigram_greedy"] = weight * _greedy_log_prob(oracle, starts, weights)
    if len(starts.weights) > 1:
        found["same_text"] = weight * single_text(oracle, starts, width)[0]
    return {name: value for name, value in found.items() if value > -np.inf}


def constant_texts(oracle: Oracle) -> dict[str, Ints]:
    """(N, T) texts, `<pad>` after their ends, of the two constant policies; see `policy_returns`."""
    config, words = oracle.config, oracle.world.words
    horizon, least = config.max_new_tokens, config.min_new_tokens
    constant = np.repeat(words[:, None], horizon, axis=1)
    if oracle.eos_valid(0):
        constant = np.concatenate([constant, np.full((1, horizon), Vocabulary.PAD)])
        constant[-1, 0] = Vocabulary.EOS
    texts = {"constant": constant}
    if config.ending == "eos" and max(1, least) < horizon:
        ended = np.where(np.arange(horizon) < max(1, least), words[:, None], Vocabulary.PAD)
        ended[:, max(1, least)] = Vocabulary.EOS
        texts["constant_eos"] = ended
    return texts


def best_constant(oracle: Oracle, starts: Starts) -> Ints:
    """(T,) the best of the constant texts, `<pad>` after its end; NotExact where no episode allows one."""
    texts = np.concatenate(list(constant_texts(oracle).values()))
    returns = text_log_probs(oracle, starts, texts)
    if returns.max() == -np.inf:
        why = "the form forbids" if oracle.config.form else "no_repeat forbids"
        raise NotExact(f"no constant text is allowed in this environment, because {why} it")
    best: Ints = texts[returns.argmax()]
    return best


def text_log_probs(oracle: Oracle, starts: Starts, texts: Ints) -> Floats:
    """(N,) mean log-probability of each of the texts (N, T), `<pad>` after their ends, over the starts, nats.

    What a form pays for them is added, as everywhere here. -inf for a text with a token that is not valid after some
    prompt.
    """
    result = np.empty(len(texts))
    first = oracle.track(starts.prefixes)
    for rows in pieces(len(texts), len(first), _PAIRS):
        some = texts[rows]
        text = np.repeat(np.arange(len(some)), len(first))
        state, weight = np.tile(first, len(some)), np.tile(starts.weights, len(some))
        total = np.zeros(len(some))
        for step in range(texts.shape[1]):
            token = some[text, step]
            kept = token != Vocabulary.PAD
            if not kept.any():
                break
            text, state, weight, token = text[kept], state[kept], weight[kept], token[kept]
            gained = gain(oracle.target, state, token, np.full(len(state), oracle.eos_valid(step)))
            total += _sums(text, weight * gained, len(some))
            goes_on = np.isfinite(total)[text]
            text, state, weight, token = text[goes_on], state[goes_on], weight[goes_on], token[goes_on]
            state = oracle.target.automaton.next_state(state, token)
            if len(text) > len(some):  # texts that began differently soon meet
                known, number = np.unique(state, return_inverse=True)
                pairs, place = np.unique(text * len(known) + number, return_inverse=True)
                weight = _sums(place, weight, len(pairs))
                text, state = pairs // len(known), known[pairs % len(known)]
        result[rows] = total
    return result


def _greedy_log_prob(oracle: Oracle, starts: Starts, weights: Floats) -> float:
    """Mean log-probability of the text whose every token is the valid one of the largest of the (V,) weights, nats."""
    states, chances, total = oracle.track(starts.prefixes), starts.weights, 0.0
    for step in range(oracle.config.max_new_tokens):
        ends = oracle.eos_valid(step)
        scores = np.where(oracle.allowed(states), weights, -np.inf)
        if not ends:
            scores[:, Vocabulary.EOS] = -np.inf
        tokens = np.broadcast_to(scores.argmax(1), states.shape)
        total += float(chances @ gain(oracle.target, states, tokens, np.full(len(states), ends)))
        goes_on = tokens != Vocabulary.EOS
        if not goes_on.any():
            break
        states, place = np.unique(
            oracle.target.automaton.next_state(states[goes_on], tokens[goes_on]), return_inverse=True
        )
        chances = _sums(place, chances[goes_on], len(states))
    return total


def single_text(oracle: Oracle, starts: Starts, width: int = 16) -> tuple[float, list[int]]:
    """The best text that a beam search finds to be written after every prompt alike.

    Args:
        oracle: of the environment.
        starts: where episodes begin.
        width: hypotheses kept after every token; twelve times as many where a form pays.

    Returns: its exact mean log-probability over the starts, nats, and its ids, `<eos>` included unless it is truncated.
    """
    # What a form pays comes late in a text, so a narrow search drops what leads there.
    width = _LATE * width if oracle.config.pays_bonus else width
    ends, horizon = oracle.config.ending == "eos", oracle.config.max_new_tokens
    states, weights = oracle.track(starts.prefixes)[None, :], starts.weights
    scores, texts, hope = np.zeros(1), np.zeros((1, 0), np.int64), most_bonus(oracle.target)
    best, found = -np.inf, np.zeros(0, np.int64)
    for step in range(horizon):
        gains = _mean_rows(oracle, states, weights, oracle.eos_valid(step))  # (K, V)
        totals = scores[:, None] + gains
        ended = totals[:, Vocabulary.EOS]
        if ends and ended.max() > best:
            best, found = float(ended.max()), np.append(texts[ended.argmax()], Vocabulary.EOS)
        totals[:, Vocabulary.EOS] = -np.inf
        order = np.argsort(-totals, axis=None, kind="stable")[: 4 * width]
        # Log-probabilities are at most 0, so what is further below the best text than any bonus cannot overtake it.
        order = order[totals.flat[order] + hope > best]
        if not len(order):
            break
        parent, token = np.divmod(order, totals.shape[1])
        following = oracle.target.automaton.next_state(
            states[parent].ravel(), np.repeat(token, states.shape[1])
        ).reshape(len(order), -1)
        # Texts in the same states have the same continuations, so the best of them is enough.
        _, distinct = np.unique(following, axis=0, return_index=True)
        kept = np.sort(distinct)[:width]
        scores, texts = totals.flat[order[kept]], np.column_stack([texts[parent[kept]], token[kept]])
        states, place = np.unique(following[kept], axis=1, return_inverse=True)
        weights = _sums(place, weights, states.shape[1])
        if step == horizon - 1 and scores[0] > best:
            best, found = float(scores[0]), texts[0]
    return best, found.tolist()


def _sums(places: Ints, weights: Floats, count: int) -> Floats:
    """(count,) sums of the weights (N,) at the same of the places (N,)."""
    return np.bincount(places.reshape(-1), weights, count).astype(np.float64, copy=False)


def _mean_rows(oracle: Oracle, states: Ints, weights: Floats, eos_valid: bool) -> Floats:
    """(K, V) log-probability of each token, averaged over the (K, N) states with weights (N,), nats."""
    size = oracle.world.vocab_size
    result = np.zeros((len(states), size))
    for row, own in zip(result, states, strict=True):
        for some in pieces(len(own), size, _ENTRIES):
            row += weights[some] @ gains(oracle.target, own[some], np.full(len(own[some]), eos_valid))
    return result
