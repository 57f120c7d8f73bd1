"""Which device to compute on."""

from __future__ import annotations

import torch

from ..envs import nearest

_NAMES = ("auto", "cpu", "cuda", "mps")


def resolve_device(name: str) -> torch.device:
    """The torch device of "auto" (cuda, then mps, then cpu), "cpu", "cuda", "cuda:1" or "mps".

    Raises ValueError for an unknown name and for a device that this machine does not have.
    """
    kind = name.split(":")[0]
    if kind not in _NAMES:
        raise ValueError(f"device {name!r} is unknown{nearest(name, _NAMES)}; use one of {', '.join(_NAMES)}")
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if kind == "auto":
        return torch.device(next(d for d in ("cuda", "mps", "cpu") if available[d]))
    if not available[kind]:
        raise ValueError(f"device {name!r} is not available on this machine; use 'auto' or 'cpu'")
    return torch.device(name)
