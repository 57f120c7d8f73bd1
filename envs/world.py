"""Everything of a TokenLM environment that stays the same from episode to episode."""

from __future__ import annotations

import dataclasses
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .config import EnvConfig, Split
from .targets import ConditionedTarget, MarkovTarget, make_target, target_tokenizer
from .tasks import Documents, encode_generation
from .text import (
    BUILT_IN_CORPORA,
    Splits,
    SymbolTokenizer,
    Tokenizer,
    Vocabulary,
    make_tokenizer,
    read_splits,
)

MARKOV_DOCUMENTS = 2_000


class World:
    """Tokenizer, documents, target distribution and rules, shared by all episodes of an environment.

    Immutable: copies of an environment share it. Build it with `World.of(config)`, which remembers the last few.

    Attributes:
        config: the arguments it was made from; those that only steer episodes stand at their defaults.
        tokenizer: text to ids and back.
        documents: encoded documents of each split.
        target: p*, conditioned on the valid actions.
        valid: (V,) bool, the tokens that may ever be chosen.
    """

    def __init__(self, config: EnvConfig) -> None:
        self.config = config
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
        """The world of `config`, built once for equal arguments (and an unchanged file)."""
        plain = dataclasses.replace(
            config,
            split="train",
            min_new_tokens=0,
            transition="free",
            reward_every=1,
            invalid_action="raise",
            mask_in_info=False,
        )
        read = (config.corpus, config.arpa, config.target_model)
        return _remembered(plain, tuple(entry for source in read for entry in _fingerprint(source)))

    @property
    def vocab_size(self) -> int:
        """V, special tokens included."""
        return len(self.vocabulary)

    @property
    def words(self) -> npt.NDArray[np.int64]:
        """(W,) ids that may be written, `<eos>` left out."""
        return np.flatnonzero(self.valid & (np.arange(self.vocab_size) != Vocabulary.EOS))

    @property
    def vocabulary(self) -> Vocabulary:
        """The tokenizer's vocabulary."""
        return self.tokenizer.vocabulary

    def _build_text(self, config: EnvConfig) -> None:
        splits = read_splits(config.corpus, config.cleaning)
        own = target_tokenizer(config) if config.tokenizer == "auto" else None
        name = config.tokenizer if config.tokenizer != "auto" else _tokenizer_for(splits)
        self.tokenizer: Tokenizer = own or make_tokenizer(
            name,
            splits.train,
            max_vocab_size=config.max_vocab_size,
            min_count=config.min_count,
            stop_words=config.cleaning.stop_word_set(),
            user_dictionary=config.user_dictionary,
        )
        self.documents: dict[Split, Documents] = {}
        for split, texts in (("train", splits.train), ("valid", splits.valid), ("test", splits.test)):
            documents = encode_generation(texts, self.tokenizer, config.prompt_length)
            if not len(documents):
                raise ValueError(
                    f"no {split} document has a token left after cleaning and tokenising; check the corpus"
                )
            self.documents[split] = documents  # type: ignore[index]
        train = self.documents["train"]
        target = make_target(config, self.tokenizer, [train[i] for i in range(len(train))])
        self.valid = valid_actions(self.vocab_size, config)
        self.target = ConditionedTarget(target, self.valid)

    def _build_markov(self, config: EnvConfig) -> None:
        target = MarkovTarget(
            config.vocab_size,
            order=config.order,
            seed=config.target_seed,
            eos_probability=0.0 if config.ending == "fixed" else 1.0 / config.max_new_tokens,
        )
        self.tokenizer = SymbolTokenizer(config.vocab_size)
        self.documents = {}
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
    """Ids of a prompt given as text; one with a word outside the vocabulary raises ValueError."""
    ids = tokenizer.encode(config.cleaning(prompt))
    if Vocabulary.UNK in ids:
        raise ValueError(
            f"the prompt {prompt!r} has words outside the vocabulary "
            f"(it reads {tokenizer.decode(ids)!r} without them); use words of the corpus"
        )
    return ids


def valid_actions(vocab_size: int, config: EnvConfig) -> npt.NDArray[np.bool_]:
    """(V,) bool, the tokens that may ever be chosen: all words, and `<eos>` where it ends a text."""
    valid = np.ones(vocab_size, np.bool_)
    valid[: len(Vocabulary.SPECIAL_TOKENS)] = False
    valid[Vocabulary.EOS] = config.ending == "eos"
    return valid


def _tokenizer_for(splits: Splits) -> str:
    """Jieba where at least a third of the letters of a sample are Chinese, word otherwise."""
    sample = "".join(splits.train[:200])
    letters = [c for c in sample if c.isalpha()]
    chinese = sum("\u3400" <= c <= "\u9fff" for c in letters)
    return "jieba" if 3 * chinese > len(letters) else "word"


def _fingerprint(corpus: str | tuple[str, ...] | None) -> tuple[tuple[str, int, int], ...]:
    """Name, size and time of the files read, so that an edited corpus is read again."""
    if not isinstance(corpus, str) or corpus in BUILT_IN_CORPORA or not Path(corpus).exists():
        return ()
    files = sorted(Path(corpus).rglob("*")) if Path(corpus).is_dir() else [Path(corpus)]
    return tuple((str(f), f.stat().st_size, f.stat().st_mtime_ns) for f in files if f.is_file())


@lru_cache(maxsize=4)
def _remembered(config: EnvConfig, fingerprint: tuple[tuple[str, int, int], ...]) -> World:
    return World(config)
