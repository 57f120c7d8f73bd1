"""`World`: the parts of a TokenLM environment that all its episodes share."""

from __future__ import annotations

import dataclasses
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from .config import EnvConfig, Split
from .targets import ConditionedTarget, MarkovTarget
from .targets.making import make_target, target_tokenizer
from .tasks import Documents, encode_generation, encode_pairs, pair_tokenizer, source_prompt
from .text import (
    BUILT_IN_CORPORA,
    PairTokenizer,
    SymbolTokenizer,
    Tokenizer,
    Vocabulary,
    make_tokenizer,
    read_pair_splits,
    read_splits,
)
from .text.pairs import Place

MARKOV_DOCUMENTS = 2_000
_SHORTEST_CHAIN = 2  # with one token every text would be empty
_SAMPLE = 100  # texts of each side that decide the tokenizer "auto"


class World:
    """Tokenizer, documents, target distribution and valid actions, shared by all episodes of an environment.

    Immutable: copies of an environment share it. Make it with `World.of(config)`, which caches the last four.

    Attributes:
        config: the arguments it was made from; those that concern single episodes have their default values.
        tokenizer: text to ids and back.
        documents: encoded documents of each split.
        pairs: cleaned (source, target) texts of each split in the order of `documents`; empty for generation.
        target: p*, conditioned on the valid actions.
        valid: (V,) bool, the tokens that are valid actions in some state.
    """

    def __init__(self, config: EnvConfig) -> None:
        self.config = config
        self.documents: dict[Split, Documents] = {}
        self.pairs: dict[Split, list[tuple[str, str]]] = {"train": [], "valid": [], "test": []}
        if config.target == "markov":
            self._build_markov(config)
        else:
            self._build_text(config)
        context = self.target.context_size
        if context is not None and context > config.context_length:
            raise ValueError(
                f"the target looks at the last {context} tokens but context_length is {config.context_length}; "
                f"make context_length at least {context}"
            )

    @classmethod
    def of(cls, config: EnvConfig) -> World:
        """The world of `config`, from the cache if an equal one was made and its files are unchanged."""
        plain = dataclasses.replace(
            config,
            split="train",
            min_new_tokens=0,
            transition="free",
            reward_every=1,
            log_prob_weight=1.0,
            sequence_reward="",
            sequence_weight=1.0,
            invalid_action="raise",
            mask_in_info=False,
        )
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
        return _cached_world(plain, tuple(entry for source in read for entry in _fingerprint(source)))

    @property
    def vocab_size(self) -> int:
        """V, special tokens included."""
        return len(self.vocabulary)

    @property
    def words(self) -> npt.NDArray[np.int64]:
        """(W,) ids of the valid actions except `<eos>`."""
        return np.flatnonzero(self.valid & (np.arange(self.vocab_size) != Vocabulary.EOS))

    @property
    def vocabulary(self) -> Vocabulary:
        """The tokenizer's vocabulary."""
        return self.tokenizer.vocabulary

    def _build_text(self, config: EnvConfig) -> None:
        if config.has_pairs:
            self._read_pairs(config)
        else:
            self._read_texts(config)
        for split, documents in self.documents.items():
            if not len(documents):
                raise ValueError(f"all {split} documents are empty after cleaning and tokenising; check the corpus")
        train = self.documents["train"]
        target = make_target(config, self.tokenizer, [train[i] for i in range(len(train))])
        self.valid = valid_actions(self.vocab_size, config, self.tokenizer)
        self.target = ConditionedTarget(target, self.valid)

    def _read_texts(self, config: EnvConfig) -> None:
        splits = read_splits(cast("str | tuple[str, ...]", config.corpus), config.cleaning)
        own = target_tokenizer(config) if config.tokenizer == "auto" else None
        self.tokenizer: Tokenizer = own or make_tokenizer(
            config.tokenizer if config.tokenizer != "auto" else _tokenizer_for(splits.train),
            splits.train,
            max_vocab_size=config.max_vocab_size,
            min_count=config.min_count,
            stop_words=config.cleaning.stop_word_set(),
            user_dictionary=config.user_dictionary,
        )
        texts: dict[Split, list[str]] = {"train": splits.train, "valid": splits.valid, "test": splits.test}
        for split in texts:
            self.documents[split] = encode_generation(texts[split], self.tokenizer, config.prompt_length)

    def _read_pairs(self, config: EnvConfig) -> None:
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
        tokenizer = pair_tokenizer(
            splits.train,
            names,
            separate=separate,
            labels=config.task == "classification",
            max_vocab_size=config.max_vocab_size,
            min_count=config.min_count,
            stop_words=config.cleaning.stop_word_set(),
            user_dictionary=config.user_dictionary,
        )
        self.tokenizer = tokenizer
        pairs: dict[Split, list[tuple[str, str]]] = {"train": splits.train, "valid": splits.valid, "test": splits.test}
        for split in pairs:
            self.documents[split], self.pairs[split] = encode_pairs(pairs[split], tokenizer, config.context_length)

    def _build_markov(self, config: EnvConfig) -> None:
        if config.ending == "eos" and config.max_new_tokens < _SHORTEST_CHAIN:
            raise ValueError(
                f"the target 'markov' with ending 'eos' writes <eos> with probability 1 / max_new_tokens, so "
                f"max_new_tokens must be at least {_SHORTEST_CHAIN}, not {config.max_new_tokens}; raise it or use "
                "ending 'fixed'"
            )
        target = MarkovTarget(
            config.vocab_size,
            order=config.order,
            seed=config.target_seed,
            eos_probability=0.0 if config.ending == "fixed" else 1.0 / config.max_new_tokens,
        )
        self.tokenizer = SymbolTokenizer(config.vocab_size)
        for number, split in enumerate(("train", "valid", "test")):
            ids = target.sample_documents(MARKOV_DOCUMENTS, config.max_new_tokens, seed=config.target_seed * 3 + number)
            longest = np.array([len(d) - 1 for d in ids])
            self.documents[split] = Documents.from_ids(  # type: ignore[index]
                ids,
                np.minimum(config.prompt_length[0], longest),
                np.minimum(config.prompt_length[1], longest),
            )
        self.valid = valid_actions(config.vocab_size, config)
        self.target = ConditionedTarget(target, self.valid)

    def __deepcopy__(self, memo: dict[int, Any]) -> World:
        return self


def encode_prompt(prompt: str, tokenizer: Tokenizer, config: EnvConfig) -> list[int]:
    """Ids of a prompt given as text; in a pair task, of `prompt <sep>`.

    Words outside the vocabulary raise ValueError. In a pair task they become `<unk>`, as in held-out sources.
    """
    if isinstance(tokenizer, PairTokenizer):
        return source_prompt(config.cleaning(prompt), tokenizer, config.context_length)
    return _encode_known(prompt, tokenizer, config, "prompt")


def encode_target(target: str, tokenizer: Tokenizer, config: EnvConfig) -> list[int]:
    """Ids of a target given as text; ValueError for a word outside the vocabulary."""
    return _encode_known(target, tokenizer, config, "target")


def _encode_known(text: str, tokenizer: Tokenizer, config: EnvConfig, name: str) -> list[int]:
    ids = tokenizer.encode(config.cleaning(text))
    if Vocabulary.UNK in ids:
        raise ValueError(
            f"the {name} {text!r} has words outside the vocabulary "
            f"(without them it is {tokenizer.decode(ids)!r}); use words of the corpus"
        )
    return ids


def valid_actions(vocab_size: int, config: EnvConfig, tokenizer: Tokenizer | None = None) -> npt.NDArray[np.bool_]:
    """(V,) bool, the tokens that are valid actions in some state: all words, and `<eos>` with the ending "eos".

    In a pair task the words are those of the training targets; the `tokenizer` is then required.
    """
    if isinstance(tokenizer, PairTokenizer):
        valid = tokenizer.writable.copy()
    elif config.has_pairs:
        raise ValueError(f"the valid actions of the task {config.task!r} depend on its tokenizer; pass the tokenizer")
    else:
        valid = np.ones(vocab_size, np.bool_)
        valid[: Vocabulary.FIRST_WORD] = False
    valid[Vocabulary.EOS] = config.ending == "eos"
    return valid


def _tokenizer_for(texts: list[str]) -> str:
    """The tokenizer "jieba" if at least a third of the letters of a sample are Chinese, else "word"."""
    sample = "".join(texts[: 2 * _SAMPLE])
    letters = [c for c in sample if c.isalpha()]
    chinese = sum("\u3400" <= c <= "\u9fff" for c in letters)
    return "jieba" if 3 * chinese > len(letters) else "word"


def _fingerprint(source: str | None) -> tuple[tuple[str, int, int, int], ...]:
    """Name, size, modification time and inode of a file or of those in a folder, so that an edited one is read again.

    Empty for the name of something that is no file, such as "jieba".
    """
    if source is None or not Path(source).exists():
        return ()
    files = sorted(Path(source).rglob("*")) if Path(source).is_dir() else [Path(source)]
    stats = ((str(f), f.stat()) for f in files if f.is_file())
    return tuple((name, stat.st_size, stat.st_mtime_ns, stat.st_ino) for name, stat in stats)


@lru_cache(maxsize=4)
def _cached_world(config: EnvConfig, fingerprint: tuple[tuple[str, int, int, int], ...]) -> World:
    return World(config)
