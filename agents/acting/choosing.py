"""Choose actions by their values: Boltzmann, greedy, epsilon-greedy."""

from __future__ import annotations

import math
import numbers
from typing import Any

import torch
from torch import Tensor

_TINY = 1e-6  # nats; divided by less, values may leave the range of float32


def checked_temperature(value: Any) -> float:
    """`value` as a temperature, nats; ValueError unless it is 0 (greedy) or a finite number above."""
    if not isinstance(value, numbers.Real) or isinstance(value, bool) or not 0.0 <= float(value) < math.inf:
        raise ValueError(f"temperature must be 0 (greedy) or more, and finite, not {value!r}")
    return float(value)


def over_temperature(values: Tensor, temperature: float) -> Tensor:
    """Q/τ for a softmax, τ > 0: (..., V) -> (..., V). For a tiny τ the best value becomes 0, so that none overflows."""
    temperature = min(temperature, torch.finfo(values.dtype).max)  # an infinite one makes nan of what is masked
    if temperature >= _TINY:
        return values if temperature == 1.0 else values / temperature
    return (values - values.amax(-1, keepdim=True)) / max(temperature, torch.finfo(values.dtype).tiny)


def choose_actions(
    values: Tensor,
    temperature: float,
    epsilon: float | Tensor = 0.0,
    generator: torch.Generator | None = None,
    explored: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Sample actions ∝ exp(Q/τ), greedy at τ = 0; with probability ε, per row, sample uniformly from `explored`.

    Args:
        values: (B, V) action values, nats; -inf for actions that are not valid.
        temperature: τ >= 0, nats.
        epsilon: ε, 0 to 1; (B,) for one per row.
        generator: source of randomness, on the same device.
        explored: (V,) or (B, V) bool, the actions to explore; all valid ones if None.

    Returns: actions (B,) int64, and their log-probability under this mixture (B,), nats; nan for rows of values with a
    nan or without a valid action.
    """
    explores = isinstance(epsilon, Tensor) or epsilon > 0.0
    if temperature == 0.0 and not explores:
        best, actions = values.max(-1)
        return actions, best - best
    if temperature > 0.0:
        policy = torch.softmax(over_temperature(values, temperature), -1)
    else:
        policy = torch.zeros_like(values).scatter_(-1, values.argmax(-1, keepdim=True), 1.0)
    precise = torch.float32 if values.device.type == "mps" else torch.float64
    uniform, coin = torch.rand((2, len(values)), generator=generator, dtype=precise, device=values.device)
    actions = inverse_cdf(policy, uniform)
    if not explores:
        return actions, _at(policy, actions).log()
    explored = values > -torch.inf if explored is None else explored
    actions = torch.where(coin < epsilon, inverse_cdf(explored, uniform), actions)
    even = _at(explored.expand_as(values), actions).to(values.dtype) / explored.sum(-1)
    return actions, torch.log((1.0 - epsilon) * _at(policy, actions) + epsilon * even)


def inverse_cdf(weights: Tensor, uniform: Tensor) -> Tensor:
    """Sample an index in proportion to the weights, by inverse CDF.

    In two stages: a block of √V entries by the sums of the blocks, then an entry of it. So the V weights are read only
    once, and small weights keep their probability, which they would lose in a cumulative sum in float32.

    Args:
        weights: (B, V) or (V,), not negative, need not sum to one; bool for a uniform choice.
        uniform: (B,) uniform numbers in [0, 1), preferably float64.

    Returns: (B,) int64, never an entry of weight 0; arbitrary if all weights are 0 or one is nan.
    """
    size = weights.shape[-1]
    width = math.isqrt(size - 1) + 1
    whole = size - size % width
    sums = weights[..., :whole].unflatten(-1, (-1, width)).sum(-1)
    if whole < size:
        sums = torch.cat([sums, weights[..., whole:].sum(-1, keepdim=True)], -1)
    block, uniform = _pick(sums, uniform)
    columns = block * width + torch.arange(width, device=weights.device)
    entries = weights.expand(len(uniform), -1).gather(-1, columns.clamp(max=size - 1))
    entry, _ = _pick(entries * (columns < size), uniform)
    return (block * width + entry).squeeze(-1).clamp(max=size - 1)


def _pick(weights: Tensor, uniform: Tensor) -> tuple[Tensor, Tensor]:
    """(B, N) or (N,) weights, (B,) uniform numbers -> (B, 1) entries, and (B,) the numbers' positions within them.

    The positions are in [0, 1) and serve as the uniform numbers of the next stage. Weights are rounded to integers,
    because integer cumulative sums are exact and monotone on every device, in whatever order it adds.
    """
    weights = weights.to(uniform.dtype).expand(len(uniform), -1)
    grains = 1.0 / torch.finfo(uniform.dtype).eps
    parts = (weights * (grains / weights.sum(-1, keepdim=True))).long()
    upper = parts.cumsum(-1)
    place = uniform[:, None] * upper[:, -1:]
    grain = torch.minimum(place.long(), upper[:, -1:] - 1)  # the product may round up
    entry = torch.searchsorted(upper, grain, right=True).clamp(max=parts.shape[-1] - 1)
    part = parts.gather(-1, entry)
    return entry, ((place - (upper.gather(-1, entry) - part)) / part).squeeze(-1)


def _at(values: Tensor, actions: Tensor) -> Tensor:
    """(B, V) values, (B,) actions -> (B,) values of the actions."""
    return values.gather(-1, actions[:, None]).squeeze(-1)
