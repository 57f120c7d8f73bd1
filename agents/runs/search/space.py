"""The space of a search: which settings may be chosen, and among which values."""

from __future__ import annotations

import json
import math
import numbers
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ....envs.arguments import place

_OF_A_RANGE = ("low", "high", "log")


@dataclass(frozen=True)
class Range:
    """All numbers from `low` to `high`; whole ones where both ends are.

    Args:
        low: smallest value.
        high: largest value.
        log: search the logarithm; both ends must be positive.
    """

    low: float
    high: float
    log: bool = False

    @property
    def is_whole(self) -> bool:
        """Whether the values are whole numbers."""
        return isinstance(self.low, int) and isinstance(self.high, int)

    def suggest(self, trial: Any, name: str) -> float:
        """A value, from an Optuna trial."""
        suggest = trial.suggest_int if self.is_whole else trial.suggest_float
        found: float = suggest(name, self.low, self.high, log=self.log)
        return found

    def value(self, stored: Any) -> Any:
        """The value that a study stores as `stored`."""
        return stored

    def holding(self, value: Any) -> Range:
        """The range with `value` in it, where that is a number that it can have."""
        if not _is_number(value) or (self.log and value <= 0) or (self.is_whole and value != int(value)):
            return self
        own = int(value) if self.is_whole else float(value)
        return Range(min(self.low, own), max(self.high, own), self.log)

    def stored(self, value: Any) -> Any:
        """What a study stores for `value`; None where it is outside."""
        if not _is_number(value) or not self.low <= value <= self.high:
            return None
        return None if self.is_whole and value != int(value) else int(value) if self.is_whole else float(value)


@dataclass(frozen=True)
class Choices:
    """One of several values: numbers, words, lists, or mappings of settings such as a network's.

    Args:
        values: the values. Of a mapping only the settings that it names are changed.
    """

    values: tuple[Any, ...]

    @property
    def labels(self) -> list[Any]:
        """The values as a study stores them: lists and mappings as JSON."""
        return [_label(value) for value in self.values]

    def suggest(self, trial: Any, name: str) -> Any:
        """A value, from an Optuna trial."""
        return self.value(trial.suggest_categorical(name, self.labels))

    def value(self, stored: Any) -> Any:
        """The value that a study stores as `stored`."""
        return self.values[self.labels.index(stored)]

    def holding(self, value: Any) -> Choices:
        """The choices with `value` among them, where there is one."""
        return self if value is None or self.stored(value) is not None else Choices((*self.values, value))

    def stored(self, value: Any) -> Any:
        """What a study stores for `value`; None where it is no choice."""
        for choice in self.values:
            if isinstance(choice, Mapping) and isinstance(value, Mapping):
                if all(name in value and value[name] == inner for name, inner in choice.items()):
                    return _label(choice)
            elif choice == value and isinstance(choice, bool) == isinstance(value, bool):
                return _label(choice)
        return None


@dataclass(frozen=True)
class Space:
    """The settings of a search by name; dots reach into mappings: "network.hidden_size".

    Args:
        parts: what each may be.
    """

    parts: dict[str, Range | Choices]

    @classmethod
    def of(cls, values: Mapping[str, Any], source: str = "the space of a search") -> Space:
        """A space from YAML: a list has the choices, {low: 1.0e-4, high: 1.0e-2, log: true} is a range.

        Args:
            values: by the name of the setting.
            source: where they come from, for messages.

        Raises ValueError for what is neither, and for a range without numbers between its ends.
        """
        return cls({name: _part(value, f"{name} in {source}") for name, value in values.items()})

    def suggest(self, trial: Any) -> dict[str, Any]:
        """A value for every setting, from an Optuna trial."""
        return {name: part.suggest(trial, name) for name, part in self.parts.items()}

    def settings(self, stored: Mapping[str, Any]) -> dict[str, Any]:
        """The settings of a trial, by the parameters that a study stores."""
        return {name: part.value(stored[name]) for name, part in self.parts.items() if name in stored}

    def stored(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """What a study stores for settings, as far as the space holds them."""
        found = {name: part.stored(_inside(settings, name)) for name, part in self.parts.items()}
        return {name: value for name, value in found.items() if value is not None}

    def holding(self, settings: Mapping[str, Any]) -> Space:
        """The same with the values of `settings` among those of every part, so that they can be the first trial."""
        return Space({name: part.holding(_inside(settings, name)) for name, part in self.parts.items()})

    @property
    def size(self) -> float:
        """How many combinations there are; infinite with a range of fractions."""
        sizes = [
            len(part.values) if isinstance(part, Choices) else part.high - part.low + 1 if part.is_whole else math.inf
            for part in self.parts.values()
        ]
        return float(math.prod(sizes))


def nested(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings whose names have dots, as mappings in mappings; those without dots first, so that others refine them."""
    result: dict[str, Any] = {}
    for name in sorted(settings, key=lambda name: name.count(".")):
        value = settings[name]
        place(result, name.split("."), dict(value) if isinstance(value, Mapping) else value)
    return result


def _part(value: Any, where: str) -> Range | Choices:
    if isinstance(value, list):
        if not value:
            raise ValueError(f"{where} has no choices; give at least one")
        return Choices(tuple(value))
    if not isinstance(value, Mapping) or not {"low", "high"} <= value.keys() or not value.keys() <= set(_OF_A_RANGE):
        raise ValueError(f"{where} must be a list of choices or {{low: …, high: …, log: true}}, not {value!r}")
    low, high, log = value["low"], value["high"], value.get("log", False)
    if not all(_is_number(end) for end in (low, high)) or not isinstance(log, bool) or not low < high:
        raise ValueError(f"{where} must have numbers low < high and log true or false, not {dict(value)!r}")
    if log and low <= 0:
        raise ValueError(f"{where} must have a low above 0 because its logarithm is searched, not {low}")
    return Range(low, high, log)


def _is_number(value: Any) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool) and math.isfinite(value)


def _label(value: Any) -> Any:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, (list, Mapping)) else value


def _inside(settings: Mapping[str, Any], name: str) -> Any:
    """The setting that a name with dots means; None where it is missing."""
    found: Any = settings
    for part in name.split("."):
        found = found.get(part) if isinstance(found, Mapping) else None
    return found
