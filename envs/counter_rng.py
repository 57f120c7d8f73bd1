"""Random numbers as a pure function of (seed, episode, stream), the same on every backend.

Each environment of a batch has its own stream, independent of the batch size. A counter-based generator (Salmon et al.
2011, "Parallel random numbers: as easy as 1, 2, 3") needs only two integers of state for it.
"""

from __future__ import annotations

from typing import Any

from .arrays import namespace

_LOW_32_BITS = 0xFFFFFFFF


def _mix(x: Any) -> Any:
    """Bijective avalanche of 32-bit integers held in int64 (multiply–xorshift, as in MurmurHash3)."""
    x = ((x ^ (x >> 16)) * 0x85EBCA6B) & _LOW_32_BITS
    x = ((x ^ (x >> 13)) * 0xC2B2AE35) & _LOW_32_BITS
    return x ^ (x >> 16)


def uniform(seed: Any, counter: Any, stream: int) -> Any:
    """Independent uniform numbers in [0, 1), one per (seed, counter, stream).

    Args:
        seed: (B,) int64, non-negative, NumPy or torch.
        counter: (B,) int64, non-negative; here the episode number.
        stream: index of the random number within one (seed, counter).

    Returns: (B,) float64.
    """
    key = _mix((seed & _LOW_32_BITS) ^ _mix(((seed >> 32) + 0x9E3779B9) & _LOW_32_BITS))
    word = _mix((counter & _LOW_32_BITS) ^ _mix(((counter >> 32) + 0x7F4A7C15 * (stream + 1)) & _LOW_32_BITS))
    bits = _mix((_mix(key ^ word) + 0x6A09E667 + (key << 1)) & _LOW_32_BITS)
    xp = namespace(bits)
    return xp.astype(bits, xp.float64) / 4294967296.0
