"""Phrases: sequences of tokens as single actions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from .arrays import Ints
from .config import EnvConfig
from .text import Vocabulary
from .world import World

LEAST_COUNT = 2  # fewest occurrences of a phrase in the training documents


@dataclass(frozen=True)
class Phrases:
    """P phrases in addition to the V tokens: action a < V writes token a, action V + p writes phrase p.

    A phrase is an option (Sutton, Precup & Singh 1999, "Between MDPs and semi-MDPs"): it can start where its first
    token is valid, writes its tokens in order, and ends after the last one or with the episode.

    Args:
        ids: at least two token ids per phrase; `<eos>` only as the last.
        vocab_size: V.
    """

    ids: tuple[tuple[int, ...], ...]
    vocab_size: int

    def __post_init__(self) -> None:
        """Raise ValueError for a phrase that no episode could write."""
        object.__setattr__(self, "ids", tuple(tuple(int(i) for i in phrase) for phrase in self.ids))
        for phrase in self.ids:
            if len(phrase) < 2:
                raise ValueError(f"a phrase has at least 2 tokens, not {len(phrase)}: {phrase}")
            if not all(0 <= i < self.vocab_size for i in phrase) or Vocabulary.EOS in phrase[:-1]:
                raise ValueError(
                    f"the phrase {phrase} must consist of ids below {self.vocab_size}, with <eos> only as the last"
                )

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def num_actions(self) -> int:
        """V + P."""
        return self.vocab_size + len(self.ids)

    @cached_property
    def table(self) -> Ints:
        """(V + P, K) tokens of each action, right-padded with `<pad>`."""
        table = np.full((self.num_actions, max((len(p) for p in self.ids), default=1)), Vocabulary.PAD)
        table[: self.vocab_size, 0] = np.arange(self.vocab_size)
        for number, phrase in enumerate(self.ids, self.vocab_size):
            table[number, : len(phrase)] = phrase
        return table

    @cached_property
    def lengths(self) -> Ints:
        """(V + P,) number of tokens of each action."""
        return np.array([1] * self.vocab_size + [len(p) for p in self.ids])

    @cached_property
    def ends(self) -> npt.NDArray[np.bool_]:
        """(V + P,) bool, actions whose last token is `<eos>`."""
        ends: npt.NDArray[np.bool_] = self.table[np.arange(self.num_actions), self.lengths - 1] == Vocabulary.EOS
        return ends

    def mask(self, tokens: npt.NDArray[np.bool_], written: Any, min_new_tokens: int) -> npt.NDArray[np.bool_]:
        """(..., V + P) bool, the valid actions.

        Args:
            tokens: (..., V) bool, the valid tokens.
            written: (...) tokens written so far.
            min_new_tokens: tokens written before `<eos>` becomes valid.
        """
        mask = tokens[..., self.table[:, 0]]
        late = np.asarray(written)[..., None] + self.lengths - 1 >= min_new_tokens
        mask[..., self.vocab_size :] &= (late | ~self.ends)[..., self.vocab_size :]
        return mask

    def matches(self, tokens: Ints) -> Ints:
        """(R, T, K + 1) action of the phrase of k tokens that begins at each position of (R, T) texts, -1 for none."""
        rows, width = tokens.shape
        found = np.full((rows, width, self.table.shape[1] + 1), -1)
        for number, phrase in enumerate(self.ids, self.vocab_size):
            places = width - len(phrase) + 1
            if places > 0:
                here = np.ones((rows, places), np.bool_)
                for i, token in enumerate(phrase):
                    here &= tokens[:, i : i + places] == token
                found[:, :places, len(phrase)][here] = number
        return found


def mine_phrases(world: World, config: EnvConfig, count: int, longest: int) -> Phrases:
    """The `count` phrases of 2 to `longest` tokens that save the most actions in the training documents.

    A phrase of k tokens with n occurrences saves n·(k - 1) actions. Phrases consist of valid actions within one
    document, after its last `<sep>`. With the ending "eos" they may include the `<eos>` that follows the document.
    A phrase needs at least 2 occurrences, so fewer than `count` may be found; ValueError if there is none.
    """
    tokens, valid = _with_ends(world, config)
    scores: list[tuple[int, tuple[int, ...]]] = []
    number, there = tokens, valid.copy()
    for size in range(2, longest + 1):
        last = np.roll(tokens, 1 - size)
        there = there & np.roll(valid, 1 - size)
        there[len(tokens) - size + 1 :] = False
        places = np.flatnonzero(there)
        codes = number[places] * world.vocab_size + last[places]
        _, first, inverse, counts = np.unique(codes, return_index=True, return_inverse=True, return_counts=True)
        number = np.zeros_like(tokens)
        number[places] = inverse
        for kind in np.flatnonzero(counts >= LEAST_COUNT):
            begin = places[first[kind]]
            scores.append((-int(counts[kind]) * (size - 1), tuple(tokens[begin : begin + size].tolist())))
    if not scores:
        raise ValueError(
            f"no sequence of 2 to {longest} tokens occurs {LEAST_COUNT} times in the training documents; "
            "set phrases to 0"
        )
    return Phrases(tuple(phrase for _, phrase in sorted(scores)[:count]), world.vocab_size)


def _with_ends(world: World, config: EnvConfig) -> tuple[Ints, npt.NDArray[np.bool_]]:
    """All training documents, each followed by `<eos> <pad>`, and which of their tokens are valid actions."""
    documents = world.documents["train"]
    places = np.arange(len(documents.tokens)) + 2 * np.repeat(np.arange(len(documents)), documents.lengths)
    tokens = np.full(len(documents.tokens) + 2 * len(documents), Vocabulary.PAD)
    ends = documents.offsets[1:] + 2 * np.arange(len(documents))
    tokens[ends] = Vocabulary.EOS
    tokens[places] = documents.tokens
    valid = world.valid[tokens] & (tokens != Vocabulary.PAD)
    # The tokens up to the last <sep> of a document are its source, which is not written.
    for end, length in zip(ends, documents.lengths, strict=True):
        source = np.flatnonzero(tokens[end - length : end] == Vocabulary.SEP)
        if len(source):
            valid[end - length : end - length + source[-1] + 1] = False
    return tokens, valid


def phrases_of(texts: Sequence[str], world: World) -> Phrases:
    """Phrases from texts; ValueError for a word that is not a valid action."""
    ids = [tuple(world.tokenizer.encode(text)) for text in texts]
    for text, phrase in zip(texts, ids, strict=True):
        if not all(world.valid[i] for i in phrase):
            raise ValueError(f"the phrase {text!r} has tokens that are never valid actions; use words of the corpus")
    return Phrases(tuple(ids), world.vocab_size)
