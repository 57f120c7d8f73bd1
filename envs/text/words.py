"""Ways to cut text into words: characters, a regular expression, NLTK, and jieba beside them."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from .jieba_words import JiebaSplit
from .patterns import UNKNOWN, word_pattern

Split = Callable[[str], list[str]]


def split_characters(text: str) -> list[str]:
    """Every Unicode code point by itself."""
    return list(text)


def split_words(text: str) -> list[str]:
    """Words (with inner apostrophes), numbers, Chinese characters and Japanese kana one by one, single marks."""
    return word_pattern().findall(text)


def split_nltk(text: str) -> list[str]:
    """English words as NLTK's word tokenizer cuts them, which needs no downloaded data; quotes stay as written."""
    words: list[str] = []
    for part in re.split(f"({UNKNOWN})", text):
        if part == UNKNOWN:
            words.append(part)
            continue
        # NLTK turns " into `` and ''; what stood there is put back, in order.
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
