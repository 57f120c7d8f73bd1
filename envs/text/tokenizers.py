"""Word tokenizers, and the tokenizer of the symbols of a Markov chain."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from .files import write_text_atomically
from .jieba_words import JiebaSplit, OwnWords
from .joining import join_words
from .vocabulary import Vocabulary
from .words import SPLITS, Split


class WordTokenizer:
    """A tokenizer that splits text into words.

    Args:
        name: the way to split: "jieba", "char", "word" or "nltk".
        vocabulary: the words.
        stop_words: words to leave out.
        own_words: words of the user for "jieba", with their frequencies.
    """

    def __init__(
        self,
        name: str,
        vocabulary: Vocabulary,
        stop_words: frozenset[str] = frozenset(),
        own_words: OwnWords = (),
    ) -> None:
        self.name = name
        self.vocabulary = vocabulary
        self.stop_words = stop_words
        self.own_words = own_words
        self._split = _split(name, own_words)

    @classmethod
    def train(
        cls,
        name: str,
        documents: Iterable[str],
        max_vocab_size: int | None = None,
        min_count: int = 1,
        stop_words: frozenset[str] = frozenset(),
        own_words: OwnWords = (),
    ) -> WordTokenizer:
        """A tokenizer with the vocabulary of the documents."""
        split = _split(name, own_words)
        kept = ([w for w in split(text) if w not in stop_words] for text in documents)
        return cls(name, Vocabulary.build(kept, max_vocab_size, min_count), stop_words, own_words)

    def encode(self, text: str) -> list[int]:
        """See `Tokenizer`."""
        return self.vocabulary.encode(self.words(text))

    def words(self, text: str) -> list[str]:
        """The words of a cleaned text, without stop words."""
        words = self._split(text)
        return [w for w in words if w not in self.stop_words] if self.stop_words else words

    def decode(self, ids: Sequence[int]) -> str:
        """See `Tokenizer`; exact for "char", with plausible blanks for the others."""
        words = [self.vocabulary.token(int(i)) for i in ids if i >= Vocabulary.FIRST_WORD]
        return "".join(words) if self.name == "char" else join_words(words)

    def save(self, folder: str | Path) -> None:
        """See `Tokenizer`."""
        settings = {"name": self.name, "stop_words": sorted(self.stop_words), "own_words": self.own_words}
        write_text_atomically(Path(folder) / "settings.json", json.dumps(settings, ensure_ascii=False) + "\n")
        self.vocabulary.save(Path(folder) / "vocabulary.json")


def _split(name: str, own_words: OwnWords) -> Split:
    return JiebaSplit(own_words) if name == "jieba" else SPLITS[name]


class SymbolTokenizer:
    """The tokenizer of a `markov` target: numbers separated by blanks.

    Args:
        vocab_size: V, the five special tokens included.
    """

    name = "symbol"

    def __init__(self, vocab_size: int) -> None:
        self.vocabulary = Vocabulary(str(i) for i in range(Vocabulary.FIRST_WORD, vocab_size))

    def encode(self, text: str) -> list[int]:
        """See `Tokenizer`."""
        return self.vocabulary.encode(self.words(text))

    def words(self, text: str) -> list[str]:
        """The numbers of a text."""
        return text.split()

    def decode(self, ids: Sequence[int]) -> str:
        """See `Tokenizer`."""
        return " ".join(self.vocabulary.token(int(i)) for i in ids if i >= Vocabulary.FIRST_WORD)

    def save(self, folder: str | Path) -> None:
        """See `Tokenizer`."""
        settings = {"name": self.name, "vocab_size": len(self.vocabulary)}
        write_text_atomically(Path(folder) / "settings.json", json.dumps(settings) + "\n")
