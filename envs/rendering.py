"""The text so far, each token tinted by its log-likelihood: for a terminal, and which tint it is."""

from __future__ import annotations

from collections.abc import Sequence

from .text import Tokenizer

Colour = tuple[int, int, int]

_WORST = -10.0  # nats; less likely tokens are as red as it gets
_RESET = "\x1b[0m"


def colour(log_prob: float) -> Colour:
    """Red, green and blue, 0 to 255: from red (unlikely) over yellow to green (certain)."""
    goodness = min(1.0, max(0.0, 1.0 - log_prob / _WORST))
    red, green = min(1.0, 2.0 - 2.0 * goodness), min(1.0, 2.0 * goodness)
    return int(60 + 180 * red), int(60 + 150 * green), 70


def tint(log_prob: float) -> str:
    """Terminal escape for the 24-bit colour of a log-likelihood in nats."""
    red, green, blue = colour(log_prob)
    return f"\x1b[38;2;{red};{green};{blue}m"


def pieces(tokenizer: Tokenizer, ids: Sequence[int]) -> list[str]:
    """What each token adds to the decoded text; together they are the text."""
    result, before = [], ""
    for end in range(1, len(ids) + 1):
        text = tokenizer.decode(ids[:end])
        # A byte-level token may complete a character that was only half there and so rewrite the tail.
        common = len(before) if text.startswith(before) else _common_prefix(before, text)
        result.append(text[common:])
        before = text
    return result


def render_ansi(tokenizer: Tokenizer, prompt: Sequence[int], written: Sequence[int], log_probs: Sequence[float]) -> str:
    """The prompt as it is, then every written token in the colour of its log-likelihood."""
    parts = pieces(tokenizer, [*prompt, *written])
    coloured = (tint(lp) + part + _RESET for part, lp in zip(parts[len(prompt) :], log_probs, strict=True) if part)
    return "".join(parts[: len(prompt)]) + "".join(coloured)


def _common_prefix(a: str, b: str) -> int:
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
