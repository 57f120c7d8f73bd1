"""Texts that a user types: words that the vocabulary lacks are split into words that it has."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, runtime_checkable

from .patterns import word_pattern
from .protocol import Tokenizer
from .vocabulary import Vocabulary

_LONGEST = 32  # atoms of a word that is looked for


@runtime_checkable
class Segmenter(Protocol):
    """A tokenizer that cuts a text into words, and only then looks them up."""

    def words(self, text: str) -> list[str]:
        """The words of a cleaned text."""
        ...


def known_ids(text: str, tokenizer: Tokenizer) -> tuple[list[int], list[str]]:
    """Ids of a cleaned text, and the parts that remain unknown, which are `<unk>` among the ids.

    jieba makes 今天天气 one word, which a corpus with 今天 and 天气 need not have.
    """
    ids = tokenizer.encode(text)
    if Vocabulary.UNK not in ids:
        return ids, []
    if not isinstance(tokenizer, Segmenter):  # subwords: only single characters are ever unknown
        return ids, list(dict.fromkeys(c for c in text if Vocabulary.UNK in tokenizer.encode(c))) or [text]
    vocabulary = tokenizer.vocabulary
    parts = [part for word in tokenizer.words(text) for part in split_known(word, vocabulary.__contains__)]
    return vocabulary.encode(parts), list(dict.fromkeys(part for part in parts if part not in vocabulary))


def split_known(word: str, known: Callable[[str], bool]) -> list[str]:
    """Split a word into known ones: as little unknown as possible, then as few parts, then the longest first.

    Cuts are made between Chinese characters, kana, marks, numbers and words of letters, never inside these. Unknown
    neighbours stay one part.
    """
    atoms = word_pattern().findall(word)
    if known(word) or "".join(atoms) != word:
        return [word]
    # best[i]: (unknown atoms, parts, -length of the first part, its end) for atoms[i:]
    best: list[tuple[int, int, int, int]] = [(0, 0, 0, len(atoms))]
    for start in range(len(atoms) - 1, -1, -1):
        after = best[0]  # of atoms[start + 1 :]
        options = [(after[0] + 1, after[1] + 1, -1, start + 1)]
        for end in range(start + 1, min(len(atoms), start + _LONGEST) + 1):
            if known("".join(atoms[start:end])):
                rest = best[end - start - 1]
                options.append((rest[0], rest[1] + 1, start - end, end))
        best.insert(0, min(options))
    parts: list[str] = []
    start, joins = 0, False
    while start < len(atoms):
        end = best[start][3]
        part = "".join(atoms[start:end])
        is_unknown = not known(part)
        if is_unknown and joins:
            parts[-1] += part
        else:
            parts.append(part)
        start, joins = end, is_unknown
    return parts
