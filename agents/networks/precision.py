"""The dtype of the matrix products in an update."""

from __future__ import annotations

import functools
import time
from typing import Literal

import torch

ProductPrecision = Literal["float32", "bfloat16", "auto"]
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
_GAIN = 1.3  # least speed-up for which "auto" accepts the rounding errors of bfloat16


def resolve_precision(name: str, device: torch.device) -> torch.dtype:
    """The dtype for "float32", "bfloat16" or "auto", which means bfloat16 if it is clearly faster on this device.

    CPUs without bfloat16 instructions emulate them, at a twentieth of the speed of float32. "auto" measures once per
    process, so results may differ between runs on a machine where the two are about equally fast.
    """
    return DTYPES[name] if name != "auto" else _faster(device.type)


@functools.cache
def _faster(device_type: str) -> torch.dtype:
    seconds = {dtype: _seconds(dtype, device_type) for dtype in DTYPES.values()}
    return torch.bfloat16 if _GAIN * seconds[torch.bfloat16] < seconds[torch.float32] else torch.float32


def _seconds(dtype: torch.dtype, device_type: str) -> float:
    """Shortest time of five products, after one to warm up."""
    rows = 256 if device_type == "cpu" else 2048  # a GPU takes longer to start a small product than to make it
    left = torch.ones(rows, rows, dtype=dtype, device=device_type)
    right = torch.ones(rows, 4 * rows, dtype=dtype, device=device_type)
    found = []
    for _ in range(6):
        began = time.perf_counter()
        (left @ right)[0, 0].item()  # synchronises
        found.append(time.perf_counter() - began)
    return min(found[1:])
