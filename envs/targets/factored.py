"""Target `factored`: hidden classes of words and topics of prompts, which a table of contexts cannot cover."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..arrays import Floats, Ints
from ..text.vocabulary import Vocabulary
from .automaton import SampledAutomaton
from .tables import Tables

MAX_BYTES = 2 << 30
KINDS = 3  # hidden kinds of the first word, and as many of the second
TOPICS = KINDS * KINDS
CLASSES = 6  # hidden classes of the last word
POSITIONS = 16
_SIZE = 8  # dimension of the hidden vectors
_FIRST = 1 + KINDS  # the first state after two words


class FactoredTarget(SampledAutomaton):
    """p*(a | text) depends on the topic of the first two words, the hidden class of the last one, and the position.

    Every word has a kind as a first word, a kind as a second word (three each) and a class (of six), all hidden. The
    kinds of the first two words x1, x2 make the topic k = (kind1(x1), kind2(x2)), one of nine, which bears on every
    later word. With c the class of the last word and t the words written after the first two, modulo 16,

        p*(a | k, c, t) ∝ exp(s[k, c]·⟨z, u_a⟩ + b_a),    z = √.1·C[c] + √.6·I[k, c] + √.3·J[t]

    with vectors C, I and J of 8 standard normal numbers, unit vectors u_a uniform on the sphere and
    b_a = -.3·log(random rank). In every topic s is 4 after three of the classes, which nearly determine the next word,
    and 1.5 after the others, which leave it almost free, so that it pays to look ahead. J makes the best texts move on
    instead of going round. The first two words are uniform.

    A table of all contexts would need (V - 5)³·16 rows, and what was learned about one row says nothing about others.
    The hidden states are 868, and what is learned about a word holds in all of its contexts.

    Args:
        vocab_size: V, the five special tokens included; words are the ids from 5 on.
        seed: seed of all that is random.
        eos_probability: probability of `<eos>` in every state.

    Attributes:
        num_states: one before the first word, 3 after it, then 9 topics x 16 positions x 6 classes.
    """

    num_states = _FIRST + TOPICS * POSITIONS * CLASSES

    def __init__(self, vocab_size: int, seed: int = 0, eos_probability: float = 0.0) -> None:
        if vocab_size <= Vocabulary.FIRST_WORD:
            raise ValueError(f"a factored target needs a vocab_size above {Vocabulary.FIRST_WORD}, not {vocab_size}")
        if not 0.0 <= eos_probability < 1.0:
            raise ValueError(f"eos_probability must lie in [0, 1), not {eos_probability}")
        size = self.num_states * vocab_size * 8
        if size > MAX_BYTES:
            raise ValueError(
                f"a factored target over {vocab_size} tokens needs a table of {size:,} bytes, at most {MAX_BYTES:,} "
                "are allowed; use a smaller vocabulary"
            )
        self.vocab_size = vocab_size
        words = vocab_size - Vocabulary.FIRST_WORD
        rng = np.random.default_rng(seed)
        first, second, last = (_labels(rng, words, count) for count in (KINDS, KINDS, CLASSES))
        table = np.full((self.num_states, vocab_size), -np.inf)
        table[:_FIRST, Vocabulary.FIRST_WORD :] = -np.log(words)
        table[_FIRST:, Vocabulary.FIRST_WORD :] = _log_probs(rng, words)
        table[:, Vocabulary.FIRST_WORD :] += np.log1p(-eos_probability)
        if eos_probability > 0:
            table[:, Vocabulary.EOS] = np.log(eos_probability)
        following = np.zeros((self.num_states, vocab_size), np.int64)
        following[:, Vocabulary.FIRST_WORD :] = _following(first, second, last)
        self._tables = Tables(log_prob=table, following=following)

    @property
    def context_size(self) -> None:
        """None: the first two words of a text matter to its end."""
        return None

    def next_state(self, states: Any, tokens: Any) -> Any:
        """(B,) states after (B,) tokens."""
        return self._tables.like(states, "following")[states, tokens]

    def next_states(self, states: Any) -> Any:
        """(B, V) int64, the state after each token."""
        return self._tables.like(states, "following")[states]


def _labels(rng: np.random.Generator, words: int, count: int) -> Ints:
    """(W,) a random label of each word, all as frequent as they can be."""
    labels: Ints = rng.permutation(np.arange(words) % count)
    return labels


def _log_probs(rng: np.random.Generator, words: int) -> Floats:
    """(topics · positions · classes, W) log p* of the words in the states after two words, nats."""
    by_class, by_both, by_position, word = (
        rng.standard_normal((*shape, _SIZE)) for shape in ((CLASSES,), (TOPICS, CLASSES), (POSITIONS,), (words,))
    )
    word /= np.linalg.norm(word, axis=1, keepdims=True)
    flat = rng.permuted(np.tile(np.arange(CLASSES) % 2 == 0, (TOPICS, 1)), axis=1)
    scale = np.where(flat, 1.5, 4.0)
    bias = -0.3 * np.log(rng.permutation(words) + 1.0)
    hidden = (  # (topics, positions, classes, 8)
        np.sqrt(0.1) * by_class + np.sqrt(0.6) * by_both[:, None] + np.sqrt(0.3) * by_position[:, None]
    )
    logits = ((scale[:, None, :, None] * hidden) @ word.T + bias).reshape(-1, words)
    result: Floats = logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)
    return result


def _following(first: Ints, second: Ints, last: Ints) -> Ints:
    """(S, W) the state after each word, from the words' kinds as first and second words and their classes."""

    def state(topic: Ints, position: Ints) -> Ints:
        return _FIRST + (topic * POSITIONS + position) * CLASSES + last

    begun = state(KINDS * np.arange(KINDS)[:, None] + second, np.zeros(1, np.int64))
    topic, position, _ = (grid.reshape(-1, 1) for grid in np.indices((TOPICS, POSITIONS, CLASSES)))
    return np.concatenate([1 + first[None, :], begun, state(topic, (position + 1) % POSITIONS)])
