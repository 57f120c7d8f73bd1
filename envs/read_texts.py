"""The best text found after prompts where p* has no states: a beam search that reads whole prefixes."""

from __future__ import annotations

import numpy as np

from .arrays import Floats, Ints, pieces
from .config import EnvConfig
from .no_repeat import without
from .solver import NotExact
from .text import Vocabulary
from .trivial import Starts
from .world import World

MOST_ROWS = 4_096  # (hypothesis, prompt) pairs that are read at every token
_ROWS = 256  # read at once


def why_not_read(config: EnvConfig) -> str | None:
    """Why the log-likelihood of a given text is not its return here, None where it is."""
    if config.transition != "free":
        return 'with transition="teacher" actions do not influence the text'
    if config.sequence_reward or config.log_prob_weight <= 0.0:
        return "a text is paid more, or something else, than its log-likelihood"
    if config.form:
        return "a form pays more than the log-likelihood, and a search that reads whole texts knows none"
    if config.target == "reference":
        return "p* of the target 'reference' follows the document, which no policy sees"
    return None


def search_texts(world: World, config: EnvConfig, starts: Starts, width: int) -> tuple[float, list[int]]:
    """The text a beam search finds to be written after all the prompts alike; with one prompt the best after it.

    Its value is exact. Every hypothesis is read after every prompt, so there may be at most 4,096 pairs of them.

    Args:
        world: its target needs no states.
        config: the environment's arguments.
        starts: the first observations and their weights.
        width: hypotheses kept after every token.

    Returns: its mean log-probability, nats, and its ids, `<eos>` included unless `max_new_tokens` truncates it.

    Raises NotExact where this is not what the environment pays, or there are too many pairs.
    """
    if (reason := why_not_read(config)) is not None:
        raise NotExact(reason)
    if width < 1:
        raise ValueError(f"the width of a beam search must be at least 1, not {width}")
    if width * len(starts.weights) > MOST_ROWS:
        raise NotExact(
            f"a search with {width} beams after {len(starts.weights):,} prompts reads more than {MOST_ROWS:,} texts at "
            f"every token, since {config.target!r} has no states; use fewer beams"
        )
    best, found = -np.inf, np.zeros(0, np.int64)
    texts, scores = np.zeros((1, 0), np.int64), np.zeros(1)
    for step in range(config.max_new_tokens):
        ends = config.ending == "eos" and step >= config.min_new_tokens
        totals = scores[:, None] + _mean_rows(world, config, starts, texts, ends)
        ended = totals[:, Vocabulary.EOS]
        if ends and ended.max() > best:
            best, found = float(ended.max()), np.append(texts[ended.argmax()], Vocabulary.EOS)
        totals[:, Vocabulary.EOS] = -np.inf
        order = np.argsort(-totals, axis=None, kind="stable")[:width]
        order = order[totals.flat[order] > best]  # log-probabilities are at most 0, so what is below stays below
        if not len(order):
            break
        parent, token = np.divmod(order, totals.shape[1])
        texts, scores = np.column_stack([texts[parent], token]), totals.flat[order]
        if step == config.max_new_tokens - 1:
            best, found = float(scores[0]), texts[0]
    return best, found.tolist()


def _mean_rows(world: World, config: EnvConfig, starts: Starts, texts: Ints, ends: bool) -> Floats:
    """(K, V) log p* of each token after each text (K, t), nats, weighted over the prompts; -inf if one forbids it."""
    prompts = len(starts.weights)
    prefixes = np.concatenate([np.tile(starts.prefixes, (len(texts), 1)), np.repeat(texts, prompts, axis=0)], axis=1)
    prefixes = prefixes[:, int((prefixes == Vocabulary.PAD).all(0).sum()) :]  # columns of padding alone
    rows = np.empty((len(prefixes), world.vocab_size))
    for some in pieces(len(prefixes), 1, _ROWS):
        own = prefixes[some]
        found = world.target.log_probs(world.target.track(own), np.full(len(own), ends))
        if config.no_repeat:
            recent = np.pad(own, ((0, 0), (config.no_repeat, 0)))[:, -config.no_repeat :]
            found = without(recent, found, -np.inf)
            found = found - np.logaddexp.reduce(found, axis=1, keepdims=True)
        rows[some] = found
    with np.errstate(invalid="ignore"):
        weighted: Floats = rows.reshape(len(texts), prompts, -1) * starts.weights[:, None]
    return weighted.sum(1)
