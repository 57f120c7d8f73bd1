"""Tests of a stranger's model when it is loaded: that it is causal, and that its cache can be used."""

from __future__ import annotations

import torch
from torch import Tensor

from ..text import Vocabulary
from .transformer_models import SLACK, CachedModel, WholeTextModel

_STEPS = 8  # of the test of a cache
_TOLERANCE = 2e-3  # nats; rounding in float32 is below


@torch.no_grad()
def check_causal(model: WholeTextModel, length: int, name: str) -> None:
    """Raise ValueError if a token changes the log-probabilities before it, in texts of `length` tokens."""
    text = _random_texts(model, 1, max(length, 2)).repeat(3, 1)
    half = text.shape[1] // 2
    text[1, -1] = _another(model, text[1, -1])
    text[2, half] = _another(model, text[2, half])
    try:
        logits = model.model(input_ids=model.to_model[text]).logits.to(torch.float64)
    except Exception as problem:  # the library and the model's own code may raise anything
        reason = (str(problem).splitlines() or [type(problem).__name__])[0]
        raise ValueError(f"the model {name!r} cannot read a text of {text.shape[1]} tokens: {reason}") from None
    log_probs = torch.log_softmax(logits, -1)
    for row, place in ((1, text.shape[1] - 1), (2, half)):
        change = float((log_probs[row, :place] - log_probs[0, :place]).abs().max()) if place else 0.0
        if not change <= _TOLERANCE:
            raise ValueError(
                f"the model {name!r} is not causal: a token changes the log-probabilities before it by up to "
                f"{change:.2g} nats; use a model that reads from left to right"
            )


@torch.no_grad()
def cache_agrees(cached: CachedModel, whole: WholeTextModel, longest: int) -> bool:
    """Whether the cache gives what reading whole texts gives, at all positions in use.

    Three texts of different lengths are read together and go on; two of them begin anew on the way. The longest has
    `longest` tokens in the end, because a sliding window or a change of position codes shows only behind its length.
    The cache has as many columns as it can ever have.
    """
    steps = min(_STEPS, longest - 1)
    if steps < 1:
        return True
    lengths = [longest - steps, min(3, longest - steps), min(9, longest - steps)]
    texts = [_random_texts(whole, 1, length)[0] for length in lengths]
    active = torch.ones(len(texts), dtype=torch.bool, device=whole.device)
    try:
        found, state = cached.read(_together(texts, longest - steps + SLACK))
        for step in range(steps + 1):
            if step in (0, steps // 2, steps):
                expected = torch.cat([whole.read(text[None])[0] for text in texts])
                if not _same(found, expected):
                    return False
            if step == steps // 2:
                anew = torch.tensor([1, 2], device=whole.device)
                lengths = [max(1, longest // 2 - steps), 1]
                texts[1:] = [_random_texts(whole, 1, length)[0] for length in lengths]
                fresh, begun = cached.read(_together(texts[1:], max(lengths)))
                state = cached.put(state, anew, begun)
                found = found.index_copy(0, anew, fresh)
            if step < steps:
                tokens = _random_texts(whole, len(texts), 1)[:, 0]
                found, state = cached.step(tokens, state, active)
                texts = [torch.cat([text, token[None]]) for text, token in zip(texts, tokens, strict=True)]
    except Exception:  # a model without such a cache may raise anything, from its own code
        return False
    return True


def _same(found: Tensor, expected: Tensor) -> bool:
    finite = torch.isfinite(expected)
    return bool((torch.isfinite(found) == finite).all() and (found - expected)[finite].abs().max() <= _TOLERANCE)


def _random_texts(model: WholeTextModel, count: int, length: int) -> Tensor:
    """(count, length) random words, the same at every call of the same shape."""
    generator = torch.Generator().manual_seed(count * 1_000_003 + length)
    words = torch.randint(Vocabulary.FIRST_WORD, model.vocab_size, (count, length), generator=generator)
    return words.to(model.device)


def _another(model: WholeTextModel, word: Tensor) -> Tensor:
    """A word that is not `word`, if there are two."""
    first = Vocabulary.FIRST_WORD
    return first + (word - first + 1) % (model.vocab_size - first)


def _together(texts: list[Tensor], width: int) -> Tensor:
    """Texts as one batch of `width` columns, left-padded."""
    return torch.stack([torch.nn.functional.pad(t, (width - len(t), 0), value=Vocabulary.PAD) for t in texts])
