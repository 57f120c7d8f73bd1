"""Our tokenizers as a tokenizer.json of the Hugging Face library `tokenizers`."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from .pair_tokenizers import SOURCE_MARK, PairTokenizer
from .patterns import word_pattern
from .protocol import Tokenizer
from .subwords import SubwordTokenizer, library_for
from .tokenizers import WordTokenizer
from .vocabulary import Vocabulary

# What takes no blanks beside it, and marks that take one on one side; `join_words` has the rules in full.
_CJK = r"\p{Han}\p{Hiragana}\p{Katakana}\u3000-\u303f\uff01-\uff5e…—“”‘’·"
_CLOSED_UP = (
    rf"(?<=[{_CJK}]) | (?=[{_CJK}])",
    r" (?=[-–/_'’,.;:!?%)\]}»])|(?<=[-–/_'’(\[{«#@$£€¥]) ",
)


def as_tokenizer_json(tokenizer: Tokenizer, asks: bool = False) -> tuple[Any, str]:
    """A `tokenizers.Tokenizer` with the ids of `tokenizer`, which puts `<bos>` before a text.

    Args:
        tokenizer: of an environment.
        asks: a text is the source of a pair, and `<sep>` comes after it.

    Returns: it, and what a user must know of it in one sentence, empty where nothing.
    Raises ValueError for a tokenizer that cannot be one, ImportError without the library.
    """
    if isinstance(tokenizer, PairTokenizer):
        if tokenizer.source is not None:
            raise ValueError(
                "a tokenizer.json has one vocabulary, and this task has one for sources and one for targets (tokens of "
                f"sources begin with {SOURCE_MARK!r} in vocab.json)"
            )
        tokenizer = tokenizer.target
    library = library_for(tokenizer.name)
    special = list(Vocabulary.SPECIAL_TOKENS)
    if isinstance(tokenizer, SubwordTokenizer):
        made, said = library.Tokenizer.from_str(json.dumps(tokenizer.settings_with_own_ids())), ""
    else:
        made, said = _of_words(library, tokenizer)
    made.add_special_tokens(special)
    bos, sep = Vocabulary.SPECIAL_TOKENS[Vocabulary.BOS], Vocabulary.SPECIAL_TOKENS[Vocabulary.SEP]
    made.post_processor = library.processors.TemplateProcessing(
        single=f"{bos} $A {sep}" if asks else f"{bos} $A",
        special_tokens=[(bos, Vocabulary.BOS), (sep, Vocabulary.SEP)],
    )
    return made, said


def agreement(made: Any, tokenizer: Tokenizer, texts: Sequence[str], cut: bool = False) -> tuple[int, int]:
    """How many of cleaned texts `made` encodes, and how many it decodes, as `tokenizer` does.

    Args:
        made: of `as_tokenizer_json`.
        tokenizer: of an environment.
        texts: cleaned.
        cut: `made` takes words with blanks between them.
    """
    ids = [tokenizer.encode(text) for text in texts]
    inner = tokenizer.target if isinstance(tokenizer, PairTokenizer) else tokenizer
    given = [" ".join(inner.words(text)) for text in texts] if cut and isinstance(inner, WordTokenizer) else texts
    encoded = sum(made.encode(text, add_special_tokens=False).ids == own for text, own in zip(given, ids, strict=True))
    return encoded, sum(made.decode(own) == tokenizer.decode(own) for own in ids)


def _of_words(library: Any, tokenizer: Tokenizer) -> tuple[Any, str]:
    """One entry of the vocabulary for each word that a rule finds, or that stands between two blanks."""
    words, regex = library.pre_tokenizers, library.Regex
    vocabulary = tokenizer.vocabulary
    ids = {vocabulary.token(i): i for i in range(len(vocabulary))}
    made = library.Tokenizer(library.models.WordLevel(ids, Vocabulary.SPECIAL_TOKENS[Vocabulary.UNK]))
    normal = library.normalizers
    made.normalizer = normal.Sequence([normal.NFC(), normal.Replace(regex(r"\s+"), " "), normal.Strip()])
    stop_words = getattr(tokenizer, "stop_words", None)
    said = ""
    if tokenizer.name == "char" and not stop_words:
        made.pre_tokenizer = words.Split(regex("."), "isolated")
        made.decoder = library.decoders.Fuse()
        return made, said
    if tokenizer.name == "word" and not stop_words:
        made.pre_tokenizer = words.Split(regex(_with_characters(word_pattern().pattern)), "removed", invert=True)
    else:
        made.pre_tokenizer = words.WhitespaceSplit()
        if tokenizer.name != "symbol":
            without = ", without stop words" if stop_words else ""
            said = f"it takes words with blanks between them, as {tokenizer.name} cuts a text{without}"
    decode = library.decoders
    parts = [decode.WordPiece(prefix=SOURCE_MARK, cleanup=False), decode.Fuse()]  # blanks between all words
    if tokenizer.name != "symbol":
        parts += [decode.Replace(regex(pattern), "") for pattern in _CLOSED_UP]
    made.decoder = decode.Sequence(parts)
    return made, said


def _with_characters(pattern: str) -> str:
    """A regular expression with its characters as they are: the library knows no escapes of eight digits."""
    return re.sub(r"\\U([0-9a-f]{8})|\\u([0-9a-f]{4})", lambda found: chr(int(found[1] or found[2], 16)), pattern)
