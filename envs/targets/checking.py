"""A test that a target is a consistent distribution."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..text.vocabulary import Vocabulary
from .protocol import FiniteStateTarget, RecurrentTarget, Target
from .stated import as_automaton
from .sums import ROWS, random_prefixes


def check_target(
    target: Target, *, seed: int = 0, atol: float = 1e-6, torch_too: bool = True, longest: int = 16
) -> None:
    """Check `target` on random prefixes, for the tests of a target of your own.

    Log-probabilities must have the right shape and dtype, be at most 0, and sum to 1 as probabilities. `log_prob` must
    equal `log_probs`. Neither may depend on the other prefixes of the batch or on padding, and tensors must give the
    same as NumPy arrays. A target with a memory or with states must give the same step by step as for whole prefixes,
    which a model that looks at later tokens, or whose cache or window is wrong, does not.

    Args:
        target: a target with at least one word in addition to the five special tokens.
        seed: seed of the prefixes.
        atol: tolerance of log-probabilities and sums.
        torch_too: check tensors too.
        longest: tokens of the longest prefix; as many as texts will have, since a window shows only behind its length.

    Raises ValueError for the first failure.
    """
    rng, size = np.random.default_rng(seed), target.vocab_size
    prefixes = random_prefixes(rng, size)
    expected = rng.integers(Vocabulary.FIRST_WORD, size, ROWS)
    rows = target.log_probs(prefixes, expected)
    if rows.shape != (ROWS, size) or rows.dtype != np.float64:
        raise ValueError(f"log_probs must return {(ROWS, size)} float64, not {rows.shape} {rows.dtype}")
    if np.isnan(rows).any() or rows.max() > atol:
        raise ValueError(f"log-probabilities must be numbers of at most 0, but the largest is {rows.max()}")
    sums = np.exp(rows).sum(1)
    worst = int(np.abs(sums - 1.0).argmax())
    if abs(sums[worst] - 1.0) > atol:
        raise ValueError(f"probabilities must sum to 1, but after {prefixes[worst].tolist()} they sum to {sums[worst]}")
    tokens = rng.integers(0, size, ROWS)
    single = target.log_prob(prefixes, tokens, expected)
    _same("log_prob", single, "the entry of log_probs", rows[np.arange(ROWS), tokens], atol)
    alone = np.concatenate([target.log_probs(prefixes[i : i + 1], expected[i : i + 1]) for i in range(ROWS)])
    _same("log_probs of one prefix", alone, "its row in a batch", rows, atol)
    padded = np.concatenate([np.zeros((ROWS, 3), np.int64), prefixes], axis=1)
    _same("log_probs with more padding", target.log_probs(padded, expected), "log_probs with less", rows, atol)
    if isinstance(target, RecurrentTarget):
        _check_memory(target, rng, longest, atol)
    automaton = as_automaton(target)
    if isinstance(automaton, FiniteStateTarget):
        states = automaton.state_of(prefixes)
        words = rng.integers(Vocabulary.FIRST_WORD, size, ROWS)
        _same("state_log_probs", automaton.state_log_probs(states), "log_probs", rows, atol)
        gained, after = automaton.advance(states, words)
        _same("the log-probability of advance", gained, "the entry of log_probs", rows[np.arange(ROWS), words], atol)
        longer = target.log_probs(np.append(prefixes, words[:, None], axis=1), expected)
        _same("state_log_probs after advance", automaton.state_log_probs(after), "log_probs", longer, atol)
        every = automaton.next_states(states)[np.arange(ROWS), words]
        _same("next_states", every, "the states after advance", after, 0.0)
    if torch_too:
        import torch

        given = torch.from_numpy(prefixes), torch.from_numpy(tokens), torch.from_numpy(expected)
        of_rows, of_tokens = target.log_probs(given[0], given[2]), target.log_prob(*given)
        if not isinstance(of_rows, torch.Tensor) or not isinstance(of_tokens, torch.Tensor):
            raise ValueError(f"tensors as input must give tensors as output, not {type(of_rows).__name__}")
        _same("log_probs of tensors", of_rows.numpy(), "log_probs of arrays", rows, atol)
        _same("log_prob of tensors", of_tokens.numpy(), "log_prob of arrays", single, atol)


def _check_memory(target: RecurrentTarget, rng: np.random.Generator, longest: int, atol: float) -> None:
    """Three texts that go on word by word, of which one begins anew, against reading each by itself."""
    size, steps = target.vocab_size, max(1, longest // 2)
    lengths = [min(count, longest - steps - 1) for count in (longest, 3, 0)]
    words = [rng.integers(Vocabulary.FIRST_WORD, size, max(0, length)) for length in lengths]
    texts = [np.array([Vocabulary.BOS, *own]) for own in words]
    memory = target.memory(len(texts), np.zeros(0, np.int64))
    memory.begin(np.arange(len(texts)), _padded(texts))
    for step in range(steps + 1):
        whole = np.concatenate([target.log_probs(text[None]) for text in texts])
        _same(f"the memory of texts of up to {max(map(len, texts))} tokens", memory.log_probs, "log_probs", whole, atol)
        if step == steps:
            break
        tokens = rng.integers(Vocabulary.FIRST_WORD, size, len(texts))
        memory.advance(tokens, np.ones(len(texts), np.bool_))
        texts = [np.append(text, token) for text, token in zip(texts, tokens, strict=True)]
        if step == steps // 2:
            texts[1] = np.array([Vocabulary.BOS, *rng.integers(Vocabulary.FIRST_WORD, size, 2)])
            memory.begin(np.array([1]), _padded(texts[1:2]))


def _padded(texts: list[Any]) -> Any:
    """Texts as one array, left-padded with `<pad>`."""
    rows = np.zeros((len(texts), max(map(len, texts))), np.int64)
    for row, text in zip(rows, texts, strict=True):
        row[len(row) - len(text) :] = text
    return rows


def _same(what: str, got: Any, other: str, expected: Any, atol: float) -> None:
    if not np.allclose(got, expected, rtol=0.0, atol=atol):
        # inf - inf would warn; equal entries count as 0 apart.
        apart = np.abs(np.where(got == expected, 0.0, np.nan_to_num(got) - np.nan_to_num(expected))).max()
        raise ValueError(f"{what} must equal {other}, but they differ by {apart}")
