"""Tokenizers: text to ids and back, behind one small protocol."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from ..arguments import nearest
from .files import read_json, write_text_atomically
from .jieba_words import JiebaSplit, OwnWords, read_own_words
from .joining import join_words
from .vocabulary import Vocabulary
from .words import SPLITS, Split

NAMES = (*SPLITS, "bpe")


@runtime_checkable
class Tokenizer(Protocol):
    """Text to token ids and back.

    Attributes:
        name: what it is called in a configuration.
        vocabulary: its tokens.
    """

    name: str
    vocabulary: Vocabulary

    def encode(self, text: str) -> list[int]:
        """Ids of a cleaned text, `<unk>` for what the vocabulary does not hold; no other special token."""
        ...

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids; special tokens are not shown."""
        ...

    def save(self, folder: str | Path) -> None:
        """Write all that `load_tokenizer` needs into a folder, as JSON."""
        ...


class WordTokenizer:
    """Cuts text into words, which a vocabulary numbers.

    Args:
        name: how to cut: "jieba", "char", "word" or "nltk".
        vocabulary: the words.
        stop_words: words that are left out.
        own_words: words of the user that "jieba" shall know, with their frequencies.
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
        """A tokenizer whose vocabulary is that of the documents."""
        split = _split(name, own_words)
        kept = ([w for w in split(text) if w not in stop_words] for text in documents)
        return cls(name, Vocabulary.build(kept, max_vocab_size, min_count), stop_words, own_words)

    def encode(self, text: str) -> list[int]:
        """See `Tokenizer`."""
        words = self._split(text)
        if self.stop_words:
            words = [w for w in words if w not in self.stop_words]
        return self.vocabulary.encode(words)

    def decode(self, ids: Sequence[int]) -> str:
        """See `Tokenizer`; exact for "char", readable for the others."""
        words = [self.vocabulary.token(int(i)) for i in ids if i >= len(Vocabulary.SPECIAL_TOKENS)]
        return "".join(words) if self.name == "char" else join_words(words)

    def save(self, folder: str | Path) -> None:
        """See `Tokenizer`."""
        settings = {"name": self.name, "stop_words": sorted(self.stop_words), "own_words": self.own_words}
        write_text_atomically(Path(folder) / "settings.json", json.dumps(settings, ensure_ascii=False) + "\n")
        self.vocabulary.save(Path(folder) / "vocabulary.json")


def _split(name: str, own_words: OwnWords) -> Split:
    return JiebaSplit(own_words) if name == "jieba" else SPLITS[name]


class SymbolTokenizer:
    """The tokens of a `markov` target: numbers, written with blanks between them.

    Args:
        vocab_size: V, the five special tokens included.
    """

    name = "symbol"

    def __init__(self, vocab_size: int) -> None:
        self.vocabulary = Vocabulary(str(i) for i in range(len(Vocabulary.SPECIAL_TOKENS), vocab_size))

    def encode(self, text: str) -> list[int]:
        """See `Tokenizer`."""
        return self.vocabulary.encode(text.split())

    def decode(self, ids: Sequence[int]) -> str:
        """See `Tokenizer`."""
        return " ".join(self.vocabulary.token(int(i)) for i in ids if i >= len(Vocabulary.SPECIAL_TOKENS))

    def save(self, folder: str | Path) -> None:
        """See `Tokenizer`."""
        settings = {"name": self.name, "vocab_size": len(self.vocabulary)}
        write_text_atomically(Path(folder) / "settings.json", json.dumps(settings) + "\n")


def make_tokenizer(
    name: str | Path,
    documents: Iterable[str],
    *,
    max_vocab_size: int | None = None,
    min_count: int = 1,
    stop_words: frozenset[str] = frozenset(),
    user_dictionary: str | Path | None = None,
) -> Tokenizer:
    """A tokenizer with the vocabulary of `documents`.

    Args:
        name: "jieba", "char", "word", "nltk", "bpe" (trained on the documents) or the path of a Hugging Face
            tokenizer.json, whose own vocabulary is taken.
        documents: cleaned texts.
        max_vocab_size: most tokens, special ones included; None for no limit (8,000 for "bpe").
        min_count: tokens seen less often become `<unk>` ("bpe": pairs seen less often are not merged).
        stop_words: words that word tokenizers leave out.
        user_dictionary: file of own words for "jieba", a word a line, its frequency behind it if wanted. The words
            are saved with the tokenizer.

    Raises: ValueError for an unknown name or settings that do not fit it, FileNotFoundError for a missing file,
        ImportError naming the extra that is missing.
    """
    name = str(name)
    own_words: OwnWords = ()
    if user_dictionary is not None:
        if name != "jieba":
            raise ValueError(f"only the tokenizer 'jieba' takes a user dictionary, not {name!r}")
        own_words = read_own_words(user_dictionary)
    if name in SPLITS:
        return WordTokenizer.train(name, documents, max_vocab_size, min_count, stop_words, own_words)
    if name == "bpe" or name.endswith(".json"):
        if stop_words:
            raise ValueError(
                f"stop words are words, and the tokenizer {name!r} has none; use one of {', '.join(SPLITS)}"
            )
        from .subwords import SubwordTokenizer

        if name == "bpe":
            return SubwordTokenizer.train(documents, max_vocab_size or 8_000, min_count)
        return SubwordTokenizer.from_file(name)
    raise ValueError(
        f"tokenizer {name!r} is unknown{nearest(name, NAMES)}; "
        f"use one of {', '.join(NAMES)} or the path of a tokenizer.json"
    )


def load_tokenizer(folder: str | Path) -> Tokenizer:
    """The tokenizer that `save` wrote into `folder`."""
    path = Path(folder) / "settings.json"
    if not path.exists():
        raise FileNotFoundError(f"{folder} holds no saved tokenizer (no settings.json)")
    settings = read_json(path)
    name = settings.get("name") if isinstance(settings, dict) else None
    if name in ("pair", "label"):
        return _load_sides(Path(folder), settings)
    try:
        if name == SymbolTokenizer.name:
            return SymbolTokenizer(settings["vocab_size"])
        if name in SPLITS:
            vocabulary = Vocabulary.load(Path(folder) / "vocabulary.json")
            own_words = tuple((word, frequency) for word, frequency in settings.get("own_words", ()))
            return WordTokenizer(name, vocabulary, frozenset(settings["stop_words"]), own_words)
    except (KeyError, TypeError):
        name = None
    if not isinstance(name, str):
        raise ValueError(f"{path} does not describe a tokenizer; save one there with its method `save`")
    from .subwords import SubwordTokenizer

    return SubwordTokenizer.from_file(Path(folder) / "tokenizer.json", name)


def _load_sides(folder: Path, settings: dict[str, Any]) -> Tokenizer:
    """A `PairTokenizer` or `LabelTokenizer`, which are made of these here."""
    from .pair_tokenizers import LabelTokenizer, PairTokenizer

    if settings["name"] == LabelTokenizer.name:
        return LabelTokenizer(Vocabulary.load(folder / "vocabulary.json"))
    try:
        separate, writable = bool(settings["separate"]), [int(i) for i in settings["writable"]]
    except (KeyError, TypeError, ValueError):
        raise ValueError(f"{folder / 'settings.json'} does not describe a tokenizer of pairs; save it again") from None
    return PairTokenizer(
        load_tokenizer(folder / "target"), load_tokenizer(folder / "source") if separate else None, writable
    )
