"""Token prefixes as networks read them: left-padded windows and right-padded rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ...envs import Vocabulary

Ints = npt.NDArray[np.int64]


def right_padded(observation: Tensor) -> tuple[Tensor, Tensor]:
    """Left-padded windows (B, L) to right-padded prefixes (B, longest) and their lengths (B,)."""
    lengths = (observation != 0).sum(1)
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
