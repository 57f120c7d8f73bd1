"""Detokenization: joining words into text."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

_OPENING = frozenset("([{“‘«<#@$£€¥")
_TIGHT = frozenset("-–—/_'’·‧~")
_CHINESE_STYLE = frozenset("“”‘’…—·")  # punctuation of Chinese and Latin text, with different spacing
_ENDINGS = ("s", "re", "ve", "ll", "d", "m", "t")
_CONTRACTIONS = frozenset(("n't", "n’t", *(mark + e for mark in "'’" for e in _ENDINGS)))


def join_words(words: Iterable[str]) -> str:
    """Join words: Chinese without blanks, others with one blank, punctuation without a blank where usual.

    Further words never change the text before them, so the text of a prefix is a prefix of the text.
    """
    text, before = "", ""
    quoted = chinese = False
    for word in words:
        if not word:
            continue
        if before and _wants_blank(before, word, quoted, chinese):
            text += " "
        text += word
        if word == '"':
            quoted = not quoted
        chinese = chinese or any(_is_ideographic(c) for c in word)
        before = word
    return text


def close_up(text: str) -> str:
    """Remove the blanks next to Chinese characters and Japanese kana."""
    parts = text.split(" ")
    result = parts[0]
    for part in parts[1:]:
        beside = bool(result and part) and (_is_ideographic(result[-1]) or _is_ideographic(part[0]))
        result += part if beside else " " + part
    return result


def _wants_blank(before: str, word: str, quoted: bool, chinese: bool) -> bool:
    left, right = before[-1], word[0]
    if _is_ideographic(left) or _is_ideographic(right) or left.isspace() or right.isspace():
        return False
    if chinese and (left in _CHINESE_STYLE or right in _CHINESE_STYLE):
        return False
    if _is_emoji(before) and _is_emoji(word):
        return False
    if word.lower() in _CONTRACTIONS or left in _OPENING or _TIGHT.issuperset(word) or _TIGHT.issuperset(before):
        return False
    if word == '"' or before == '"':
        # No blank on the inner side of a quotation mark, one on the outer side.
        return not quoted
    return right in _OPENING or right in "&*" or unicodedata.category(right)[0] != "P"


def _is_emoji(word: str) -> bool:
    return unicodedata.category(word[0]) == "So" and not _is_ideographic(word[0])


def _is_ideographic(character: str) -> bool:
    """Whether a character takes no blanks: Chinese, kana and full-width punctuation, but not Hangul or emoji."""
    if character < "\u2e80" or unicodedata.east_asian_width(character) not in "WF":
        return False
    return not any(first <= character <= last for first, last in _SPACED)


# Hangul (compatibility letters, old letters, syllables) and emoji are wide like Chinese but take blanks.
_SPACED = (("\u3130", "\u318f"), ("\ua960", "\ua97f"), ("\uac00", "\ud7ff"), ("\U0001f000", "\U0001fbff"))
