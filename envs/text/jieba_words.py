"""Chinese word segmentation by jieba, without its warnings and its cache file."""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from .opening import shown
from .patterns import foreign_pattern
from .reading import read_lines

OwnWords = tuple[tuple[str, int | None], ...]

_ENTRY = re.compile(r"(\S+)(?:\s+([0-9]{1,15}))?(?:\s+[A-Za-z]+)?")


@dataclass(frozen=True)
class JiebaSplit:
    """Word segmentation by jieba's dictionary and hidden Markov model, without blanks.

    Words that jieba would cut into single letters or code points (café, emoji of several code points) stay whole.

    Args:
        own_words: words in addition to jieba's dictionary, each with its frequency; None for a frequency high enough
            that it stays whole.
    """

    own_words: OwnWords = ()

    def __call__(self, text: str) -> list[str]:
        """The words of a text."""
        cut = _jieba(self.own_words).cut
        words: list[str] = []
        for number, piece in enumerate(foreign_pattern().split(text)):
            if number % 2:
                words.append(piece)
            elif piece:
                words += [word for word in cut(piece) if not word.isspace()]
        return words


def read_own_words(path: str | Path) -> OwnWords:
    """Words from a file in jieba's format, `word [frequency] [word class]` per line.

    Raises: FileNotFoundError for a missing file, ValueError with a malformed line.
    """
    words: list[tuple[str, int | None]] = []
    for number, line in enumerate(read_lines(Path(path)), 1):
        if not line.strip():
            continue
        entry = _ENTRY.fullmatch(line.strip())
        if entry is None or (entry[2] is not None and int(entry[2]) < 1):
            raise ValueError(
                f"line {number} of {path} is {shown(line)}; it must be a word, optionally followed by a frequency of "
                "at least 1 and a word class"
            )
        words.append((entry[1], None if entry[2] is None else int(entry[2])))
    if not words:
        raise ValueError(f"{path} is empty; a dictionary needs at least one word")
    return tuple(words)


@lru_cache(maxsize=4)
def _jieba(own_words: OwnWords) -> Any:
    tokenizer = _library().Tokenizer()
    frequencies, total = _dictionary()
    tokenizer.FREQ, tokenizer.total = (dict(frequencies) if own_words else frequencies), total
    tokenizer.initialized = True
    for word, frequency in own_words:
        tokenizer.add_word(word, frequency)
    return tokenizer


@lru_cache(maxsize=1)
def _dictionary() -> tuple[dict[str, int], int]:
    # jieba itself caches its parsed dictionary as a file in the shared temporary folder, which other users can write.
    # Parsing takes a second and is safe.
    tokenizer = _library().Tokenizer()
    frequencies, total = tokenizer.gen_pfdict(tokenizer.get_dict_file())
    return frequencies, total


@lru_cache(maxsize=1)
def _library() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # jieba's source has invalid escapes and uses deprecated packages
        import jieba
    return jieba
