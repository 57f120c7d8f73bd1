"""What an update's matrix products are made in, by name."""

from __future__ import annotations

import functools
import time
from typing import Literal

import torch

ProductPrecision = Literal["float32", "bfloat16", "auto"]
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
_GAIN = 1.3  # so much faster bfloat16 must be for its rounding to be worth it


def resolve_precision(name: str, device: torch.device) -> torch.dtype:
    """The dtype of "float32", "bfloat16", or of "auto": bfloat16 where a product of the head's shape is faster in it.

    Processors without bfloat16 instructions imitate them, at a twentieth of the speed of float32; "auto" measures once
    in a process. On a machine where both are about as fast, two runs may then differ.
    """
    return DTYPES[name] if name != "auto" else _faster(device.type)


@functools.cache
def _faster(device_type: str) -> torch.dtype:
    seconds = {dtype: _seconds(dtype, device_type) for dtype in DTYPES.values()}
    return torch.bfloat16 if _GAIN * seconds[torch.bfloat16] < seconds[torch.float32] else torch.float32


def _seconds(dtype: torch.dtype, device_type: str) -> float:
    """Shortest of five products."""
    left = torch.ones(256, 256, dtype=dtype, device=device_type)
    right = torch.ones(256, 1024, dtype=dtype, device=device_type)
    found = []
    for _ in range(6):
        began = time.perf_counter()
        (left @ right)[0, 0].item()  # waits for the device
        found.append(time.perf_counter() - began)
    return min(found[1:])
