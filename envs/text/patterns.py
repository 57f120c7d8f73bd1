"""Regular expressions for words of every script."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

UNKNOWN = "<unk>"  # rare words in WikiText

_CJK = r"\u3005-\u3007\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003134f"
_THOUSANDS = r"(?<![\d,.])\d{1,3}(?:,\d{3})+(?:\.\d+)?(?!\d)"
_ASCII = r"[\x00-\x7f]"
_FLAG = r"[\U0001f1e6-\U0001f1ff]{2}"


@lru_cache(maxsize=1)
def word_pattern() -> re.Pattern[str]:
    """One word: "<unk>", a Chinese character or kana, a number, letters with inner apostrophes, or one mark.

    Accents and vowel signs stay with their letter, and the code points of an emoji together.
    """
    letter, rest, changes = _letters()
    number = rf"{_THOUSANDS}|\d+(?:[.:]\d+)+"
    return re.compile(rf"{UNKNOWN}|[{_CJK}][{_marks()}]*|{number}|{letter}{rest}|{_FLAG}|[^\w\s](?:{changes})*")


@lru_cache(maxsize=1)
def foreign_pattern() -> re.Pattern[str]:
    """Words that jieba would cut into single code points, as one group, so that `re.split` keeps them.

    "<unk>", words with letters beyond ASCII and Chinese, emoji of several code points, and 1,000.
    """
    letter, rest, changes = _letters()
    beyond = rf"(?:(?!{_ASCII}){letter}|[A-Za-z][{_marks()}])"
    # The lookbehind matches only at the start of a run of letters, or the search would take quadratic time.
    word = rf"(?<![A-Za-z])[A-Za-z]*{beyond}{rest}"
    return re.compile(rf"({UNKNOWN}|{word}|{_FLAG}|\S(?:{changes})+|{_THOUSANDS})")


def _letters() -> tuple[str, str, str]:
    """Patterns of a letter other than Chinese, of the rest of its word, and of modifiers of the symbol before."""
    letter = rf"(?![{_CJK}])\w"
    inside = rf"(?:(?![{_CJK}])[\w{_marks()}\u200c\u200d])"
    # Accents, emoji variants, skin tones, tag characters of regional flags, and joined emoji.
    changes = rf"[{_marks()}\U0001f3fb-\U0001f3ff\U000e0020-\U000e007f]|\u200d[^\w\s]"
    return letter, rf"{inside}*(?:['’]{letter}{inside}*)*", changes


@lru_cache(maxsize=1)
def _marks() -> str:
    """Combining marks as ranges of a character class; the skipped planes have ideographs only."""
    codes = [c for c in (*range(0x300, 0x20000), *range(0xE0100, 0xE01F0)) if unicodedata.category(chr(c))[0] == "M"]
    known = set(codes)
    starts = [c for c in codes if c - 1 not in known]
    ends = [c for c in codes if c + 1 not in known]
    return "".join(f"{chr(a)}-{chr(b)}" for a, b in zip(starts, ends, strict=True))
