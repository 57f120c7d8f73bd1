"""Checking what a user passes: types of a configuration, misspelt names, and objects named "module:attribute"."""

from __future__ import annotations

import dataclasses
import difflib
import importlib
import numbers
import reprlib
import sys
import types
import typing
from collections.abc import Iterable
from pathlib import Path
from typing import Any


def check_types(config: Any) -> None:
    """Raise ValueError for the first field of a dataclass whose value has the wrong type.

    A `Literal` field only has to be a string here; the caller checks its choices.
    """
    for name, hint in _hints(type(config)).items():
        value = getattr(config, name)
        if not _fits(value, hint):
            raise ValueError(f"{name} must be {_readable(hint)}, not {reprlib.repr(value)}")


def nearest(value: Any, choices: Iterable[Any]) -> str:
    """'; did you mean X' with the closest of `choices`, or an empty string if none is close."""
    close = difflib.get_close_matches(str(value), [str(c) for c in choices], n=1, cutoff=0.6)
    return f"; did you mean {close[0]!r}?" if close else ""


def load_named(name: str, argument: str) -> Any:
    """Import "module:attribute". The module may lie in the working directory.

    Args:
        name: "module:attribute".
        argument: the argument that has this value, for error messages.

    Raises ValueError if the module or the attribute does not exist.
    """
    module, _, attribute = name.partition(":")
    if str(Path.cwd()) not in sys.path:  # an installed command does not have the working directory on its path
        sys.path.append(str(Path.cwd()))
    try:
        return getattr(importlib.import_module(module), attribute)
    except ModuleNotFoundError as error:
        if error.name is not None and module.startswith(error.name):
            raise ValueError(f"{argument} {name!r}: there is no module {error.name!r} on the path") from None
        raise
    except AttributeError:
        raise ValueError(f"{argument} {name!r}: the module {module} has no {attribute!r}") from None


def _hints(kind: type) -> dict[str, Any]:
    hints = typing.get_type_hints(kind)
    return {field.name: hints[field.name] for field in dataclasses.fields(kind)}


def _fits(value: Any, hint: Any) -> bool:
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        return any(_fits(value, part) for part in typing.get_args(hint))
    if origin is typing.Literal:
        return isinstance(value, str)
    if origin is tuple:
        parts = typing.get_args(hint)
        kinds = parts[:1] * len(value) if parts[-1:] == (...,) and isinstance(value, tuple) else parts
        return isinstance(value, tuple) and len(kinds) == len(value) and all(map(_fits, value, kinds))
    if hint in (int, float):
        kind = numbers.Integral if hint is int else numbers.Real
        return isinstance(value, kind) and not isinstance(value, bool)
    return isinstance(value, hint)


def _readable(hint: Any) -> str:
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(_readable(part) for part in parts)
    if origin is tuple:
        return f"a tuple of {' and '.join(_readable(p) for p in parts if p is not ...)}"
    names = {int: "a whole number", float: "a number", str: "text", bool: "True or False", type(None): "None"}
    return names.get(hint, "text" if origin is typing.Literal else f"a {getattr(hint, '__name__', hint)}")
