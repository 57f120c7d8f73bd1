"""Bounds on the best return where the target's (state, token) table is too large for exact dynamic programming."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from .arrays import Floats, Ints
from .config import EnvConfig
from .text import Vocabulary
from .world import World

MAX_TABLE = 400_000_000  # (last token, token) pairs that the relaxation may hold: 8 bytes each
_CHUNK = 1 << 22  # (row, token) entries that live at a time
_SPARE = 4  # candidates per open text, so that enough are left once those in the same state are merged


class BeamResult(NamedTuple):
    """The best text that a beam search found after each prefix.

    Args:
        log_probs: (B,) log p*(text | prefix), nats, -inf where no text was found.
        tokens: B lists of ids, `<eos>` included, empty where no text was found.
    """

    log_probs: Floats
    tokens: list[list[int]]


def beam_search(world: World, config: EnvConfig, prefixes: npt.NDArray[np.int64], width: int = 64) -> BeamResult:
    """The best text a beam search finds after each prefix: a lower bound of the optimal return.

    Open texts in the same state of the automaton have the same future, so only the best of them is kept, which leaves
    room for others. A beam wide enough to hold all of them finds the optimum.

    Args:
        world: the world; its target is a finite automaton.
        config: the episode's rules. With the ending "eos" texts end within `max_new_tokens`, with "fixed" they have
            exactly that many tokens.
        prefixes: (B, L) observations of episodes that begin.
        width: open texts kept after every token.

    Returns: log-probabilities in nats, and the texts that have them.
    """
    if width < 1:
        raise ValueError(f"the width of a beam search must be at least 1, not {width}")
    states = _initial_states(world, config, prefixes)
    log_probs, tokens = np.empty(len(states)), []
    for rows in _pieces(len(states), width * world.vocab_size):
        log_probs[rows], texts = _search(world, config, states[rows], width)
        tokens += texts
    return BeamResult(log_probs, tokens)


def relaxed_optimum(world: World, config: EnvConfig, prefixes: npt.NDArray[np.int64]) -> Floats:
    """An upper bound of the optimal return: the optimum where every step may choose its context.

    The contexts a step may choose from are those that end in the same last token; the first step has the prefix's
    own. With contexts of one token nothing is relaxed, and the bound is the optimum.

    Args:
        world: the world; its target is a finite automaton whose states know their last token.
        config: the episode's rules, see `beam_search`.
        prefixes: (B, L) observations of episodes that begin.

    Returns: (B,) nats, -inf where no text can end in time. Admissible up to rounding.
    """
    states = _initial_states(world, config, prefixes)
    if world.vocab_size**2 > MAX_TABLE:
        raise ValueError(
            f"the upper bound needs a table of {world.vocab_size**2:,} (last token, token) pairs, at most "
            f"{MAX_TABLE:,} are held; use a smaller vocabulary"
        )
    ends = config.ending == "eos"
    value = np.full(world.vocab_size, -np.inf if ends else 0.0)
    masked_until = config.min_new_tokens if ends else config.max_new_tokens
    # Backwards: first the steps that may end the text, then those that may not; one table lives at a time.
    for eos_valid, first, last in ((True, masked_until, config.max_new_tokens), (False, 0, masked_until)):
        steps = last - max(first, 1)
        if steps < 1:
            continue
        table = _best_context(world, eos_valid)
        for _ in range(steps):
            new = _backup(table, value)
            if np.array_equal(new, value):
                break
            value = new
        del table
    result = np.empty(len(states))
    for rows in _pieces(len(states), world.vocab_size):
        result[rows] = _backup(_rows(world, states[rows], masked_until == 0), value)
    return result


def _initial_states(world: World, config: EnvConfig, prefixes: npt.NDArray[np.int64]) -> Ints:
    """(B,) automaton states of (B, L) prefixes, or ValueError where there is nothing to bound."""
    if not world.target.tracks_states:
        raise ValueError(
            f"bounds need a target that looks at the last few tokens, not {config.target!r}, whose "
            "log-probabilities depend on more than that"
        )
    if config.transition == "teacher":
        raise ValueError('with transition="teacher" actions do not move the state, so a best text does not exist')
    if np.ndim(prefixes) != 2:
        raise ValueError(f"prefixes must have the shape (B, L), not {np.shape(prefixes)}")
    states: Ints = world.target.track(np.asarray(prefixes, np.int64))
    return states


def _search(world: World, config: EnvConfig, start: Ints, width: int) -> tuple[Floats, list[list[int]]]:
    """Beam search from (C,) states that are few enough for one chunk; open texts stand best first."""
    ends, count = config.ending == "eos", len(start)
    row = np.arange(count)
    states, scores = start[:, None], np.zeros((count, 1))
    parents: list[Ints] = []  # after t tokens: where each open text stood among those of t - 1 tokens, …
    written: list[Ints] = []  # … and the token it went on with
    best, length, place = np.full(count, -np.inf), np.zeros(count, np.int64), np.zeros(count, np.int64)
    for step in range(config.max_new_tokens):
        if ends and step >= config.min_new_tokens:
            ended = scores + _log_eos(world, states)
            chosen = ended.argmax(1)
            better = ended[row, chosen] > best
            best[better], length[better], place[better] = ended[row, chosen][better], step, chosen[better]
            # Log-probabilities are not positive: what is no better now cannot become so.
            scores = np.where(scores > best[:, None], scores, -np.inf)
            if step == config.max_new_tokens - 1 or not np.isfinite(scores).any():
                break
        states, scores, parent, token = _extend(world, states, scores, width, ends and step >= config.min_new_tokens)
        parents.append(parent)
        written.append(token)
    if not ends:
        best, length = scores[:, 0], np.full(count, config.max_new_tokens)
    texts = []
    for c in range(count):
        text, at = [Vocabulary.EOS] if ends else [], place[c]
        for step in reversed(range(length[c])):
            text.append(int(written[step][c, at]))
            at = parents[step][c, at]
        texts.append(text[::-1] if np.isfinite(best[c]) else [])
    return best, texts


def _extend(world: World, states: Ints, scores: Floats, width: int, eos_valid: bool) -> tuple[Ints, Floats, Ints, Ints]:
    """The best continuations of (C, K) open texts by one word, one for each state they lead to.

    Returns: states, scores, parents and words, (C, at most `width`) each, best first, -inf where there are fewer.
    """
    count, size = len(states), world.vocab_size
    row = np.arange(count)[:, None]
    best, origin = np.empty((count, 0)), np.empty((count, 0), np.int64)
    for columns in _pieces(states.shape[1], count * size):
        piece = _rows(world, states[:, columns].ravel(), eos_valid).reshape(count, -1, size)
        piece[:, :, Vocabulary.EOS] = -np.inf
        piece += scores[:, columns, None]
        best = np.concatenate([best, piece.reshape(count, -1)], axis=1)
        here = np.arange(columns.start * size, columns.stop * size)
        origin = np.concatenate([origin, np.broadcast_to(here, (count, len(here)))], axis=1)
        if best.shape[1] > _SPARE * width:
            top = np.argpartition(-best, _SPARE * width - 1, axis=1)[:, : _SPARE * width]
            best, origin = best[row, top], origin[row, top]
    order = np.argsort(-best, axis=1, kind="stable")
    best, origin = best[row, order], origin[row, order]
    parent, token = origin // size, origin % size
    automaton = world.target.automaton
    following = automaton.next_state(states[row, parent].ravel(), token.ravel()).reshape(best.shape)
    # Of the texts that lead to one state, best first, np.unique finds the first.
    _, first = np.unique(row * automaton.num_states + following, return_index=True)
    merged = np.full_like(best, -np.inf)
    merged.flat[first] = best.flat[first]
    alive = max(1, min(width, int(np.isfinite(merged).sum(1).max())))
    kept = np.argsort(-merged, axis=1, kind="stable")[:, :alive]
    return following[row, kept], merged[row, kept], parent[row, kept], token[row, kept]


def _best_context(world: World, eos_valid: bool) -> Floats:
    """(V, V) highest log p*(token | state) over all states that can be reached by writing the row's word, nats."""
    automaton: Any = world.target.automaton
    words = world.valid & (np.arange(world.vocab_size) != Vocabulary.EOS)
    # Whether a state remembers the word just written does not depend on what it knew before, so state 0 tells.
    forgotten = words & (automaton.last_tokens(automaton.next_states(np.zeros(1, np.int64))[0]) < 0)
    last = automaton.last_tokens(np.arange(automaton.num_states))
    wanted = np.where(last < 0, forgotten.any(), words[last])
    states = np.flatnonzero(wanted)
    states = states[np.argsort(last[states], kind="stable")]
    table = np.full((world.vocab_size, world.vocab_size), -np.inf)
    unknown = np.full(world.vocab_size, -np.inf)
    for rows in _pieces(len(states), world.vocab_size):
        tokens, begin = np.unique(last[states[rows]], return_index=True)
        highest = np.maximum.reduceat(_rows(world, states[rows], eos_valid), begin, axis=0)
        if tokens[0] < 0:
            np.maximum(unknown, highest[0], out=unknown)
            tokens, highest = tokens[1:], highest[1:]
        table[tokens] = np.maximum(table[tokens], highest)
    # A state that knows no last token may stand behind any word that is forgotten.
    table[forgotten] = np.maximum(table[forgotten], unknown)
    return table


def _backup(table: Floats, value: Floats) -> Floats:
    """(R,) best of (R, V) log-probabilities and the (V,) values of what they lead to, 0 behind `<eos>`."""
    after = value.copy()
    after[Vocabulary.EOS] = 0.0
    result = np.empty(len(table))
    for rows in _pieces(len(table), table.shape[1]):
        result[rows] = (table[rows] + after).max(1)
    return result


def _rows(world: World, states: Ints, eos_valid: bool) -> Floats:
    """(R, V) log p*(· | state, valid), nats."""
    rows: Floats = world.target.log_probs(states, np.full(len(states), eos_valid))
    return rows


def _log_eos(world: World, states: Ints) -> Floats:
    """Log p*(<eos> | state) where it is valid, nats, in the shape of `states`."""
    flat = states.ravel()
    eos = np.full_like(flat, Vocabulary.EOS)
    result: Floats = world.target.log_prob(flat, eos, np.ones(len(flat), np.bool_)).reshape(states.shape)
    return result


def _pieces(count: int, entries: int) -> Iterator[slice]:
    """Slices of `count` rows of `entries` each that fit a chunk, one row at least."""
    step = max(1, _CHUNK // entries)
    return (slice(start, min(start + step, count)) for start in range(0, count, step))
