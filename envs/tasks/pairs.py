"""The tasks of pairs: the prompt is `source <sep>`, the target is the pair's other side."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from ..text import LabelTokenizer, PairTokenizer, Tokenizer, Vocabulary, make_tokenizer
from .documents import Documents

Pair = tuple[str, str]


def source_prompt(source: str, tokenizer: PairTokenizer, context_length: int) -> list[int]:
    """Ids of `source <sep>`; the prefix begins with `<bos>`, and of a long source the first tokens are kept."""
    return [*tokenizer.encode_source(source)[: context_length - 2], Vocabulary.SEP]


def encode_pairs(pairs: Iterable[Pair], tokenizer: PairTokenizer, context_length: int) -> tuple[Documents, list[Pair]]:
    """Documents `source <sep> target`, prompts of exactly `source <sep>`, and the pairs they were made of.

    Pairs without a token on one side (all stop words, say) are dropped.
    """
    kept, ids, prompts = [], [], []
    for source, target in pairs:
        prompt, written = source_prompt(source, tokenizer, context_length), tokenizer.encode(target)
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
    """The tokenizer of training pairs, in which the words of their targets can be written.

    Args:
        train: cleaned pairs.
        names: how to cut source and target, see `make_tokenizer`; equal where `separate` is not asked for.
        separate: a vocabulary for each side; `max_vocab_size` and `min_count` hold for each.
        labels: the target is one token as a whole.
        max_vocab_size: as in `make_tokenizer`.
        min_count: as in `make_tokenizer`.
        stop_words: as in `make_tokenizer`.
        user_dictionary: as in `make_tokenizer`, for the sides that are cut by "jieba".
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
