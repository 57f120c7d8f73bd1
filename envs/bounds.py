"""Bounds of the optimal return, for targets too large for exact dynamic programming."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from .arrays import Floats, Ints, pieces
from .config import EnvConfig
from .form_target import FormTarget, gain, gains, most_bonus, target_in
from .no_repeat import NoRepeat
from .targets import ConditionedTarget
from .text import Vocabulary
from .world import World

MAX_TABLE = 400_000_000  # (last token, token) pairs of the relaxation, 8 bytes each
_CHUNK = 1 << 22  # (row, token) entries in memory at a time
_SPARE = 4  # candidates per kept hypothesis, so that enough remain after merging equal states


class BeamResult(NamedTuple):
    """The best text that a beam search found after each prefix.

    Args:
        log_probs: (B,) log p*(text | prefix), and what a form pays beside it, nats; -inf if none was found.
        tokens: B lists of ids, `<eos>` included unless the text is truncated; empty if none was found.
    """

    log_probs: Floats
    tokens: list[list[int]]


def beam_search(world: World, config: EnvConfig, prefixes: npt.NDArray[np.int64], width: int = 64) -> BeamResult:
    """The best text a beam search finds after each prefix: a lower bound of the optimal return.

    Hypotheses in the same automaton state have the same continuations, so only the best of them is kept. A beam wide
    enough to keep all hypotheses finds the optimum.

    Args:
        world: its target must be a finite automaton.
        config: with the ending "eos" texts end within `max_new_tokens` or are truncated there, with "fixed" they have
            exactly that many.
        prefixes: (B, L) first observations of episodes.
        width: hypotheses kept after every token.
    """
    if width < 1:
        raise ValueError(f"the width of a beam search must be at least 1, not {width}")
    target, states = _initial_states(world, config, prefixes)
    log_probs, tokens = np.empty(len(states)), []
    for rows in pieces(len(states), width * world.vocab_size, _CHUNK):
        log_probs[rows], texts = _search(target, config, states[rows], width)
        tokens += texts
    return BeamResult(log_probs, tokens)


def relaxed_optimum(world: World, config: EnvConfig, prefixes: npt.NDArray[np.int64]) -> Floats:
    """An upper bound of the optimal return, from a relaxation over contexts.

    Every step after the first maximises over all contexts with the same last token; the first uses the prefix's own.
    For contexts of one token the bound is the optimum.

    Args:
        world: its target must be a finite automaton with the method `last_tokens`.
        config: as in `beam_search`.
        prefixes: (B, L) first observations of episodes.

    Returns: (B,) nats. A valid bound up to rounding.
    """
    if config.no_repeat or config.form:
        raise ValueError(f"no upper bound is known with {'no_repeat' if config.no_repeat else 'a form'}")
    target, states = _initial_states(world, config, prefixes)
    if not hasattr(target.automaton, "last_tokens"):
        raise ValueError(f"the upper bound needs a target with the method last_tokens, not {config.target!r}")
    if world.vocab_size**2 > MAX_TABLE:
        raise ValueError(
            f"the upper bound needs a table of {world.vocab_size**2:,} (last token, token) pairs, at most "
            f"{MAX_TABLE:,} are allowed; use a smaller vocabulary"
        )
    ends = config.ending == "eos"
    value = np.zeros(world.vocab_size)  # a truncated text keeps what it has earned
    masked_until = config.min_new_tokens if ends else config.max_new_tokens
    # Backwards: first the steps at which <eos> is valid, then the others, so that one table is in memory at a time.
    for eos_valid, first, last in ((True, masked_until, config.max_new_tokens), (False, 0, masked_until)):
        steps = last - max(first, 1)
        if steps < 1:
            continue
        table = _best_context(target, eos_valid)
        for _ in range(steps):
            new = _backup(table, value)
            if np.array_equal(new, value):
                break
            value = new
        del table
    result = np.empty(len(states))
    for rows in pieces(len(states), world.vocab_size, _CHUNK):
        result[rows] = _backup(_rows(target, states[rows], masked_until == 0), value)
    return result


def _initial_states(
    world: World, config: EnvConfig, prefixes: npt.NDArray[np.int64]
) -> tuple[ConditionedTarget | NoRepeat | FormTarget, Ints]:
    """The target and its (B,) states of (B, L) prefixes; ValueError if the environment has no bounds."""
    if not world.target.tracks_states:
        raise ValueError(
            f"bounds need a target that looks at the last few tokens only, not {config.target!r}, whose "
            "log-probabilities depend on more"
        )
    if config.transition == "teacher":
        raise ValueError('with transition="teacher" actions do not influence the text, so there is no best text')
    if np.ndim(prefixes) != 2:
        raise ValueError(f"prefixes must have the shape (B, L), not {np.shape(prefixes)}")
    target = target_in(world, config)
    return target, target.track(np.asarray(prefixes, np.int64))


def _search(
    target: ConditionedTarget | NoRepeat | FormTarget, config: EnvConfig, start: Ints, width: int
) -> tuple[Floats, list[list[int]]]:
    """Beam search from (C,) states, few enough for one chunk; hypotheses are sorted, best first."""
    ends, count, hope = config.ending == "eos", len(start), most_bonus(target)
    row = np.arange(count)
    states, scores = start[:, None], np.zeros((count, 1))
    parents: list[Ints] = []  # per step, the beam index of each hypothesis before the step …
    written: list[Ints] = []  # … and the token it was extended by
    best, length, place = np.full(count, -np.inf), np.zeros(count, np.int64), np.zeros(count, np.int64)
    for step in range(config.max_new_tokens):
        if ends and step >= config.min_new_tokens:
            ended = scores + _log_eos(target, states)
            chosen = ended.argmax(1)
            better = ended[row, chosen] > best
            best[better], length[better], place[better] = ended[row, chosen][better], step, chosen[better]
            # Log-probabilities are at most 0, so a hypothesis further below the best than any bonus cannot overtake it.
            scores = np.where(scores + hope > best[:, None], scores, -np.inf)
            if not np.isfinite(scores).any():
                break
        states, scores, parent, token = _extend(target, states, scores, width, ends and step >= config.min_new_tokens)
        parents.append(parent)
        written.append(token)
    full = scores[:, 0] > best  # the best text has max_new_tokens words: with the ending "eos" it is truncated
    best = np.where(full, scores[:, 0], best)
    length[full], place[full] = config.max_new_tokens, 0
    texts = []
    for c in range(count):
        text, at = [] if full[c] else [Vocabulary.EOS], place[c]
        for step in reversed(range(length[c])):
            text.append(int(written[step][c, at]))
            at = parents[step][c, at]
        texts.append(text[::-1] if np.isfinite(best[c]) else [])
    return best, texts


def _extend(
    target: ConditionedTarget | NoRepeat | FormTarget, states: Ints, scores: Floats, width: int, eos_valid: bool
) -> tuple[Ints, Floats, Ints, Ints]:
    """The best extensions of (C, K) hypotheses by one word, at most one per state they lead to.

    Returns: states, scores, parents and words, each (C, at most `width`), best first; scores are -inf beyond the last.
    """
    count, size = len(states), target.vocab_size
    row = np.arange(count)[:, None]
    best, origin = np.empty((count, 0)), np.empty((count, 0), np.int64)
    for columns in pieces(states.shape[1], count * size, _CHUNK):
        piece = _rows(target, states[:, columns].ravel(), eos_valid).reshape(count, -1, size)
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
    automaton = target.automaton
    following = automaton.next_state(states[row, parent].ravel(), token.ravel()).reshape(best.shape)
    # Sorted best first, so the first entry that np.unique finds for a state is its best.
    known, number = np.unique(following, return_inverse=True)
    _, first = np.unique(row * len(known) + number.reshape(following.shape), return_index=True)
    merged = np.full_like(best, -np.inf)
    merged.flat[first] = best.flat[first]
    alive = max(1, min(width, int(np.isfinite(merged).sum(1).max())))
    kept = np.argsort(-merged, axis=1, kind="stable")[:, :alive]
    return following[row, kept], merged[row, kept], parent[row, kept], token[row, kept]


def _best_context(target: ConditionedTarget | NoRepeat | FormTarget, eos_valid: bool) -> Floats:
    """(V, V) maximum of log p*(token | state) over all states that writing the row's word can lead to, nats."""
    automaton: Any = target.automaton
    words = target.valid & (np.arange(target.vocab_size) != Vocabulary.EOS)
    # Whether the next state has the word as its last token does not depend on the state before; take state 0.
    forgotten = words & (automaton.last_tokens(automaton.next_states(np.zeros(1, np.int64))[0]) < 0)
    last = automaton.last_tokens(np.arange(automaton.num_states))
    wanted = np.where(last < 0, forgotten.any(), words[last])
    states = np.flatnonzero(wanted)
    states = states[np.argsort(last[states], kind="stable")]
    table = np.full((target.vocab_size, target.vocab_size), -np.inf)
    unknown = np.full(target.vocab_size, -np.inf)
    for rows in pieces(len(states), target.vocab_size, _CHUNK):
        tokens, begin = np.unique(last[states[rows]], return_index=True)
        highest = np.maximum.reduceat(_rows(target, states[rows], eos_valid), begin, axis=0)
        if tokens[0] < 0:
            np.maximum(unknown, highest[0], out=unknown)
            tokens, highest = tokens[1:], highest[1:]
        table[tokens] = np.maximum(table[tokens], highest)
    # A state without a last token can follow any word that the automaton forgets.
    table[forgotten] = np.maximum(table[forgotten], unknown)
    return table


def _backup(table: Floats, value: Floats) -> Floats:
    """(R,) maximum over tokens of (R, V) log-probabilities plus (V,) values of the next step, 0 after `<eos>`."""
    after = value.copy()
    after[Vocabulary.EOS] = 0.0
    result = np.empty(len(table))
    for rows in pieces(len(table), table.shape[1], _CHUNK):
        result[rows] = (table[rows] + after).max(1)
    return result


def _rows(target: ConditionedTarget | NoRepeat | FormTarget, states: Ints, eos_valid: bool) -> Floats:
    """(R, V) log p*(· | state, valid), nats."""
    return gains(target, states, np.full(len(states), eos_valid))


def _log_eos(target: ConditionedTarget | NoRepeat | FormTarget, states: Ints) -> Floats:
    """Log p*(<eos> | state) while `<eos>` is valid, nats, in the shape of `states`."""
    flat = states.ravel()
    eos = np.full_like(flat, Vocabulary.EOS)
    result: Floats = gain(target, flat, eos, np.ones(len(flat), np.bool_)).reshape(states.shape)
    return result
