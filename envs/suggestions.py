"""The nearest name, for whoever mistyped one."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any


def nearest(value: Any, choices: Iterable[Any]) -> str:
    """'; did you mean X?' for the closest of `choices`, or nothing where none is close."""
    close = difflib.get_close_matches(str(value), [str(c) for c in choices], n=1, cutoff=0.6)
    return f"; did you mean {close[0]!r}?" if close else ""
