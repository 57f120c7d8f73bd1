"""Settings as frozen dataclasses: ranges in the fields, one sentence for what cannot work."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from .suggestions import nearest
from .typed import check_types

Settings = TypeVar("Settings")


def number(default: Any, least: float, most: float) -> Any:
    """A dataclass field whose value must lie between `least` and `most`; None is let through where the type allows it."""
    return dataclasses.field(default=default, metadata={"range": (least, most)})


def check_settings(settings: Any) -> None:
    """Check the fields of a dataclass: types, ranges (`number`), words (`Literal`).

    Raises ValueError for the first value that cannot work.
    """
    check_types(settings)
    hints = typing.get_type_hints(type(settings))
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        if value is None:
            continue
        if "range" in field.metadata:
            least, most = field.metadata["range"]
            if not least <= value <= most:
                raise ValueError(f"{field.name} must lie between {least:g} and {most:g}, not {value}")
        if typing.get_origin(hints[field.name]) is typing.Literal:
            choices = typing.get_args(hints[field.name])
            if value not in choices:
                close = nearest(value, choices)
                raise ValueError(f"{field.name} {value!r} is unknown{close}; use one of {', '.join(choices)}")


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
            which = f"; {', '.join(having)} {'have' if len(having) > 1 else 'has'} it" if having else nearest(name, known)
            has = f"its settings are {', '.join(known)}" if known else "it has no settings"
            raise ValueError(f"{owner} has no setting {name!r}{which}; {has}")
        if isinstance(value, list):  # YAML has no tuples
            chosen[name] = tuple(value)
    return kind(**chosen)
