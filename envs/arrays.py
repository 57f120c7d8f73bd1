"""Array operations for NumPy and torch alike that the array API standard lacks or does slowly."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from array_api_compat import array_namespace

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

_NAMESPACES: dict[type, Any] = {}


def namespace(array: Any) -> Any:
    """The array API namespace of an array, cached by type because every step asks for it."""
    kind = type(array)
    if kind not in _NAMESPACES:
        _NAMESPACES[kind] = array_namespace(array)
    return _NAMESPACES[kind]


def search(ascending: Any, wanted: Any) -> Any:
    """Left insertion points of `wanted` in `ascending` (N,), as `numpy.searchsorted`."""
    if isinstance(wanted, np.ndarray):
        return ascending.searchsorted(wanted)  # array_api_compat would check both dtypes at every call
    return namespace(wanted).searchsorted(ascending, wanted)


def sliding_windows(array: Any, width: int) -> Any:
    """(B, C) -> (B, C - width + 1, width), all windows of each row, as a view."""
    if isinstance(array, np.ndarray):
        return np.lib.stride_tricks.sliding_window_view(array, width, axis=1)
    return array.unfold(1, width, 1)
