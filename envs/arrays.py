"""Array operations for NumPy and torch alike that the array API standard lacks or does slowly."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
from array_api_compat import array_namespace

from . import scalars

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

_NAMESPACES: dict[type, Any] = {bool: scalars, int: scalars, float: scalars}


def namespace(array: Any) -> Any:
    """The array API namespace of an array, cached by type because every step asks for it; `scalars` for a number."""
    kind = type(array)
    if kind not in _NAMESPACES:
        _NAMESPACES[kind] = array_namespace(array)
    return _NAMESPACES[kind]


def search(ascending: Any, wanted: Any) -> Any:
    """Left insertion points of `wanted` in `ascending` (N,), as `numpy.searchsorted`."""
    if isinstance(wanted, np.ndarray):
        return ascending.searchsorted(wanted)  # array_api_compat would check both dtypes at every call
    if isinstance(wanted, int):
        return bisect_left(ascending, wanted)
    return namespace(wanted).searchsorted(ascending, wanted)


def any_true(condition: Any) -> bool:
    """Whether any entry is True; of a bool, itself."""
    return condition if isinstance(condition, bool) else bool(condition.any())


def column(values: Any) -> Any:
    """(B,) -> (B, 1); a number as it is."""
    return values if isinstance(values, int) else values[:, None]


def pieces(count: int, width: int, most: int) -> Iterator[slice]:
    """Slices of `count` rows of `width` entries, each with at most `most` entries, but at least one row."""
    step = max(1, most // max(1, width))
    return (slice(start, min(start + step, count)) for start in range(0, count, step))


def places_in(ascending: Ints, wanted: Ints) -> Ints:
    """(B,) places of numbers (B,) in an ascending array, -1 for those that are not in it."""
    if not len(ascending):
        return np.full(len(wanted), -1)
    place = np.searchsorted(ascending, wanted).clip(max=len(ascending) - 1)
    found: Ints = np.where(ascending[place] == wanted, place, -1)
    return found


def sliding_windows(array: Any, width: int) -> Any:
    """(B, C) -> (B, C - width + 1, width), all windows of each row, as a view."""
    if isinstance(array, np.ndarray):
        return np.lib.stride_tricks.sliding_window_view(array, width, axis=1)
    return array.unfold(1, width, 1)
