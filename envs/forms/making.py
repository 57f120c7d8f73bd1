"""Making the form of an environment from its name."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from ..arguments import load_named
from ..text import Tokenizer
from .names import check_form_name, plain_name
from .protocol import Form

if TYPE_CHECKING:
    from ..config import EnvConfig
    from ..world import World

_METHODS = ("start", "allowed", "next", "bonus", "most_bonus")


def form_in(world: World, config: EnvConfig) -> Form | None:
    """The form of an environment; None if it has none."""
    return make_form(config.form, world.tokenizer) if config.form else None


def make_form(name: str, tokenizer: Tokenizer) -> Form:
    """The form `name`, over the vocabulary of `tokenizer`.

    Args:
        name: a built-in name, with options behind "?" such as "lines?length=5", or "module:Class".
        tokenizer: the environment's.

    Raises ValueError for an unknown name or option, and for a class that is no form.
    """
    by_identity: Any = tokenizer  # which a protocol does not promise
    return _cached(name, by_identity)


@lru_cache(maxsize=8)
def _cached(name: str, tokenizer: Any) -> Form:
    check_form_name(name)
    if ":" in name:
        try:
            made = load_named(name, "form")(tokenizer)
        except (TypeError, AttributeError) as problem:
            raise ValueError(f"form {name!r} is not a Form: it takes no tokenizer ({problem})") from None
        if missing := [part for part in _METHODS if not hasattr(made, part)]:
            raise ValueError(f"form {name!r} is not a Form: it lacks {', '.join(missing)}")
        form: Form = made
        return form
    options: dict[str, Any] = dict(parse_qsl(name.partition("?")[2]))
    kind = _built_in(plain_name(name))
    known = getattr(kind, "options", ())
    for option in options:
        if option not in known:
            has = f"its options are {', '.join(known)}" if known else "it has none"
            raise ValueError(f"form {name!r} has the unknown option {option!r}; {has}")
    built: Form = kind(tokenizer, **options)
    return built


def _built_in(name: str) -> Any:
    if name == "jueju5":
        from .jueju import Jueju

        return Jueju
    if name == "couplet":
        from .couplet import Couplet

        return Couplet
    from .lines import Lines

    return Lines
