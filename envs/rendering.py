"""Text with each token coloured by its log-likelihood, for a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from .text import Tokenizer, Vocabulary

Colour = tuple[int, int, int]

EMPTY = Vocabulary.SPECIAL_TOKENS[Vocabulary.BOS]  # shown for a text without a character

_WORST = -10.0  # nats; less likely tokens have the same red
_RESET = "\x1b[0m"
_FAINT = "\x1b[2m"


def colour(log_prob: float) -> Colour:
    """(red, green, blue), 0 to 255, of a log-likelihood in nats: red (unlikely) to yellow to green (certain)."""
    goodness = min(1.0, max(0.0, 1.0 - log_prob / _WORST))
    red, green = min(1.0, 2.0 - 2.0 * goodness), min(1.0, 2.0 * goodness)
    return int(60 + 180 * red), int(60 + 150 * green), 70


def escape(log_prob: float) -> str:
    """The terminal escape sequence for the 24-bit `colour` of a log-likelihood in nats."""
    red, green, blue = colour(log_prob)
    return f"\x1b[38;2;{red};{green};{blue}m"


def pieces(tokenizer: Tokenizer, ids: Sequence[int]) -> list[str]:
    """The part of the decoded text that each token adds; joined they are the text."""
    result, before = [], ""
    for end in range(1, len(ids) + 1):
        text = tokenizer.decode(ids[:end])
        # A byte-level token may complete a character and so change the end of the text before it.
        common = len(before) if text.startswith(before) else _common_prefix(before, text)
        result.append(text[common:])
        before = text
    return result


def render_ansi(tokenizer: Tokenizer, prompt: Sequence[int], written: Sequence[int], log_probs: Sequence[float]) -> str:
    """The prompt, then every written token in the `colour` of its log-likelihood, nats.

    A faint `<bos>` stands for a text without a character, so that there is something to see.
    """
    parts = pieces(tokenizer, [*prompt, *written])
    coloured = (escape(lp) + part + _RESET for part, lp in zip(parts[len(prompt) :], log_probs, strict=True) if part)
    return "".join(parts[: len(prompt)]) + "".join(coloured) or f"{_FAINT}{EMPTY}{_RESET}"


def _common_prefix(a: str, b: str) -> int:
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
