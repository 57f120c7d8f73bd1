"""Short forms of an agent's settings, and the one long form that they stand for."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from typing import Any

from ...envs.arguments import names_of, nearest
from ..networks import NETWORKS
from .optimizer import OptimizerConfig
from .rule_names import rule_class
from .rules import RULES

WORDS = {"network": "name", "optimizer": "name", "phrases": "count"}  # what a word or a number alone stands for
PARTS = (*WORDS, "rule", "rewards")
_INSIDE = {
    **{name: ("optimizer", name) for name in names_of(OptimizerConfig) if name != "name"},
    "phrase_length": ("phrases", "length"),
    "decision_cost": ("phrases", "decision_cost"),
    "redistribute": ("rewards", "redistribute"),
    "imagine": ("rewards", "imagine"),
}
_MEANT = {"lr": "learning_rate", "tau": "temperature", "buffer_size": "replay_capacity"}  # names from other libraries


def long_form(settings: Mapping[str, Any], loss: Any, fields: Collection[str]) -> dict[str, Any]:
    """Settings with those of the rule, the optimizer and the phrases in their parts, and words as mappings.

    Args:
        settings: by name; `{"loss": "ilql", "expectile": 0.9}` becomes `{"loss": "ilql", "rule": {"expectile": 0.9}}`.
        loss: name of the rule where `settings` names none.
        fields: names of the agent's fields.

    Raises ValueError for a name that nobody has, a setting that is given twice, and a part of the wrong type.
    """
    loss, result = settings.get("loss", loss), {}
    for name, value in settings.items():
        part, inside = place(name, loss, fields)
        if part is None:
            inner = value if dataclasses.is_dataclass(value) else mapping_of(name, value)
            if name not in result:
                result[name] = inner
                continue
            part, given = name, inner  # flat settings of this part came first
        else:
            given = {inside: value}
        before = result.get(part, {})
        result[part] = _joined(part, before, given)
    return result


def place(name: str, loss: Any, fields: Collection[str]) -> tuple[str | None, str]:
    """The part that holds a setting, None for the agent itself, and its name there; ValueError where nobody has it."""
    if name in fields:
        return None, name
    if name in _INSIDE:
        return _INSIDE[name]
    own = names_of(rule_class(loss))
    if name in own or any(name in names_of(rule) for rule in RULES.values()):
        return "rule", name
    meant = _MEANT.get(name) or (f"network.{name}" if any(name in names_of(n) for n in NETWORKS.values()) else None)
    close = f"; did you mean {meant!r}?" if meant else nearest(name, [*fields, *_INSIDE, *own])
    raise ValueError(f"the agent has no setting {name!r}{close}")


def mapping_of(part: str, value: Any) -> Any:
    """The settings of a part by name; any other value as it is."""
    if part not in PARTS:
        return value
    if isinstance(value, Mapping):
        return dict(value)
    kind = int if part == "phrases" else str
    if part in WORDS and isinstance(value, kind) and not isinstance(value, bool):
        return {WORDS[part]: value}
    what = {"network": "a name or", "optimizer": "a name or", "phrases": "a number or"}.get(part, "")
    raise ValueError(f"{part} must be {what} settings by name, not {value!r}".replace("be  ", "be "))


def plain_settings(value: Any) -> dict[str, Any]:
    """The settings of a part, a dataclass or a mapping, by name."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    return dict(value)


def _joined(part: str, before: Any, given: Any) -> dict[str, Any]:
    before, given = plain_settings(before), plain_settings(given)
    for name in before.keys() & given.keys():
        raise ValueError(f"{name} of the {part} is given twice: {before[name]!r} and {given[name]!r}")
    return {**before, **given}
