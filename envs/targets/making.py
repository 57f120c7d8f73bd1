"""Making the target of an environment from its configuration."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..arguments import load_named
from ..config import EnvConfig
from ..text import Tokenizer, load_tokenizer
from .ngram import NGramTarget
from .protocol import Target
from .reference import ReferenceTarget
from .registry import check_target_name, factories
from .sums import check_sums

_model_loaders: dict[str, str] = {}


def register_model_folder(file: str, loader: str) -> None:
    """Register `loader` for folders that contain `file`, as values of `target_model`.

    Args:
        file: the name of a file that identifies the kind of folder.
        loader: "module:function" from (folder, tokenizer, longest) to a `Target`, imported at its first use.
    """
    _model_loaders[file] = loader


def make_target(config: EnvConfig, tokenizer: Tokenizer, documents: Sequence[Any]) -> Target:
    """The target of a configuration, except "markov", which has no corpus.

    Args:
        config: the environment's arguments.
        tokenizer: the environment's tokenizer.
        documents: encoded training documents.
    """
    size = len(tokenizer.vocabulary)
    if config.target == "ngram":
        if config.arpa is not None:
            return NGramTarget.from_arpa(config.arpa, tokenizer.vocabulary)
        return NGramTarget.fit(documents, size, config.order)
    if config.target == "reference":
        return ReferenceTarget(size, config.epsilon)
    if config.target == "causal_lm":
        return _model(str(config.target_model), tokenizer, config.context_length + config.max_new_tokens)
    return _custom(config.target, tokenizer)


def target_tokenizer(config: EnvConfig) -> Tokenizer | None:
    """The tokenizer of the target's own model, None if the target has no model."""
    if config.target != "causal_lm":
        return None
    name = str(config.target_model)
    if _loader(name) is not None:
        return load_tokenizer(Path(name) / "tokenizer")
    if config.cleaning.stop_words:
        raise ValueError("the tokenizer of a Hugging Face model cuts subwords, not words; set stop_words to None")
    from .huggingface import model_tokenizer

    return model_tokenizer(name)


def _model(name: str, tokenizer: Tokenizer, longest: int) -> Target:
    loader = _loader(name)
    if loader is not None:
        made: Target = load_named(loader, "target_model")(Path(name), tokenizer, longest)
        return made
    from .huggingface import load_huggingface

    return load_huggingface(name, tokenizer, longest)


def _loader(name: str) -> str | None:
    return next((loader for file, loader in _model_loaders.items() if (Path(name) / file).is_file()), None)


def _custom(name: str, tokenizer: Tokenizer) -> Target:
    check_target_name(name)
    factory = factories.get(name) or load_named(name, "target")
    target = factory(tokenizer)
    if not isinstance(target, Target):
        missing = [p for p in ("vocab_size", "context_size", "log_prob", "log_probs") if not hasattr(target, p)]
        raise ValueError(f"target {name!r} is not a Target: it lacks {', '.join(missing)}")
    if target.vocab_size != len(tokenizer.vocabulary):
        raise ValueError(
            f"target {name!r} is over {target.vocab_size} tokens, but the vocabulary has {len(tokenizer.vocabulary)}"
        )
    check_sums(target, name)
    return target
