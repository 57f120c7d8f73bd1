"""`World`: the parts of a TokenLM environment that all its episodes share."""

from __future__ import annotations

import dataclasses
import warnings
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from .config import EnvConfig, Split
from .forms.names import BUILT_IN as FORMS
from .forms.names import plain_name
from .targets import ConditionedTarget, FactoredTarget, MarkovTarget
from .targets.making import make_target
from .targets.registry import SAMPLES_DOCUMENTS
from .tasks import Documents, source_prompt
from .text import PairTokenizer, SymbolTokenizer, Tokenizer, Vocabulary
from .text.opening import shown
from .text.prompts import known_ids
from .texts import Fingerprint, Texts, fingerprint

SAMPLED_DOCUMENTS = 2_000
_TEACHER_DOCUMENTS = 200, 1_000  # fewest and most that a teacher is asked for, for training
_TEACHER_WORDS = 1_000_000  # of the vocabularies of all these documents together
_HELD_OUT = 100  # its documents for validation and test each
_SHORTEST_CHAIN = 2  # with one token every text would be empty


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
        if config.target in SAMPLES_DOCUMENTS:
            self._build_sampled(config)
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
            no_repeat=0,
            form="",
            form_bonus=EnvConfig.form_bonus,
            transition="free",
            reward_every=1,
            log_prob_weight=1.0,
            sequence_reward="",
            sequence_weight=1.0,
            invalid_action="raise",
            mask_in_info=False,
        )
        return _cached_world(plain, fingerprint(config))

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

    def longest_text(self, config: EnvConfig) -> int:
        """Tokens of the longest prompt of all splits and of what may be written after it."""
        return max(int(d.longest_prompt.max()) for d in self.documents.values()) + config.max_new_tokens

    def length_to_show(self, config: EnvConfig) -> int | None:
        """The context_length with which an observation shows all that p* depends on; None if it does already."""
        longest = self.longest_text(config)
        return longest if self.target.context_size is None and longest > config.context_length else None

    def _build_text(self, config: EnvConfig) -> None:
        texts = Texts.of(config)
        self.tokenizer: Tokenizer = texts.tokenizer
        self.documents, self.pairs = dict(texts.documents), dict(texts.pairs)
        train = self.documents["train"]
        target = make_target(config, self.tokenizer, [train[i] for i in range(len(train))])
        self.valid = valid_actions(self.vocab_size, config, self.tokenizer)
        self.target = ConditionedTarget(target, self.valid)

    def _build_sampled(self, config: EnvConfig) -> None:
        if config.ending == "eos" and config.max_new_tokens < _SHORTEST_CHAIN:
            raise ValueError(
                f"the target {config.target!r} with ending 'eos' writes <eos> with probability 1 / max_new_tokens, so "
                f"max_new_tokens must be at least {_SHORTEST_CHAIN}, not {config.max_new_tokens}; raise it or use "
                "ending 'fixed'"
            )
        target, length = _sampled_target(config)
        self.tokenizer = SymbolTokenizer(config.vocab_size)
        for number, split in enumerate(("train", "valid", "test")):
            count = _count(config, split)
            ids = target.sample_documents(count, length, seed=config.target_seed * 3 + number)
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


def _count(config: EnvConfig, split: str) -> int:
    """How many documents are sampled; a teacher's take seconds, and longer the larger its vocabulary."""
    if config.target != "teacher":
        return SAMPLED_DOCUMENTS
    return int(np.clip(_TEACHER_WORDS // config.vocab_size, *_TEACHER_DOCUMENTS)) if split == "train" else _HELD_OUT


def _sampled_target(config: EnvConfig) -> tuple[Any, int]:
    """The target that documents are sampled from, and how many words they have at most."""
    ends = 0.0 if config.ending == "fixed" else 1.0 / config.max_new_tokens
    longest = config.prompt_length[1] + config.max_new_tokens
    if config.target == "teacher":
        from .targets.teacher import TeacherTarget  # it takes torch a second to be imported

        return TeacherTarget(config.vocab_size, config.target_seed, ends), longest
    if config.target == "markov":
        chain = MarkovTarget(config.vocab_size, config.order, config.target_seed, eos_probability=ends)
        return chain, config.max_new_tokens
    whole = 1 + config.prompt_length[1] + config.max_new_tokens
    if whole > config.context_length:
        raise ValueError(
            f"the target 'factored' looks at the first two words of a text, so context_length must hold the whole of "
            f"it, {whole} tokens (<bos>, prompt_length {config.prompt_length[1]}, max_new_tokens "
            f"{config.max_new_tokens}), not {config.context_length}"
        )
    return FactoredTarget(config.vocab_size, config.target_seed, ends), whole - 1


class UnknownWords(UserWarning):
    """Words of a prompt are outside the vocabulary and read as `<unk>`."""


def encode_prompt(prompt: str, tokenizer: Tokenizer, config: EnvConfig) -> list[int]:
    """Ids of a prompt given as text; in a pair task, of `prompt <sep>`.

    The same in all tasks: an unknown word is split into known ones. What remains unknown is read as `<unk>`, as in
    held-out documents, and named by the warning `UnknownWords`.

    Raises ValueError for a prompt without a known word.
    """
    text = config.cleaning(prompt)
    pairs = tokenizer if isinstance(tokenizer, PairTokenizer) else None
    ids, unknown = pairs.known_source_ids(text) if pairs else known_ids(text, tokenizer)
    if unknown and all(i == Vocabulary.UNK for i in ids):
        raise ValueError(
            f"the prompt {shown(prompt)} has words outside the vocabulary only: {_listed(unknown)}; {_ADVICE}"
        )
    if unknown:
        few = f"{_listed(unknown)} in the prompt {shown(prompt)}"
        warnings.warn(f"outside the vocabulary, read as <unk>: {few}", UnknownWords, stacklevel=2)
    return source_prompt(ids, config.context_length) if pairs else ids


def checked_prompt(prompt: str, world: World, config: EnvConfig) -> list[int]:
    """`encode_prompt` for an episode; ValueError for a prompt that an episode cannot begin with."""
    ids = encode_prompt(prompt, world.tokenizer, config)
    whole = 1 + len(ids) + config.max_new_tokens
    if world.target.tracks_states and world.target.context_size is None and whole > config.context_length:
        raise ValueError(
            f"the prompt {shown(prompt)} has {len(ids)} tokens; p* looks at the whole text, and an observation of "
            f"context_length {config.context_length} holds at most {config.context_length - 1 - config.max_new_tokens} "
            "of a prompt"
        )
    shortest, longest = FORMS.get(plain_name(config.form), {}).get("prompt_length", (0, len(ids)))
    if not shortest <= len(ids) <= longest:
        raise ValueError(
            f"the prompt {shown(prompt)} has {len(ids)} tokens, but the form {config.form!r} goes on after {shortest}"
        )
    return ids


def encode_target(target: str, tokenizer: Tokenizer, config: EnvConfig) -> list[int]:
    """Ids of a target given as text; ValueError for a word outside the vocabulary."""
    own = tokenizer.target if isinstance(tokenizer, PairTokenizer) else tokenizer
    text = config.cleaning(target)
    ids, unknown = known_ids(text, own)
    if unknown:
        unknown = [text] if config.task == "classification" else unknown  # a label is one word, whatever is in it
        raise ValueError(f"the target {shown(target)} has words outside the vocabulary: {_listed(unknown)}; {_ADVICE}")
    return ids


_ADVICE = "use words of the corpus"
_LISTED = 5  # unknown words in a message


def _listed(words: list[str]) -> str:
    more = f" and {len(words) - _LISTED} more" if len(words) > _LISTED else ""
    return ", ".join(map(shown, words[:_LISTED])) + more


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


@lru_cache(maxsize=4)
def _cached_world(config: EnvConfig, files: Fingerprint) -> World:
    return World(config)
