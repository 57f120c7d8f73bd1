"""Making a tokenizer from its name, and loading a saved one."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ..arguments import nearest
from .files import read_json
from .jieba_words import OwnWords, read_own_words
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
            return SymbolTokenizer(settings["vocab_size"])
        if name in SPLITS:
            vocabulary = Vocabulary.load(Path(folder) / "vocabulary.json")
            own_words = tuple((word, frequency) for word, frequency in settings.get("own_words", ()))
            return WordTokenizer(name, vocabulary, frozenset(settings["stop_words"]), own_words)
    except (KeyError, TypeError):
        name = None
    if not isinstance(name, str):
        raise ValueError(f"{path} does not describe a tokenizer; write it with the method `save` of one")
    return SubwordTokenizer.from_file(Path(folder) / "tokenizer.json", name)


def _load_sides(folder: Path, settings: dict[str, Any]) -> Tokenizer:
    """Load a `PairTokenizer` or `LabelTokenizer`."""
    if settings["name"] == LabelTokenizer.name:
        return LabelTokenizer(Vocabulary.load(folder / "vocabulary.json"))
    try:
        separate, writable = bool(settings["separate"]), [int(i) for i in settings["writable"]]
    except (KeyError, TypeError, ValueError):
        raise ValueError(f"{folder / 'settings.json'} does not describe a tokenizer of pairs; save it again") from None
    return PairTokenizer(
        load_tokenizer(folder / "target"), load_tokenizer(folder / "source") if separate else None, writable
    )
