"""`Texts`: the tokenizer and the encoded documents of an environment, read once for all that need them."""

from __future__ import annotations

import dataclasses
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from .config import EnvConfig, Split
from .targets.making import target_tokenizer
from .targets.registry import SAMPLES_DOCUMENTS
from .tasks import Documents, encode_generation, encode_pairs, pair_tokenizer
from .text import BUILT_IN_CORPORA, Tokenizer, make_tokenizer, read_pair_splits, read_splits
from .text.pairs import Place

_SAMPLE = 100  # texts of each side that decide the tokenizer "auto"
COVERED = 0.95  # share of the training documents that `fitted` lets be written whole
MOST_FITTED = 256  # tokens
_CUT = 0.05  # share of the documents that may be cut without a notice

Fingerprint = tuple[tuple[str, int, int, int], ...]


@dataclasses.dataclass(frozen=True)
class Texts:
    """What is read of a corpus.

    Args:
        tokenizer: text to ids and back.
        documents: encoded documents of each split.
        pairs: cleaned (source, target) texts of each split in the order of `documents`; empty for generation.
    """

    tokenizer: Tokenizer
    documents: dict[Split, Documents]
    pairs: dict[Split, list[tuple[str, str]]]

    @classmethod
    def of(cls, config: EnvConfig) -> Texts:
        """The texts of `config`, from the cache if they were read and the files are unchanged.

        Raises ValueError for a corpus without a token in one of its splits.
        """
        one_label = config.task == "classification"
        plain = dataclasses.replace(
            config,
            split="train",
            form="",
            min_new_tokens=0,
            max_new_tokens=1 if one_label else EnvConfig.max_new_tokens,
            context_length=config.context_length if config.has_pairs else EnvConfig.context_length,
        )
        return _cached(plain, fingerprint(config))

    def tokens_needed(self, config: EnvConfig) -> npt.NDArray[np.int64]:
        """(D,) tokens that an episode needs to write each training document whole; of a pair, its target.

        With a form they are those after the prompt, from which it counts.
        """
        train = self.documents["train"]
        written = train.lengths - (train.longest_prompt if config.has_pairs or config.form else 0)
        return written + (config.ending == "eos")


def notices(config: EnvConfig) -> list[str]:
    """What a user should know of the texts of `config` before training: the same in two splits, documents cut."""
    if config.target in SAMPLES_DOCUMENTS:
        return []
    texts, found = Texts.of(config), []
    if np.array_equal(texts.documents["train"].tokens, texts.documents["valid"].tokens):
        found.append(
            "the corpus is too small to keep documents apart: validation and test are on the training documents, so "
            "their figures show what was learned by heart"
        )
    needed = texts.tokens_needed(config)
    cut = needed > config.max_new_tokens
    if cut.mean() > _CUT:
        unused = np.maximum(needed - config.max_new_tokens, 0).sum() / needed.sum()
        found.append(
            f"{cut.mean():.0%} of the training documents are longer than max_new_tokens {config.max_new_tokens}, "
            f"{unused:.0%} of the text is unused{_advice(config, fitted(config))}"
        )
    return found


def _advice(config: EnvConfig, better: EnvConfig) -> str:
    """The options that make `config` as long as `better`; empty where it is already."""
    if better.max_new_tokens <= config.max_new_tokens:
        return ""
    longer = better.context_length > config.context_length
    context = f" --env.context_length {better.context_length}" if longer else ""
    return f"; --env.max_new_tokens {better.max_new_tokens}{context}"


def fitted(config: EnvConfig, context: bool = True) -> EnvConfig:
    """`config` with the max_new_tokens that covers 95 % of the training documents, at most 256.

    Args:
        config: its own max_new_tokens is ignored, except by the targets and tasks that fix it ("markov",
            "factored", "teacher", "classification").
        context: make context_length at least as long as prompt and text.
    """
    if config.target in SAMPLES_DOCUMENTS or config.task == "classification":
        return config
    texts = Texts.of(config)
    needed = int(np.quantile(texts.tokens_needed(config), COVERED, method="inverted_cdf"))
    length = max(config.min_new_tokens + 1, min(MOST_FITTED, needed))
    train = texts.documents["train"]
    prompt = 1 + int(train.longest_prompt.max() if config.has_pairs else config.prompt_length[1])
    longest = max(config.context_length, prompt + length) if context else config.context_length
    return dataclasses.replace(config, max_new_tokens=length, context_length=longest)


def fingerprint(config: EnvConfig) -> Fingerprint:
    """Name, size, modification time and inode of every file that `config` names, so that an edited one is read again.

    A folder stands for all its files; the name of something that is no file, such as "jieba", for none.
    """
    corpus = config.corpus if isinstance(config.corpus, str) and config.corpus not in BUILT_IN_CORPORA else None
    if corpus is not None and not Path(corpus).exists() and not corpus.startswith("hf:"):
        corpus = Place.of(corpus).path
    read = (
        corpus,
        config.arpa,
        config.target_model,
        config.tokenizer if config.tokenizer.endswith(".json") else None,
        config.user_dictionary,
        config.cleaning.stop_words,
    )
    return tuple(entry for source in read for entry in _files(source))


def _files(source: str | None) -> Fingerprint:
    if source is None or not Path(source).exists():
        return ()
    files = sorted(Path(source).rglob("*")) if Path(source).is_dir() else [Path(source)]
    stats = ((str(f), f.stat()) for f in files if f.is_file())
    return tuple((name, stat.st_size, stat.st_mtime_ns, stat.st_ino) for name, stat in stats)


@lru_cache(maxsize=2)
def _cached(config: EnvConfig, files: Fingerprint) -> Texts:
    texts = _read_pairs(config) if config.has_pairs else _read_texts(config)
    for split, documents in texts.documents.items():
        if not len(documents):
            raise ValueError(f"all {split} documents are empty after cleaning and tokenising; check the corpus")
    return texts


def _read_texts(config: EnvConfig) -> Texts:
    splits = read_splits(cast("str | tuple[str, ...]", config.corpus), config.cleaning)
    own = target_tokenizer(config) if config.tokenizer == "auto" else None
    tokenizer: Tokenizer = own or make_tokenizer(
        config.tokenizer if config.tokenizer != "auto" else _tokenizer_for(splits.train),
        splits.train,
        **_settings(config),
    )
    texts: dict[Split, list[str]] = {"train": splits.train, "valid": splits.valid, "test": splits.test}
    documents = {split: encode_generation(own, tokenizer, config.prompt_length) for split, own in texts.items()}
    return Texts(tokenizer, documents, {"train": [], "valid": [], "test": []})


def _read_pairs(config: EnvConfig) -> Texts:
    corpus = cast("str | tuple[tuple[str, str], ...]", config.corpus)
    splits = read_pair_splits(corpus, config.cleaning, config.task, config.reverse)
    separate = config.vocabularies == "separate"
    sides = [s for s, _ in splits.train], [t for _, t in splits.train]
    if config.tokenizer != "auto":
        names = config.tokenizer, config.tokenizer
    elif separate:
        names = _tokenizer_for(sides[0]), _tokenizer_for(sides[1])
    else:
        names = (_tokenizer_for([*sides[0][:_SAMPLE], *sides[1][:_SAMPLE]]),) * 2
    labels = config.task == "classification"
    tokenizer = pair_tokenizer(splits.train, names, separate=separate, labels=labels, **_settings(config))
    given: dict[Split, list[tuple[str, str]]] = {"train": splits.train, "valid": splits.valid, "test": splits.test}
    encoded = {split: encode_pairs(pairs, tokenizer, config.context_length) for split, pairs in given.items()}
    documents, pairs = ({split: parts[n] for split, parts in encoded.items()} for n in range(2))
    return Texts(tokenizer, documents, pairs)  # type: ignore[arg-type]


def _settings(config: EnvConfig) -> dict[str, Any]:
    """What every tokenizer is told."""
    return {
        "max_vocab_size": config.max_vocab_size,
        "min_count": config.min_count,
        "stop_words": config.cleaning.stop_word_set(),
        "user_dictionary": config.user_dictionary,
    }


def _tokenizer_for(texts: list[str]) -> str:
    """The tokenizer "jieba" if at least a third of the letters of a sample are Chinese, else "word"."""
    sample = "".join(texts[: 2 * _SAMPLE])
    letters = [c for c in sample if c.isalpha()]
    chinese = sum("\u3400" <= c <= "\u9fff" for c in letters)
    return "jieba" if 3 * chinese > len(letters) else "word"
