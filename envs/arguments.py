"""Settings as dataclasses, and checks of what a user passes: types, ranges, misspelt names, "module:attribute"."""

from __future__ import annotations

import dataclasses
import difflib
import importlib
import math
import numbers
import reprlib
import sys
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

Settings = TypeVar("Settings")


def check_types(config: Any) -> None:
    """Raise ValueError for the first field of a dataclass whose value has the wrong type.

    A `Literal` field only has to be a string here; the caller checks its choices.
    """
    for name, hint in _hints(type(config)).items():
        value = getattr(config, name)
        if not _fits(value, hint):
            raise ValueError(f"{name} must be {_readable(hint)}, not {reprlib.repr(value)}")


def whole_number(name: str, value: Any, least: int) -> int:
    """`value` as an int; ValueError unless it is a whole number of at least `least`."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise ValueError(f"{name} must be a whole number, not {reprlib.repr(value)}")
    if value < least:
        raise ValueError(f"{name} must be at least {least}, not {value}")
    return int(value)


def number(default: Any, least: float, most: float = math.inf) -> Any:
    """A dataclass field whose value is finite, from `least` to `most`; or None where its type allows that."""
    return dataclasses.field(default=default, metadata={"range": (least, most)})


def check_settings(settings: Any) -> None:
    """Check the fields of a dataclass: types, ranges (`number`), words (`Literal`).

    Raises ValueError for the first value that cannot work.
    """
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        # NumPy's numbers are made Python's, which JSON knows.
        if isinstance(value, numbers.Integral) and not isinstance(value, bool):
            object.__setattr__(settings, field.name, int(value))
        elif isinstance(value, numbers.Real) and not isinstance(value, (bool, numbers.Integral)):
            object.__setattr__(settings, field.name, float(value))
    check_types(settings)
    hints = _hints(type(settings))
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        if value is None:
            continue
        if "range" in field.metadata:
            least, most = field.metadata["range"]
            if not (least <= value <= most and math.isfinite(value)):
                raise ValueError(
                    f"{field.name} must {_range_in_words(least, most)}{_or_none(hints[field.name])}, not {value}"
                )
        parts = (hints[field.name], *typing.get_args(hints[field.name]))
        choices = [c for part in parts if typing.get_origin(part) is typing.Literal for c in typing.get_args(part)]
        if choices and isinstance(value, str) and str not in parts and value not in choices:
            close = nearest(value, choices)
            raise ValueError(f"{field.name} {value!r} is unknown{close}; use one of {', '.join(choices)}")


def _range_in_words(least: float, most: float) -> str:
    if most == math.inf:
        return "be finite" if least == -math.inf else f"be at least {least:g}"
    return f"lie between {least:g} and {most:g}" if least > -math.inf else f"be at most {most:g}"


def _or_none(hint: Any) -> str:
    return ", or None" if type(None) in typing.get_args(hint) else ""


def place(settings: dict[str, Any], names: Sequence[str], value: Any) -> None:
    """Put `value` at settings[names[0]][names[1]]…, in place; mappings that are missing are made.

    Raises ValueError where a name reaches into something that is no mapping.
    """
    for depth, name in enumerate(names[:-1]):
        inner = settings.setdefault(name, {})
        if not isinstance(inner, dict):
            raise ValueError(
                f"there is no setting {'.'.join(names)}: {'.'.join(names[: depth + 1])} is {inner!r}, which has none "
                "below it"
            )
        settings = inner
    settings[names[-1]] = value


def names_of(kind: Any) -> list[str]:
    """Names of the settings of a dataclass."""
    return [field.name for field in dataclasses.fields(kind)]


def changed(settings: Any) -> dict[str, Any]:
    """The settings that differ from their defaults."""
    fields = dataclasses.fields(settings)
    return {f.name: getattr(settings, f.name) for f in fields if getattr(settings, f.name) != f.default}


def make_settings(
    kind: Callable[..., Settings], values: Mapping[str, Any], owner: str, others: Mapping[str, Any] | None = None
) -> Settings:
    """The dataclass `kind` with `values`; lists become tuples where the field is one.

    Args:
        kind: a dataclass.
        values: settings by name.
        owner: what the settings belong to, for the message: "the network 'lstm'".
        others: dataclasses of its siblings by name, to say which of them has a setting that this one lacks.

    Raises ValueError for a setting that `kind` does not have.
    """
    known = names_of(kind)
    chosen = dict(values)
    for name, value in chosen.items():
        if name not in known:
            having = [other for other, its in (others or {}).items() if name in names_of(its)]
            has = f"; {', '.join(having)} {'have' if len(having) > 1 else 'has'} it" if having else nearest(name, known)
            known_ones = f"; its settings are {', '.join(known)}" if known else "; it has no settings"
            raise ValueError(f"{owner} has no setting {name!r}{has or known_ones}")
        if isinstance(value, list):  # YAML has no tuples
            chosen[name] = tuple(value)
    try:
        return kind(**chosen)
    except (ValueError, TypeError) as problem:
        raise ValueError(f"{owner}: {problem}") from None


def nearest(value: Any, choices: Iterable[Any]) -> str:
    """'; did you mean X' with the closest of `choices`, or an empty string if none is close."""
    close = difflib.get_close_matches(str(value), [str(c) for c in choices], n=1, cutoff=0.6)
    return f"; did you mean {close[0]!r}?" if close else ""


def refuse_code(named: Mapping[str, Any], source: str) -> None:
    """Raise ValueError for the first value "module:attribute" among settings that come from a saved file.

    Args:
        named: values by the name of their setting.
        source: the file, for the message.
    """
    for setting, value in named.items():
        if isinstance(value, str) and ":" in value:
            raise ValueError(
                f"{source} names code of its own, {setting} {value!r}, which would be imported and run; "
                "pass --trust (in Python trust=True) if you trust it"
            )


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
    if origin is Sequence:
        return isinstance(value, Sequence) and all(_fits(item, typing.get_args(hint)[0]) for item in value)
    if origin is dict:  # a mapping of settings, or the dataclass that was made of them and has checked them
        return isinstance(value, Mapping) or dataclasses.is_dataclass(value)
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
    if origin is Sequence:
        return f"a list of {_readable(parts[0])}"
    names = {int: "a whole number", float: "a number", str: "text", bool: "True or False", type(None): "None"}
    return names.get(hint, "text" if origin is typing.Literal else f"a {getattr(hint, '__name__', hint)}")


def refuse_own_code(model: str, problem: Exception) -> None:
    """Raise ValueError where transformers refused `model` because it needs code of its own; else nothing."""
    if "trust_remote_code" in str(problem):
        raise ValueError(
            f"the model {model!r} brings code of its own, which is never run; use a model that transformers knows"
        ) from None
