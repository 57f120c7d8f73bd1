"""Which actions sampling may still draw: the k best, or the few that hold most of the probability."""

from __future__ import annotations

import torch
from torch import Tensor

_ROUNDING = 1e-6  # of sums of probabilities: a set that holds 0.8 up to this holds 0.8


def filter_values(
    values: Tensor, top_k: int | None = None, top_p: float | None = None, temperature: float = 1.0
) -> Tensor:
    """Action values with -inf where an action is not among the best ones; first by `top_k`, then by `top_p`.

    Equal values are kept in the order of their ids, so that exactly k are left. The best action always is.

    Args:
        values: (..., V) what to act by, nats, -inf where not valid.
        top_k: keep the k highest (Fan et al. 2018); None for all.
        top_p: keep the smallest set whose probability under π ∝ exp(values/τ), normalised over what `top_k` left, is
            at least this (Holtzman et al. 2020); None or 1 for all.
        temperature: τ > 0, nats.

    Returns: (..., V); the values kept are unchanged.
    """
    count = values.shape[-1]
    if top_k is not None and top_k < count:
        best = values.sort(dim=-1, descending=True, stable=True).indices[..., :top_k]
        kept = torch.zeros_like(values, dtype=torch.bool).scatter_(-1, best, True)
        values = values.masked_fill(~kept, -torch.inf)
    if top_p is not None and top_p < 1.0:
        ordered, order = values.sort(dim=-1, descending=True, stable=True)
        probabilities = torch.softmax(ordered / temperature, -1)
        before = probabilities.cumsum(-1) - probabilities
        inside = before < top_p - _ROUNDING
        inside[..., 0] = True
        values = values.masked_fill(~torch.zeros_like(inside).scatter_(-1, order, inside), -torch.inf)
    return values
