"""Putting words back together so that they read as text."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

_OPENING = frozenset("([{“‘«<#@$£€¥")
_APOSTROPHES = (
    "'s",
    "'re",
    "'ve",
    "'ll",
    "'d",
    "'m",
    "'t",
    "n't",
    "’s",
    "’re",
    "’ve",
    "’ll",
    "’d",
    "’m",
    "’t",
)
_TIGHT = frozenset("-/_'’")


def join_words(words: Iterable[str]) -> str:
    """Words as text: Chinese without blanks, others with one between them, punctuation where it belongs."""
    text = ""
    quoted = False
    for word in words:
        opens = word == '"' and not quoted
        if text and word and _wants_blank(text, word, quoted):
            text += " "
        text += word
        if word == '"':
            quoted = opens
    return text


def _wants_blank(text: str, word: str, quoted: bool) -> bool:
    left, right = text[-1], word[0]
    if _is_wide(left) or _is_wide(right) or left.isspace() or right.isspace():
        return False
    if word.lower() in _APOSTROPHES or left in _OPENING or (word in _TIGHT) or left in _TIGHT:
        return False
    if word == '"' or left == '"':
        # Inside the quotes their marks stand close, outside they keep a distance.
        return not quoted
    if right in _OPENING or unicodedata.category(right)[0] != "P":
        return True
    return right in "&*"


def _is_wide(character: str) -> bool:
    """Whether a character belongs to scripts that are written without blanks, or to their punctuation."""
    return unicodedata.east_asian_width(character) in "WF" or character in "“”‘’…—·"
