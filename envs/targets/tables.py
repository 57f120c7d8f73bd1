"""Lookup tables as NumPy arrays, with cached copies on torch devices and views that give Python numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from array_api_compat import device

from ..arrays import namespace


class Tables:
    """Named arrays, returned in the namespace and on the device of a query.

    For a query that is a Python number, the table is a `memoryview`: indexed by numbers, it gives numbers.

    Args:
        arrays: NumPy arrays by name.
    """

    def __init__(self, **arrays: npt.NDArray[Any]) -> None:
        self.arrays = arrays
        self._mirrors: dict[tuple[str, str], Any] = {}
        self._views: dict[str, memoryview] = {}

    def __getitem__(self, name: str) -> npt.NDArray[Any]:
        return self.arrays[name]

    def like(self, query: Any, name: str) -> Any:
        """The array `name` in the namespace and on the device of `query`."""
        if isinstance(query, np.ndarray):
            return self.arrays[name]
        if isinstance(query, int):
            if name not in self._views:
                self._views[name] = self.arrays[name].data.toreadonly()
            return self._views[name]
        key = (name, str(device(query)))
        if key not in self._mirrors:
            self._mirrors[key] = namespace(query).asarray(self.arrays[name], device=device(query))
        return self._mirrors[key]

    def __getstate__(self) -> dict[str, Any]:
        return {"arrays": self.arrays, "_mirrors": {}, "_views": {}}
