"""Checking the fields of a configuration against their types, for those who build one in Python."""

from __future__ import annotations

import dataclasses
import numbers
import reprlib
import types
import typing
from typing import Any


def check_types(config: Any) -> None:
    """Raise ValueError for the first field of a dataclass whose value is not of its type.

    Choices among words (`Literal`) are left to whoever can name the nearest one.
    """
    for name, hint in _hints(type(config)).items():
        value = getattr(config, name)
        if not _fits(value, hint):
            raise ValueError(f"{name} must be {_readable(hint)}, not {reprlib.repr(value)}")


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
