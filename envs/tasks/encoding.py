"""Documents as token ids, with their prompts: the first tokens of a document, or the source of a pair."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..text import LabelTokenizer, PairTokenizer, Tokenizer, Vocabulary, make_tokenizer

Pair = tuple[str, str]


@dataclass(frozen=True)
class Documents:
    """Token ids of D documents, with the range of prompt lengths of each.

    Args:
        tokens: (sum of lengths,) int64 ids of all documents in order, without `<bos>` and `<eos>`.
        offsets: (D + 1,) int64; document d is tokens[offsets[d] : offsets[d + 1]].
        shortest_prompt: (D,) int64, fewest tokens of the document in a prompt.
        longest_prompt: (D,) int64, most tokens of the document in a prompt.
    """

    tokens: npt.NDArray[np.int64]
    offsets: npt.NDArray[np.int64]
    shortest_prompt: npt.NDArray[np.int64]
    longest_prompt: npt.NDArray[np.int64]

    @classmethod
    def from_ids(
        cls, ids: Sequence[Sequence[int]], shortest_prompt: npt.ArrayLike, longest_prompt: npt.ArrayLike
    ) -> Documents:
        """From lists of ids; the prompt lengths broadcast over the documents."""
        lengths = np.fromiter((len(d) for d in ids), np.int64, len(ids))
        offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
        tokens = np.fromiter((t for d in ids for t in d), np.int64, int(offsets[-1]))
        shape = (len(ids),)
        return cls(
            tokens,
            offsets,
            np.broadcast_to(np.asarray(shortest_prompt, np.int64), shape).copy(),
            np.broadcast_to(np.asarray(longest_prompt, np.int64), shape).copy(),
        )

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, index: int) -> npt.NDArray[np.int64]:
        return self.tokens[self.offsets[index] : self.offsets[index + 1]]

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """(D,) number of tokens of each document."""
        return np.diff(self.offsets)


def encode_generation(texts: Iterable[str], tokenizer: Tokenizer, prompt_length: tuple[int, int]) -> Documents:
    """Encode documents for the task "generation", with `prompt_length` = (shortest, longest) tokens.

    A prompt leaves at least one token of the document. Documents without a token, such as those of stop words alone,
    are dropped.
    """
    ids = [encoded for text in texts if (encoded := tokenizer.encode(text))]
    longest = np.fromiter((len(d) for d in ids), np.int64, len(ids)) - 1
    return Documents.from_ids(ids, np.minimum(prompt_length[0], longest), np.minimum(prompt_length[1], longest))


def source_prompt(source: Sequence[int], context_length: int) -> list[int]:
    """Ids of `source <sep>`, with at most the first `context_length` - 2 tokens of the source, given as ids."""
    return [*source[: context_length - 2], Vocabulary.SEP]


def encode_pairs(pairs: Iterable[Pair], tokenizer: PairTokenizer, context_length: int) -> tuple[Documents, list[Pair]]:
    """Documents `source <sep> target` with the prompts `source <sep>`, and the pairs they encode.

    Pairs without a token on one side, such as one of stop words alone, are dropped.
    """
    kept, ids, prompts = [], [], []
    for source, target in pairs:
        prompt = source_prompt(tokenizer.encode_source(source), context_length)
        written = tokenizer.encode(target)
        if len(prompt) > 1 and written:
            kept.append((source, target))
            ids.append(prompt + written)
            prompts.append(len(prompt))
    return Documents.from_ids(ids, prompts, prompts), kept


def pair_tokenizer(
    train: Sequence[Pair],
    names: tuple[str, str],
    *,
    separate: bool,
    labels: bool,
    max_vocab_size: int | None = None,
    min_count: int = 1,
    stop_words: frozenset[str] = frozenset(),
    user_dictionary: str | None = None,
) -> PairTokenizer:
    """Train the tokenizer of a pair task; only words of the training targets are valid actions.

    Args:
        train: cleaned pairs.
        names: names of the source and target tokenizer, see `make_tokenizer`; equal unless `separate`.
        separate: one vocabulary per side, each with its own `max_vocab_size` and `min_count`.
        labels: encode a target as a single token.
        max_vocab_size: as in `make_tokenizer`.
        min_count: as in `make_tokenizer`.
        stop_words: as in `make_tokenizer`.
        user_dictionary: as in `make_tokenizer`, for the sides with the tokenizer "jieba".
    """
    sources, targets = [s for s, _ in train], [t for _, t in train]

    def make(name: str, texts: Iterable[str]) -> Tokenizer:
        dictionary = user_dictionary if name == "jieba" or "jieba" not in names else None
        return make_tokenizer(
            name,
            texts,
            max_vocab_size=max_vocab_size,
            min_count=min_count,
            stop_words=stop_words,
            user_dictionary=dictionary,
        )

    texts = targets if separate else [*sources, *targets]
    target = LabelTokenizer.train(targets) if labels else make(names[1], texts)
    source = make(names[0], sources) if separate or labels else None
    tokenizer = PairTokenizer(target, source, _written(targets, target))
    if not tokenizer.writable.any():
        raise ValueError("no word of a training target is in the vocabulary; raise max_vocab_size or lower min_count")
    return tokenizer


def _written(targets: Iterable[str], tokenizer: Tokenizer) -> Iterator[int]:
    return iter({i for target in targets for i in tokenizer.encode(target)})
