"""Torch devices by name, and their free memory."""

from __future__ import annotations

import os
from pathlib import Path

import torch

from ..envs import nearest

_NAMES = ("auto", "cpu", "cuda", "mps")


def resolve_device(name: str) -> torch.device:
    """The torch device for "auto" (cuda, else mps, else cpu), "cpu", "cuda", "cuda:1" or "mps".

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


def fuses(device: torch.device) -> bool:
    """Whether torch's optimisers can make one pass over all parameters there, instead of several for each."""
    return device.type in ("cpu", "cuda")


def free_bytes(device: torch.device | str) -> int | None:
    """Free memory of the device in bytes; None if the system does not report it."""
    device = torch.device(device)
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    info = Path("/proc/meminfo")
    if info.exists():  # MemAvailable includes caches that can be released
        for line in info.read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    names = os.sysconf_names if hasattr(os, "sysconf") else {}
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if "SC_AVPHYS_PAGES" in names else None


def is_out_of_memory(problem: BaseException) -> bool:
    """Whether memory ran out: torch has an error of its own for devices, and on the CPU only says so."""
    kinds = (MemoryError, torch.OutOfMemoryError)
    return isinstance(problem, kinds) or any(words in str(problem) for words in ("can't allocate memory", "bad_alloc"))


def require_free(needed: int, what: str, advice: str, device: torch.device | str) -> None:
    """Raise ValueError if `what` needs more bytes than are free on the device."""
    free = free_bytes(device)
    if free is not None and needed > free:
        raise ValueError(f"{what} needs {needed:,} bytes, but only {free:,} are free on {device}; {advice}")
