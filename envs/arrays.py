"""What NumPy and torch say differently, beside the array API that they share."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from array_api_compat import array_namespace

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

_NAMESPACES: dict[type, Any] = {}


def namespace(array: Any) -> Any:
    """The array API of an array's library; looked up once for each library, for it is asked at every step."""
    kind = type(array)
    if kind not in _NAMESPACES:
        _NAMESPACES[kind] = array_namespace(array)
    return _NAMESPACES[kind]


def search(ascending: Any, wanted: Any) -> Any:
    """Where in `ascending` (N,) the first entry stands that is not below each of `wanted`."""
    if isinstance(wanted, np.ndarray):
        return ascending.searchsorted(wanted)  # the array API's own checks the types of both at every call
    return namespace(wanted).searchsorted(ascending, wanted)


def sliding_windows(array: Any, width: int) -> Any:
    """(B, C) -> (B, C - width + 1, width), every window of each row, without a copy."""
    if isinstance(array, np.ndarray):
        return np.lib.stride_tricks.sliding_window_view(array, width, axis=1)
    return array.unfold(1, width, 1)
