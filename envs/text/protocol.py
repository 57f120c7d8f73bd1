"""The protocol of tokenizers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

from .vocabulary import Vocabulary


@runtime_checkable
class Tokenizer(Protocol):
    """Text to token ids and back.

    Attributes:
        name: its name in a configuration.
        vocabulary: its tokens.
    """

    name: str
    vocabulary: Vocabulary

    def encode(self, text: str) -> list[int]:
        """Ids of a cleaned text, with `<unk>` for words outside the vocabulary and no other special token."""
        ...

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids, without special tokens."""
        ...

    def save(self, folder: str | Path) -> None:
        """Save to a folder as JSON, for `load_tokenizer`."""
        ...
