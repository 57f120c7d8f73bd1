"""The network of the scripts in this folder: a vector for every token of the window, then two layers."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn


class WindowMLP(nn.Module):
    """(B, L) observations, of whatever dtype a library makes them, to (B, V) values of the actions."""

    def __init__(self, vocab_size: int, length: int, width: int = 256) -> None:
        super().__init__()
        hidden = nn.Sequential(nn.Flatten(), nn.Linear(16 * length, width), nn.ReLU())
        self.layers = nn.Sequential(nn.Embedding(vocab_size, 16), hidden, nn.Linear(width, vocab_size))

    def forward(self, observations: Tensor | np.ndarray) -> Tensor:
        values: Tensor = self.layers(torch.as_tensor(observations).long())
        return values
