"""Names of targets: built in, registered by a user, or "module:Class"."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..arguments import nearest
from ..text import Tokenizer
from .protocol import Target

BUILT_IN = ("ngram", "markov", "factored", "teacher", "reference", "causal_lm")
SAMPLES_DOCUMENTS = ("markov", "factored", "teacher")  # they need no corpus: p* itself writes the documents
Factory = Callable[[Tokenizer], Target]

factories: dict[str, Factory] = {}


def register_target(name: str, factory: Factory) -> None:
    """Register `factory` as the target `name`, in this process.

    Args:
        name: not that of a built-in target, and without a colon.
        factory: a class or function from a `Tokenizer` to a `Target`.
    """
    if name in BUILT_IN or ":" in name or not name:
        raise ValueError(f"a target cannot be registered as {name!r}; choose a name that is not built in, without ':'")
    factories[name] = factory


def name_of(target: Any) -> Any:
    """The name of a `Target` or of a factory, registered in this process if it is new.

    Other values, such as names, are returned unchanged.
    """
    if isinstance(target, Target) and not isinstance(target, type):
        factory: Factory = _Constant(target)
    elif callable(target):
        factory = target
    else:
        return target
    for name, known in factories.items():
        if known == factory:
            return name
    name = f"{getattr(target, '__name__', type(target).__name__)}#{len(factories)}"
    register_target(name, factory)
    return name


class _Constant:
    """A factory that returns the same target for every tokenizer."""

    def __init__(self, target: Target) -> None:
        self.target = target

    def __call__(self, tokenizer: Tokenizer) -> Target:
        return self.target

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Constant) and other.target is self.target

    def __hash__(self) -> int:
        return id(self.target)


def check_target_name(name: str) -> None:
    """Raise ValueError for an unknown name of a target."""
    known = (*BUILT_IN, *factories)
    if name not in known and ":" not in name:
        raise ValueError(
            f"target {name!r} is unknown{nearest(name, known)}; use one of {', '.join(known)}, or "
            '"module:Class" of your own, or register it with register_target in this process'
        )
