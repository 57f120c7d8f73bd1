"""The array API for Python numbers: the functions that the dynamics use, with a number in the place of an array (B,).

A step of a single environment takes some forty operations. On arrays of length one each costs about a microsecond, on
numbers a twentieth of that. `arrays.namespace` gives this module for a number, so that the rules stand once.
"""

from __future__ import annotations

import math
from typing import Any

inf = math.inf
int64 = int
float64 = float


def where(condition: bool, x: Any, y: Any) -> Any:
    """`x` if the condition is true, else `y`."""
    return x if condition else y


def astype(x: Any, dtype: type) -> Any:
    """`x` as a number of another type; a float is cut towards 0, as in arrays."""
    return dtype(x)


def zeros_like(x: Any, dtype: type | None = None) -> Any:
    """0 of the type of `x`."""
    return (dtype or type(x))(0)


def logical_not(x: bool) -> bool:
    """Whether `x` is false; `~` makes -2 of True."""
    return not x


def clip(x: Any, least: Any, most: Any) -> Any:
    """`x`, but at least `least` and at most `most`."""
    return min(max(x, least), most)
