"""A network of one-step rewards: every token, in each place that it reads, is a mixture of a few classes."""

from __future__ import annotations

import torch
from torch import Tensor, nn

_SHARPNESS = 4.0  # of the mixtures
_SCALE = 3.0  # of the mixtures as features
_SPREAD = 5.0  # of the scores at the beginning, nats: log-probabilities are large numbers


class RewardNetwork(nn.Module):
    """Scores of the next token from a few tokens before it and the position: log-softmax of them models log p*.

    In each place it reads a token as probabilities of hidden classes, so that tokens which are alike there share all
    that is learned. A multilayer perceptron of these and of the position gives a vector, and its inner products with
    a vector of each candidate the scores: candidates that are alike share too.

    Args:
        vocab_size: V.
        places: P, tokens read.
        positions: T, tokens written in an episode at most.
        classes: hidden classes in each place.
        hidden_size: width of the hidden layer.
        rank: dimension of the vectors of the candidates.

    Attributes:
        vocab_size: V.
        places: P.
    """

    _offsets: Tensor

    def __init__(self, vocab_size: int, places: int, positions: int, classes: int, hidden_size: int, rank: int) -> None:
        super().__init__()
        self.vocab_size, self.places = vocab_size, places
        self.classes = nn.Embedding(places * vocab_size, classes)
        self.position = nn.Embedding(positions, 2 * classes)
        nn.init.normal_(self.classes.weight, std=1.0)
        self.register_buffer("_offsets", vocab_size * torch.arange(places), persistent=False)
        self.body = nn.Sequential(
            nn.Linear((places + 2) * classes, hidden_size),
            nn.ReLU(),
            nn.Linear(hidden_size, rank),
            nn.Linear(rank, vocab_size),
        )

    def forward(self, tokens: Tensor, written: Tensor) -> Tensor:
        """(B, P) int64 tokens read and (B,) tokens written before, less than T, to (B, V) scores."""
        places, weight = tokens + self._offsets, self.classes.weight
        if places.numel() > len(weight):  # the softmax of what is read several times is taken once
            mixtures = nn.functional.embedding(places, torch.softmax(_SHARPNESS * weight, -1))
        else:
            mixtures = torch.softmax(_SHARPNESS * self.classes(places), -1)
        features = torch.cat([_SCALE * mixtures.flatten(1), self.position(written)], -1)
        scores: Tensor = _SPREAD * self.body(features)
        return scores
