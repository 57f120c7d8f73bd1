"""Targets by name: those built in, those a user registered, and any class as "module:Class"."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..arguments import load_named, nearest
from ..text import Tokenizer, load_tokenizer
from .ngram import NGramTarget
from .protocol import Target
from .reference import ReferenceTarget

if TYPE_CHECKING:
    from ..config import EnvConfig

BUILT_IN = ("ngram", "markov", "reference", "causal_lm")
Factory = Callable[[Tokenizer], Target]

_factories: dict[str, Factory] = {}
# Named, not imported: the world knows nothing of agents, but one of theirs can be a language model like any other.
_model_loaders = {"agent.json": "tokenlm.agents.language_model:load_target"}


def register_target(name: str, factory: Factory) -> None:
    """Let `target=name` mean what `factory` makes of the environment's tokenizer, in this process.

    Args:
        name: any that is not built in and has no colon.
        factory: a class or function from a `Tokenizer` to a `Target`.
    """
    if name in BUILT_IN or ":" in name or not name:
        raise ValueError(f"a target cannot be registered as {name!r}; choose a name that is not built in, without ':'")
    _factories[name] = factory


def register_model_folder(file: str, loader: str) -> None:
    """Let `target_model` be a folder that holds `file`, loaded by `loader`.

    Args:
        file: its presence tells this kind of folder.
        loader: "module:function" from (folder, tokenizer, longest) to a `Target`, imported when it is needed.
    """
    _model_loaders[file] = loader


def name_of(target: Any) -> Any:
    """The name under which a `Target`, or what makes one of a tokenizer, can stand in a configuration.

    It holds in this process only; anything else is given back as it is.
    """
    if isinstance(target, Target) and not isinstance(target, type):
        factory: Factory = _Constant(target)
    elif callable(target):
        factory = target
    else:
        return target
    for name, known in _factories.items():
        if known == factory:
            return name
    name = f"{getattr(target, '__name__', type(target).__name__)}#{len(_factories)}"
    register_target(name, factory)
    return name


class _Constant:
    """Makes the same target of every tokenizer."""

    def __init__(self, target: Target) -> None:
        self.target = target

    def __call__(self, tokenizer: Tokenizer) -> Target:
        return self.target

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Constant) and other.target is self.target

    def __hash__(self) -> int:
        return id(self.target)


def check_target_name(name: str) -> None:
    """Raise ValueError for a name that no target has."""
    known = (*BUILT_IN, *_factories)
    if name not in known and ":" not in name:
        raise ValueError(
            f"target {name!r} is unknown{nearest(name, known)}; use one of {', '.join(known)}, or "
            '"module:Class" for one of your own, or register it first in this process'
        )


def make_target(config: EnvConfig, tokenizer: Tokenizer, documents: Sequence[Any]) -> Target:
    """The target of a configuration over a corpus ("markov" makes its own and is not made here).

    Args:
        config: the environment's arguments.
        tokenizer: the environment's.
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
    """The tokenizer that the target's own model brings along, None where it brings none."""
    if config.target != "causal_lm":
        return None
    name = str(config.target_model)
    if _loader(name) is not None:
        return load_tokenizer(Path(name) / "tokenizer")
    if config.cleaning.stop_words:
        raise ValueError("stop words are words, and the tokenizer of a Hugging Face model has none; leave them out")
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
    factory = _factories.get(name) or load_named(name, "target")
    target = factory(tokenizer)
    if not isinstance(target, Target):
        missing = [p for p in ("vocab_size", "context_size", "log_prob", "log_probs") if not hasattr(target, p)]
        raise ValueError(f"target {name!r} is no Target: it lacks {', '.join(missing)}")
    if target.vocab_size != len(tokenizer.vocabulary):
        raise ValueError(
            f"target {name!r} is over {target.vocab_size} tokens, but the vocabulary has {len(tokenizer.vocabulary)}"
        )
    return target
