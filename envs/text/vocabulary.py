"""`Vocabulary`: tokens and their ids."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import ClassVar

from .files import read_json, write_text_atomically
from .limits import LIMITS, raised_by


class Vocabulary:
    """Tokens with ids from 0 on, the five special ones first.

    A word of the corpus that is spelled like a special token, such as the "<unk>" of WikiText, is encoded as `<unk>`.

    Args:
        words: the tokens after the special ones, in the order of their ids, without repetition.

    Attributes:
        FIRST_WORD: the id of the first token that is not special.
    """

    PAD: ClassVar[int] = 0
    UNK: ClassVar[int] = 1
    BOS: ClassVar[int] = 2
    EOS: ClassVar[int] = 3
    SEP: ClassVar[int] = 4
    SPECIAL_TOKENS: ClassVar[tuple[str, ...]] = ("<pad>", "<unk>", "<bos>", "<eos>", "<sep>")
    FIRST_WORD: ClassVar[int] = len(SPECIAL_TOKENS)

    def __init__(self, words: Iterable[str]) -> None:
        self._tokens = [*self.SPECIAL_TOKENS, *words]
        self._ids = {token: i for i, token in enumerate(self._tokens)}
        if len(self._ids) != len(self._tokens):
            twice = next(t for t, n in Counter(self._tokens).items() if n > 1)
            raise ValueError(f"the token {twice!r} is in the vocabulary twice; every token must have one id")
        for token in self.SPECIAL_TOKENS:
            self._ids[token] = self.UNK

    @classmethod
    def build(cls, texts: Iterable[Sequence[str]], max_size: int | None = None, min_count: int = 1) -> Vocabulary:
        """The most frequent tokens of tokenised texts, ties in alphabetical order.

        Args:
            texts: the tokens of each text.
            max_size: most tokens, the five special ones included.
            min_count: tokens with fewer occurrences are left out.

        Raises ValueError if no word is left.
        """
        least = cls.FIRST_WORD + 1
        if max_size is not None and max_size < least:
            raise ValueError(f"max_size must be at least {least}, the special tokens and one word, not {max_size}")
        counts: Counter[str] = Counter()
        for tokens in texts:
            counts.update(tokens)
        words = sorted(
            (t for t in counts if t not in cls.SPECIAL_TOKENS and counts[t] >= min_count),
            key=lambda t: (-counts[t], t),
        )
        if not words:
            raise ValueError(
                f"no word occurs at least {min_count} time(s) in the corpus; lower min_count or check the corpus"
            )
        return cls(words if max_size is None else words[: max_size - cls.FIRST_WORD])

    def __len__(self) -> int:
        return len(self._tokens)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Vocabulary) and self._tokens == other._tokens

    def __hash__(self) -> int:
        return hash(self.digest)

    def __contains__(self, token: str) -> bool:
        return self._ids.get(token, self.UNK) != self.UNK

    def __repr__(self) -> str:
        return f"Vocabulary({len(self)} tokens)"

    def id(self, token: str) -> int:
        """The id of a token, that of `<unk>` for an unknown one."""
        return self._ids.get(token, self.UNK)

    def token(self, index: int) -> str:
        """The token of an id; ValueError if the id is out of range."""
        if not 0 <= index < len(self._tokens):
            raise ValueError(f"token id {index} is out of range; ids are 0 to {len(self._tokens) - 1}")
        return self._tokens[index]

    def encode(self, tokens: Iterable[str]) -> list[int]:
        """Ids of tokens."""
        get, unknown = self._ids.get, self.UNK
        return [get(token, unknown) for token in tokens]

    @property
    def words(self) -> list[str]:
        """The tokens that are not special, in the order of their ids."""
        return self._tokens[self.FIRST_WORD :]

    @property
    def digest(self) -> str:
        """A hash of all tokens in order, equal for equal vocabularies."""
        return hashlib.blake2b("\x00".join(self._tokens).encode("utf-8"), digest_size=16).hexdigest()

    def save(self, path: str | Path) -> None:
        """Write the tokens as JSON."""
        write_text_atomically(Path(path), json.dumps(self._tokens, ensure_ascii=False, indent=0) + "\n")

    @classmethod
    def load(cls, path: str | Path) -> Vocabulary:
        """Load what `save` wrote; FileNotFoundError if the file is missing, ValueError if it is not a vocabulary.

        A vocabulary has at most `tokens` tokens, see `Limits`.
        """
        tokens = read_json(Path(path))
        if (
            not isinstance(tokens, list)
            or not all(isinstance(token, str) for token in tokens)
            or tuple(tokens[: cls.FIRST_WORD]) != cls.SPECIAL_TOKENS
        ):
            raise ValueError(
                f"{path} is not a vocabulary; it must be a list of tokens that begins with "
                f"{' '.join(cls.SPECIAL_TOKENS)}"
            )
        if len(tokens) > LIMITS.tokens:
            raise ValueError(
                f"{path} has {len(tokens):,} tokens, but a vocabulary may have at most {LIMITS.tokens:,}; "
                f"{raised_by('tokens')}"
            )
        try:
            "".join(tokens).encode("utf-8")
        except UnicodeEncodeError:
            raise ValueError(f"{path} is not a vocabulary: a token has half of a surrogate pair") from None
        return cls(tokens[cls.FIRST_WORD :])
