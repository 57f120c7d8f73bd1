"""Ways to cut text into words: characters, a regular expression, jieba, NLTK."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from functools import lru_cache
from typing import Any

Split = Callable[[str], list[str]]

_CJK = r"\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\u3040-\u30ff\U00020000-\U0003134f"
_WORD = re.compile(rf"[{_CJK}]|(?:(?![{_CJK}])\w)+(?:['’](?:(?![{_CJK}])\w)+)*|\d+(?:[.,]\d+)+|[^\w\s]")


def split_characters(text: str) -> list[str]:
    """Every Unicode code point by itself."""
    return list(text)


def split_words(text: str) -> list[str]:
    """Words (with inner apostrophes), numbers, Chinese characters and Japanese kana one by one, single marks."""
    return _WORD.findall(text)


def split_jieba(text: str) -> list[str]:
    """Chinese words by jieba's dictionary and hidden Markov model, blanks left out."""
    return [word for word in _jieba().cut(text) if not word.isspace()]


def split_nltk(text: str) -> list[str]:
    """English words as NLTK's word tokenizer cuts them, which needs no downloaded data."""
    return list(_nltk().tokenize(text))


@lru_cache(maxsize=1)
def _jieba() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # jieba's own source has invalid escapes and uses deprecated packages
        import jieba
    tokenizer = jieba.Tokenizer()
    # jieba would keep its parsed dictionary in a file of the shared temporary folder that anybody may write, and load
    # that file again; parsing takes a second and trusts nobody.
    tokenizer.FREQ, tokenizer.total = tokenizer.gen_pfdict(tokenizer.get_dict_file())
    tokenizer.initialized = True
    return tokenizer


@lru_cache(maxsize=1)
def _nltk() -> Any:
    try:
        from nltk.tokenize import NLTKWordTokenizer
    except ImportError:
        raise ImportError('the tokenizer "nltk" needs the library nltk; pip install "tokenlm[nltk]"') from None
    return NLTKWordTokenizer()


SPLITS: dict[str, Split] = {
    "jieba": split_jieba,
    "char": split_characters,
    "word": split_words,
    "nltk": split_nltk,
}
