"""Cleaning of raw text: Unicode NFC, white space, and optional steps."""

from __future__ import annotations

import re
import string
import unicodedata
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from pathlib import Path

from .reading import read_lines

STOP_WORDS = ("zh", "en")
_OVERRIDES = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_SPACES = re.compile(r"\s+")


@dataclass(frozen=True)
class Cleaning:
    """Optional steps of cleaning a document, all off by default.

    Always, text is normalised to Unicode NFC, control characters, byte-order marks and zero-width spaces are removed,
    and white space is trimmed and collapsed. Joiners inside emoji are kept.

    Args:
        remove_punctuation: remove punctuation of every script and ASCII symbols, but not emoji.
        stop_words: "zh", "en", "zh+en" or a file with one word per line: words that word tokenizers leave out. Text and
            list are compared after the other steps, so "The" matches "the" only with lower_case.
        lower_case: convert to lower case.
        full_width_to_half: convert full-width Latin letters, digits and punctuation to half width.
    """

    remove_punctuation: bool = False
    stop_words: str | None = None
    lower_case: bool = False
    full_width_to_half: bool = False

    def __call__(self, text: str) -> str:
        """The cleaned text, on one line. Stop words are removed later, by the tokenizer."""
        text = unicodedata.normalize("NFC", text)
        if self.full_width_to_half:
            text = "".join(_half_width(c) for c in text)
        if self.lower_case:
            text = unicodedata.normalize("NFC", text.lower())
        if self.remove_punctuation:
            text = "".join(" " if _is_punctuation(c) else c for c in text)
        text = _SPACES.sub(" ", text)
        if not text.isprintable():
            text = "".join(c for c in text if _keeps(c))
        # A removed character may have been between two blanks, or between a letter and its accent.
        return unicodedata.normalize("NFC", _SPACES.sub(" ", text).strip())

    def stop_word_set(self) -> frozenset[str]:
        """The stop words, cleaned like the text; empty if `stop_words` is None.

        Raises: FileNotFoundError for a missing file, ValueError for one that cannot be read.
        """
        if self.stop_words is None:
            return frozenset()
        names = self.stop_words.split("+")
        if all(name in STOP_WORDS for name in names):
            words = [word for name in names for word in _built_in_stop_words(name)]
        else:
            try:
                words = list(read_lines(Path(self.stop_words)))
            except FileNotFoundError:
                raise FileNotFoundError(
                    f"there is no stop-word list {self.stop_words!r}; "
                    "use 'zh', 'en', 'zh+en' or a file with one word per line"
                ) from None
        return frozenset(word for line in words if (word := self(line)))


def for_terminal(text: str) -> str:
    """`text` with U+FFFD for characters that would steer a terminal: controls but line feed and tab, bidi overrides."""
    return "".join("\ufffd" if _steers(c) else c for c in text)


def _steers(character: str) -> bool:
    return (unicodedata.category(character) == "Cc" and character not in "\n\t") or character in _OVERRIDES


def _is_punctuation(character: str) -> bool:
    return unicodedata.category(character)[0] == "P" or _half_width(character) in string.punctuation


def _half_width(character: str) -> str:
    if character == "\u3000":
        return " "
    return chr(ord(character) - 0xFEE0) if "\uff01" <= character <= "\uff5e" else character


def _keeps(character: str) -> bool:
    # U+200D joins the parts of an emoji; U+200C is a letter form of Persian and Indic scripts.
    return (
        character in "\u200c\u200d" or unicodedata.category(character) not in ("Cc", "Cf", "Cs") or character in _TAGS
    )


_TAGS = frozenset(chr(c) for c in range(0xE0020, 0xE0080))  # tag characters of regional flags


@lru_cache(maxsize=2)
def _built_in_stop_words(name: str) -> frozenset[str]:
    text = (resources.files(__package__) / "data" / f"stop_words_{name}.txt").read_text(encoding="utf-8")
    return frozenset(text.split())
