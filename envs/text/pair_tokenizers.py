"""Tokenizers of pairs (source, target) and of labels."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from .files import write_text_atomically
from .prompts import known_ids
from .protocol import Tokenizer
from .vocabulary import Vocabulary

SOURCE_MARK = "\x1f"  # prefix of source words in the vocabulary; cleaning removes it from every text
ARROW = " → "


class PairTokenizer:
    """The tokenizers of both sides of a pair, over one space of ids; `encode` is that of the target.

    With one tokenizer for both sides ("joint") a word has the same id on both. With two ("separate") the source words
    follow the target words in the vocabulary, each prefixed with `SOURCE_MARK`.

    Args:
        target: tokenizer of the target.
        source: tokenizer of the source; None for that of the target.
        writable: ids of the valid actions, the words of the training targets.
    """

    name = "pair"

    def __init__(self, target: Tokenizer, source: Tokenizer | None, writable: Iterable[int]) -> None:
        self.target = target
        self.source = source
        self.vocabulary = target.vocabulary
        if source is not None:
            own = (SOURCE_MARK + word for word in source.vocabulary.words)
            self.vocabulary = Vocabulary([*target.vocabulary.words, *own])
        self.writable: npt.NDArray[np.bool_] = np.zeros(len(self.vocabulary), np.bool_)
        self.writable[[i for i in writable if i >= Vocabulary.FIRST_WORD]] = True

    @property
    def _shift(self) -> int:
        """The id of a source word minus its id in the source tokenizer."""
        return len(self.target.vocabulary) - Vocabulary.FIRST_WORD

    def encode(self, text: str) -> list[int]:
        """Ids of a target text."""
        return self.target.encode(text)

    def encode_source(self, text: str) -> list[int]:
        """Ids of a source text."""
        return self._as_source((self.source or self.target).encode(text))

    def known_source_ids(self, text: str) -> tuple[list[int], list[str]]:
        """`known_ids` of a source text."""
        ids, unknown = known_ids(text, self.source or self.target)
        return self._as_source(ids), unknown

    def _as_source(self, ids: list[int]) -> list[int]:
        if self.source is None:
            return ids
        return [i + self._shift if i >= Vocabulary.FIRST_WORD else i for i in ids]

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids; for `source <sep> target`, source and target with an arrow between them."""
        plain = [int(i) for i in ids]
        if Vocabulary.SEP not in plain:
            return self._decode_side(plain)
        cut = plain.index(Vocabulary.SEP)
        source, target = self._decode_side(plain[:cut]), self._decode_side(plain[cut + 1 :])
        return f"{source}{ARROW}{target}"

    def _decode_side(self, ids: list[int]) -> str:
        """The text of one side; in separate vocabularies the ids tell which side."""
        first = len(self.target.vocabulary)
        own = [i - self._shift for i in ids if i >= first]
        if self.source is None or not own:
            return self.target.decode(ids)
        return self.source.decode(own)

    def save(self, folder: str | Path) -> None:
        """See `Tokenizer`; one subfolder per side."""
        folder = Path(folder)
        self.target.save(folder / "target")
        if self.source is not None:
            self.source.save(folder / "source")
        settings = {
            "name": self.name,
            "separate": self.source is not None,
            "writable": np.flatnonzero(self.writable).tolist(),
        }
        write_text_atomically(folder / "settings.json", json.dumps(settings) + "\n")


class LabelTokenizer:
    """A tokenizer of labels, which encodes a whole text as one token.

    Args:
        vocabulary: the labels.
    """

    name = "label"

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.vocabulary = vocabulary

    @classmethod
    def train(cls, labels: Iterable[str]) -> LabelTokenizer:
        """A tokenizer with the given labels as its vocabulary."""
        return cls(Vocabulary.build([label] for label in labels))

    def encode(self, text: str) -> list[int]:
        """See `Tokenizer`; one id, `<unk>` for an unknown label."""
        return [self.vocabulary.id(text)]

    def decode(self, ids: Sequence[int]) -> str:
        """See `Tokenizer`."""
        return " ".join(self.vocabulary.token(int(i)) for i in ids if i >= Vocabulary.FIRST_WORD)

    def save(self, folder: str | Path) -> None:
        """See `Tokenizer`."""
        write_text_atomically(Path(folder) / "settings.json", json.dumps({"name": self.name}) + "\n")
        self.vocabulary.save(Path(folder) / "vocabulary.json")
