"""Learning rules whose prediction is a distribution of the return rather than its mean."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def categorical_projection(probabilities: Tensor, r_t: Tensor, discount_t: Tensor, support: Tensor) -> Tensor:
    """The distribution of r + γZ on the atoms of `support`, each shifted atom shared between its neighbours.

    The mean is kept as long as no atom is shifted out of the support.

    Args:
        probabilities: (N, K) of Z.
        r_t: (N,) rewards.
        discount_t: (N,) discounts; 0 leaves the reward alone.
        support: (K,) atoms, evenly spaced, ascending, nats.

    Returns: (N, K) probabilities.
    Source: Bellemare et al. 2017, "A distributional perspective on reinforcement learning", algorithm 1.
    """
    width = support[1] - support[0]
    moved = (r_t[:, None] + discount_t[:, None] * support).clamp(support[0], support[-1])
    place = ((moved - support[0]) / width).clamp(0, len(support) - 1)
    low = place.floor().long()
    high = (low + 1).clamp(max=len(support) - 1)
    share = place - low
    projected = torch.zeros_like(probabilities)
    projected.scatter_add_(-1, low, probabilities * (1.0 - share))
    return projected.scatter_add_(-1, high, probabilities * share)


def distribution_cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """-Σ target·log softmax(logits): (N, K), (N, K) -> (N,)."""
    return -(target * F.log_softmax(logits, -1)).sum(-1)


def quantile_huber(quantiles: Tensor, targets: Tensor, delta: float = 1.0) -> Tensor:
    """Quantile regression with Huber's loss, summed over quantiles and averaged over targets.

    Args:
        quantiles: (N, K) predicted, quantile i at the level (i + ½)/K.
        targets: (N, M) samples of the target distribution, no gradient.
        delta: where Huber's loss turns linear, nats.

    Returns: (N,) losses.
    Source: Dabney et al. 2018, "Distributional reinforcement learning with quantile regression", eq. 10.
    """
    count = quantiles.shape[-1]
    level = (torch.arange(count, device=quantiles.device) + 0.5) / count
    error = targets[:, None, :] - quantiles[:, :, None]  # (N, K, M)
    huber = F.huber_loss(error, torch.zeros_like(error), reduction="none", delta=delta) / delta
    return ((level[:, None] - (error.detach() < 0).float()).abs() * huber).mean(-1).sum(-1)


def gaussian_histogram(values: Tensor, support: Tensor, spread: float = 0.75) -> Tensor:
    """Probabilities of bins centred on `support` under a Gaussian around each value, cut off at the outer edges.

    Args:
        values: (N,) nats; those outside the support are taken to its nearest end.
        support: (K,) bin centres, evenly spaced, ascending.
        spread: standard deviation in bin widths.

    Returns: (N, K).
    Source: Imani & White 2018, "Improving regression performance with distributional losses"; Farebrother et al.
    2024, "Stop regressing", eq. 3, whose choice is a spread of 0.75.
    """
    width = support[1] - support[0]
    edges = torch.cat([support - width / 2, support[-1:] + width / 2])
    clamped = values.clamp(support[0], support[-1])[:, None]
    below = 0.5 * (1.0 + torch.erf((edges - clamped) / (spread * width * math.sqrt(2.0))))  # (N, K + 1)
    return below.diff(dim=-1) / (below[:, -1:] - below[:, :1])
