"""What a tokenizer must offer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

from .vocabulary import Vocabulary


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
