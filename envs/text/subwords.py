"""Subword tokenizers of the Hugging Face library `tokenizers`: byte-level BPE, or any tokenizer.json."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from .files import read_json_text, write_text_atomically
from .joining import close_up
from .opening import check_file, parse_json
from .vocabulary import Vocabulary

_BYTE = re.compile("<0x([0-9A-F]{2})>")


class SubwordTokenizer:
    """A Hugging Face tokenizer with the special tokens of `Vocabulary` in place of its own.

    Its other tokens follow them in the order of its own ids. Its unknown token becomes `<unk>`.

    Args:
        tokenizer: a `tokenizers.Tokenizer`.
        name: its name in a configuration.

    Attributes:
        unknown_id: its own id of the unknown token, None if it has none.
    """

    def __init__(self, tokenizer: Any, name: str) -> None:
        self.name = name
        self._tokenizer = tokenizer
        tokenizer.no_truncation()  # a tokenizer.json may truncate and pad texts to its own length
        tokenizer.no_padding()
        special = {t.content for t in tokenizer.get_added_tokens_decoder().values() if t.special}
        settings = json.loads(tokenizer.to_str())
        unknown = _unknown(settings["model"])
        # No decoder and WordPiece put blanks between all tokens, even Chinese ones; other decoders restore the blanks.
        self._blanks_between_all = (settings["decoder"] or {}).get("type") in (None, "WordPiece")
        falls_back = '"ByteFallback"' in json.dumps(settings["decoder"])
        own = sorted(tokenizer.get_vocab(with_added_tokens=True).items(), key=lambda item: item[1])
        kept = [(t, i) for t, i in own if t not in special and t != unknown]
        first = Vocabulary.FIRST_WORD
        # A subword spelled like a special token gets a name that cannot clash.
        self.vocabulary = Vocabulary(t if t not in Vocabulary.SPECIAL_TOKENS else f"\x00{t}" for t, _ in kept)
        self._to_own = {first + n: i for n, (_, i) in enumerate(kept)}
        found = ((i, _BYTE.fullmatch(token)) for token, i in kept) if falls_back else ()
        self._bytes = {i: int(byte[1], 16) for i, byte in found if byte}
        self.unknown_id = dict(own).get(unknown)
        self._from_own = {i: first + n for n, (_, i) in enumerate(kept)}

    @classmethod
    def train(cls, documents: Iterable[str], vocab_size: int, min_count: int = 1) -> SubwordTokenizer:
        """Train byte-level BPE (Sennrich et al. 2016) on the documents; it encodes every text without `<unk>`.

        Raises ValueError if `vocab_size` is smaller than the 256 bytes and the special tokens.
        """
        tokenizers = library_for("bpe")
        first = Vocabulary.FIRST_WORD
        if vocab_size < 256 + first:
            raise ValueError(
                f"the tokenizer 'bpe' needs a vocabulary of at least {256 + first} tokens "
                f"(every byte and the special ones), not {vocab_size}"
            )
        made = tokenizers.Tokenizer(tokenizers.models.BPE())
        made.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
        made.decoder = tokenizers.decoders.ByteLevel()
        trainer = tokenizers.trainers.BpeTrainer(
            vocab_size=vocab_size - first,
            min_frequency=max(2, min_count),
            initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
        made.train_from_iterator(documents, trainer)
        return cls(made, "bpe")

    @classmethod
    def from_file(cls, path: str | Path, name: str | None = None) -> SubwordTokenizer:
        """Load a tokenizer.json; FileNotFoundError if it is missing, ValueError if it is not one or too large."""
        check_file(Path(path), "tokenizer file", "json_bytes")
        text = read_json_text(Path(path))
        parse_json(text, str(path))
        library = library_for(str(path))
        try:
            return cls(library.Tokenizer.from_str(text), name or str(path))
        except Exception as problem:  # the library raises Exception itself
            raise ValueError(f"{path} is not a Hugging Face tokenizer file: {problem}") from None

    @property
    def own_ids(self) -> dict[int, int]:
        """The tokenizer's own id for each id of the vocabulary, without special tokens."""
        return dict(self._to_own)

    def settings_with_own_ids(self) -> dict[str, Any]:
        """Its tokenizer.json with the ids of `vocabulary`, without special tokens of its own.

        Raises ValueError for a kind of model whose ids cannot be changed.
        """
        settings: dict[str, Any] = json.loads(self._tokenizer.to_str())
        model, first = settings["model"], Vocabulary.FIRST_WORD
        special = Vocabulary.SPECIAL_TOKENS
        ids = {self._tokenizer.id_to_token(own): number for number, own in self._to_own.items()}
        if isinstance(model["vocab"], dict):
            inside = [token for token in model["vocab"] if token in ids]
            model["vocab"] = {token: ids[token] for token in inside} | {t: n for n, t in enumerate(special)}
        elif isinstance(model["vocab"], list):
            kept = [entry for entry in model["vocab"] if entry[0] in ids]
            model["vocab"] = [[token, -1e3] for token in special] + kept
        else:
            raise ValueError(f"the tokenizer {self.name!r} has a model of the kind {model.get('type')!r} without ids")
        if "unk_id" in model:
            model["unk_id"] = Vocabulary.UNK
        elif self.unknown_id is not None:
            model["unk_token"] = special[Vocabulary.UNK]
        added = [token for token in settings["added_tokens"] if token["content"] in ids]
        settings["added_tokens"] = [{**token, "id": ids[token["content"]]} for token in added]
        settings["post_processor"] = None
        if any(t in special for t in ids):
            raise ValueError(f"the tokenizer {self.name!r} has a token that is spelled like one of {' '.join(special)}")
        if len(ids) + first != len(self.vocabulary):
            raise ValueError(f"the tokenizer {self.name!r} has two tokens of one spelling")
        return settings

    def encode(self, text: str) -> list[int]:
        """See `Tokenizer`."""
        get, unknown = self._from_own.get, Vocabulary.UNK
        return [get(i, unknown) for i in self._tokenizer.encode(text, add_special_tokens=False).ids]

    def decode(self, ids: Sequence[int]) -> str:
        """See `Tokenizer`; exact for "bpe"."""
        own = [self._to_own[int(i)] for i in ids if int(i) in self._to_own]
        text: str = self._tokenizer.decoder.decode(self._tokens(own)) if self._bytes else self._tokenizer.decode(own)
        return close_up(text) if self._blanks_between_all else text

    def _tokens(self, own: Sequence[int]) -> list[str]:
        """Tokens for the decoder, with the characters that bytes make in place of these.

        The library gives up all characters of a run of bytes if one byte is wrong, so that a byte could change the text
        far before it.
        """
        tokens: list[str] = []
        for is_byte, run in groupby(own, key=self._bytes.__contains__):
            if is_byte:
                tokens += bytes(self._bytes[i] for i in run).decode("utf-8", errors="replace")
            else:
                tokens += map(self._tokenizer.id_to_token, run)
        return tokens

    def save(self, folder: str | Path) -> None:
        """See `Tokenizer`."""
        write_text_atomically(Path(folder) / "tokenizer.json", self._tokenizer.to_str())
        write_text_atomically(Path(folder) / "settings.json", json.dumps({"name": self.name}) + "\n")

    def __getstate__(self) -> dict[str, Any]:
        return {"name": self.name, "json": self._tokenizer.to_str()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(library_for(state["name"]).Tokenizer.from_str(state["json"]), state["name"])  # type: ignore[misc]


def _unknown(model: dict[str, Any]) -> str:
    """The unknown token of a model of any kind; empty if it has none."""
    if model.get("unk_id") is not None:  # Unigram models list pieces with scores
        return str(model["vocab"][model["unk_id"]][0])
    return model.get("unk_token") or ""


def library_for(name: str) -> Any:
    try:
        import tokenizers
        import tokenizers.decoders
        import tokenizers.models
        import tokenizers.normalizers
        import tokenizers.pre_tokenizers
        import tokenizers.processors
        import tokenizers.trainers
    except ImportError:
        raise ImportError(f'the tokenizer {name!r} needs the library tokenizers; pip install "tokenlm[hf]"') from None
    return tokenizers
