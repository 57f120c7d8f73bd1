"""Conversions between token prefixes, left-padded windows and right-padded rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ...envs import Vocabulary

Ints = npt.NDArray[np.int64]
Prefixes = Sequence[Sequence[int]]  # token ids of each prefix, starting with `<bos>`


def right_padded(observation: Tensor) -> tuple[Tensor, Tensor]:
    """Left-padded windows (B, L) -> right-padded prefixes (B, longest) and their lengths (B,)."""
    lengths = (observation != Vocabulary.PAD).sum(1)
    longest = int(lengths.max())
    place = observation.shape[1] - lengths[:, None] + torch.arange(longest, device=observation.device)
    inside = place < observation.shape[1]
    tokens = observation.gather(1, place.clamp(max=observation.shape[1] - 1))
    return tokens * inside, lengths


def windows_at(tokens: npt.NDArray[Any], rows: Ints, columns: Ints, length: int) -> Ints:
    """(N, length) left-padded windows that end with tokens[rows, columns]."""
    places = columns[:, None] - length + 1 + np.arange(length)
    windows: Ints = np.where(places >= 0, tokens[rows[:, None], np.maximum(places, 0)], Vocabulary.PAD)
    return windows


def rows_of(prefixes: Prefixes, longest: int, device: torch.device | str) -> tuple[Tensor, Tensor]:
    """Right-padded rows (B, T) int64 with the last `longest` tokens of each prefix, and their lengths (B,)."""
    rows = [list(prefix)[-longest:] for prefix in prefixes]
    width = max(len(row) for row in rows)
    padded = [row + [Vocabulary.PAD] * (width - len(row)) for row in rows]
    return torch.tensor(padded, device=device), torch.tensor([len(row) for row in rows], device=device)


def windows_of(prefixes: Prefixes, length: int) -> Ints:
    """(B, length) left-padded windows with the last `length` tokens of each prefix."""
    windows = np.full((len(prefixes), length), Vocabulary.PAD, np.int64)
    for window, prefix in zip(windows, prefixes, strict=True):
        last = list(prefix)[-length:]
        window[length - len(last) :] = last
    return windows
