"""Making a tokenizer from its name, and loading a saved one."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ..arguments import nearest
from .files import read_json
from .jieba_words import OwnWords, read_own_words
from .limits import LIMITS, raised_by
from .pair_tokenizers import LabelTokenizer, PairTokenizer
from .protocol import Tokenizer
from .subwords import SubwordTokenizer
from .tokenizers import SymbolTokenizer, WordTokenizer
from .vocabulary import Vocabulary
from .words import SPLITS

NAMES = (*SPLITS, "bpe")


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
        name: "jieba", "char", "word", "nltk", "bpe" (trained on the documents), or the path of a Hugging Face
            tokenizer.json, which has its own vocabulary.
        documents: cleaned texts.
        max_vocab_size: most tokens, special ones included; None for no limit (8,000 for "bpe").
        min_count: words with fewer occurrences become `<unk>`; "bpe" does not merge pairs with fewer.
        stop_words: words that word tokenizers leave out.
        user_dictionary: a file of extra words for "jieba", one per line, each optionally followed by its frequency.
            They are saved with the tokenizer.

    Raises: ValueError for an unknown name or settings that it does not take, FileNotFoundError for a missing file,
        ImportError naming a missing extra.
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
            raise ValueError(f"the tokenizer {name!r} takes no stop words; use one of {', '.join(SPLITS)}")
        if name == "bpe":
            return SubwordTokenizer.train(documents, max_vocab_size or 8_000, min_count)
        return SubwordTokenizer.from_file(name)
    raise ValueError(
        f"tokenizer {name!r} is unknown{nearest(name, NAMES)}; "
        f"use one of {', '.join(NAMES)} or the path of a tokenizer.json"
    )


def load_tokenizer(folder: str | Path) -> Tokenizer:
    """Load the tokenizer that `save` wrote to `folder`."""
    path = Path(folder) / "settings.json"
    if not path.exists():
        raise FileNotFoundError(f"{folder} holds no saved tokenizer (no settings.json)")
    settings = read_json(path)
    name = settings.get("name") if isinstance(settings, dict) else None
    if name in ("pair", "label"):
        return _load_sides(Path(folder), settings)
    try:
        if name == SymbolTokenizer.name:
            return SymbolTokenizer(_vocab_size(settings["vocab_size"], path))
        if name in SPLITS:
            vocabulary = Vocabulary.load(Path(folder) / "vocabulary.json")
            return WordTokenizer(name, vocabulary, _stop_words(settings), _own_words(settings))
    except (KeyError, TypeError):
        name = None
    if not isinstance(name, str):
        raise ValueError(f"{path} does not describe a tokenizer; write it with the method `save` of one")
    return SubwordTokenizer.from_file(Path(folder) / "tokenizer.json", name)


def _vocab_size(value: Any, path: Path) -> int:
    least = Vocabulary.FIRST_WORD + 1
    if not isinstance(value, int) or not least <= value <= LIMITS.tokens:
        raise ValueError(
            f"{path}: vocab_size must be a whole number from {least} to {LIMITS.tokens:,}, not {value!r}; "
            f"{raised_by('tokens')}"
        )
    return value


def _stop_words(settings: dict[str, Any]) -> frozenset[str]:
    words = settings["stop_words"]
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise TypeError("stop_words")
    return frozenset(words)


def _own_words(settings: dict[str, Any]) -> OwnWords:
    words = []
    for entry in settings.get("own_words", ()):
        word, frequency = entry if isinstance(entry, list) and len(entry) == 2 else (None, None)
        if not isinstance(word, str) or not isinstance(frequency, int | None):
            raise TypeError("own_words")
        words.append((word, frequency))
    return tuple(words)


def _load_sides(folder: Path, settings: dict[str, Any]) -> Tokenizer:
    """Load a `PairTokenizer` or `LabelTokenizer`."""
    if settings["name"] == LabelTokenizer.name:
        return LabelTokenizer(Vocabulary.load(folder / "vocabulary.json"))
    wrong = f"{folder / 'settings.json'} does not describe a tokenizer of pairs; save it again"
    try:
        separate, writable = bool(settings["separate"]), [int(i) for i in settings["writable"]]
    except (KeyError, TypeError, ValueError, OverflowError):
        raise ValueError(wrong) from None
    target = _side(folder / "target")
    source = _side(folder / "source") if separate else None
    if writable and not 0 <= min(writable) <= max(writable) < len(target.vocabulary):
        raise ValueError(wrong)
    return PairTokenizer(target, source, writable)


def _side(folder: Path) -> Tokenizer:
    """The tokenizer of one side of a pair, which is not one of pairs itself."""
    settings = read_json(folder / "settings.json")
    if isinstance(settings, dict) and settings.get("name") == PairTokenizer.name:
        raise ValueError(f"{folder} must hold the tokenizer of one side, not one of pairs")
    return load_tokenizer(folder)
