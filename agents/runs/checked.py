"""What a stranger's run says of itself, as far as it is shown: settings and figures of the right kind."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...envs.text.files import read_json

SCHEDULE = {"start", "end", "share", "shape"}
_DEEPEST = 4  # of lists and mappings in each other
_NAMED = ("baseline", "trivial_returns")  # figures by name


def read_summary(path: Path) -> dict[str, Any]:
    """The figures in a summary.json by name; ValueError for what is none."""
    summary = read_json(path)
    if not isinstance(summary, dict):
        raise ValueError(f"{path} holds no figures by name; restore it from a copy")
    for name, value in summary.items():
        if not _fits(name, value):
            raise ValueError(f"{name} in {path} cannot be {reprlib.repr(value)}; restore the file from a copy")
    return summary


def check_run_settings(settings: Mapping[str, Any], path: Path) -> None:
    """Refuse, with a ValueError, settings that no run can have; `settings` have dots in their names."""
    steps = settings.get("total_steps", 0)
    if not isinstance(steps, int) or isinstance(steps, bool):
        raise ValueError(f"total_steps in {path} must be a whole number, not {reprlib.repr(steps)}")
    for name, value in settings.items():
        if isinstance(value, dict) and set(value) == SCHEDULE:
            numbers = [value[part] for part in ("start", "end", "share")]
            if not all(_is_number(each) for each in numbers) or not isinstance(value["shape"], str):
                raise ValueError(f"{name} in {path} is no schedule: {reprlib.repr(value)}")


def _fits(name: str, value: Any) -> bool:
    if value is None:
        return True
    if name.endswith(("_ci", "_bounds")):
        return isinstance(value, list) and len(value) == 2 and all(each is None or _is_number(each) for each in value)
    if name in _NAMED:
        return isinstance(value, dict) and all(_depth(each) == 0 for each in value.values())
    if name == "texts":
        return isinstance(value, list) and all(isinstance(each, dict) and _depth(each) == 1 for each in value)
    return _depth(value) <= _DEEPEST


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _depth(value: Any) -> int:
    """How many lists and mappings lie in each other, at most one more than what is allowed."""
    depth, level = 0, [value]
    while depth <= _DEEPEST and (inner := [each for each in level if isinstance(each, (list, dict))]):
        depth += 1
        level = [part for each in inner for part in (each.values() if isinstance(each, dict) else each)]
    return depth
