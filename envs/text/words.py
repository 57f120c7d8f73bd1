"""Word segmentation: characters, a regular expression, NLTK and jieba."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from .jieba_words import JiebaSplit
from .patterns import UNKNOWN, word_pattern

Split = Callable[[str], list[str]]


def split_characters(text: str) -> list[str]:
    """Single Unicode code points."""
    return list(text)


def split_words(text: str) -> list[str]:
    """Words with inner apostrophes, numbers, single Chinese characters, kana and punctuation marks."""
    return word_pattern().findall(text)


def split_nltk(text: str) -> list[str]:
    """English words of NLTK's `NLTKWordTokenizer`, which needs no downloaded data; quotes stay as written."""
    words: list[str] = []
    for part in re.split(f"({UNKNOWN})", text):
        if part == UNKNOWN:
            words.append(part)
            continue
        # NLTK turns " into `` and ''; the original quotes are put back in order.
        quotes = iter(re.findall(r"\"|``|''", part))
        words += [next(quotes, word) if word in _QUOTES else word for word in _nltk().tokenize(part)]
    return words


_QUOTES = frozenset(('"', "``", "''"))


@lru_cache(maxsize=1)
def _nltk() -> Any:
    try:
        from nltk.tokenize import NLTKWordTokenizer
    except ImportError:
        raise ImportError('the tokenizer "nltk" needs the library nltk; pip install "tokenlm[nltk]"') from None
    return NLTKWordTokenizer()


SPLITS: dict[str, Split] = {
    "jieba": JiebaSplit(),
    "char": split_characters,
    "word": split_words,
    "nltk": split_nltk,
}
