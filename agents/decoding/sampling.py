"""Greedy decoding and sampling, with top-k and top-p filtering."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from ..acting.choosing import inverse_cdf, over_temperature
from .options import Decoding
from .readers import Reader
from .transcript import Transcript


def sample(reader: Reader, transcripts: Sequence[Transcript], how: Decoding, uniform: Tensor) -> Iterator[Tensor]:
    """Append one token to every text per iteration, until all have ended or have T new tokens.

    Args:
        reader: has read the prefixes.
        transcripts: B texts, extended in place.
        how: temperature, top_k and top_p.
        uniform: (B, T) uniform numbers in [0, 1), float64, one per token, so that a text does not depend on the other
            rows of the batch.

    Yields: (R, V) values before the filters, nats, of the R texts that were extended.
    """
    rows = list(transcripts)
    for draws in range(uniform.shape[1]):
        found = values = reader.values()
        if how.temperature > 0.0:
            values = filter_values(values, how.top_k, how.top_p, how.temperature)
            numbers = uniform[:, draws].to(values.device, _precision(values.device))
            actions = inverse_cdf(torch.softmax(over_temperature(values, how.temperature), -1), numbers)
        else:
            actions = values.argmax(-1)
        for row, action in zip(rows, actions.tolist(), strict=True):
            row.add(action)
        yield found
        going = [number for number, row in enumerate(rows) if not row.over]
        if not going or draws + 1 == uniform.shape[1]:
            return
        if 2 * len(going) <= len(rows):  # finished rows still cost computation; drop them when they are half
            kept = torch.tensor(going, device=actions.device)
            reader.select(kept)
            actions, rows, uniform = actions[kept], [rows[n] for n in going], uniform[kept.to(uniform.device)]
        reader.step(actions)


def uniform_numbers(seeds: Sequence[int], count: int) -> Tensor:
    """(len(seeds), count) float64 uniform numbers in [0, 1), one generator per row."""
    return torch.from_numpy(np.stack([np.random.default_rng(seed).random(count) for seed in seeds]))


def _precision(device: torch.device) -> torch.dtype:
    return torch.float32 if device.type == "mps" else torch.float64  # MPS has no float64


_ROUNDING = 1e-6  # tolerance for sums of probabilities in top_p


def filter_values(
    values: Tensor, top_k: int | None = None, top_p: float | None = None, temperature: float = 1.0
) -> Tensor:
    """Action values filtered by top-k, then by top-p: -inf for the other actions.

    Of equal values those with smaller ids are kept, so that exactly k remain. The best action is always kept.

    Args:
        values: (..., V) action values, nats, -inf for actions that are not valid.
        top_k: keep the k highest (Fan et al. 2018); None for all.
        top_p: keep the smallest set whose probability under π ∝ exp(values/τ), renormalised after `top_k`, is at least
            this (Holtzman et al. 2020); None or 1 for all.
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
        probabilities = torch.softmax(over_temperature(ordered, temperature), -1)
        before = probabilities.cumsum(-1) - probabilities
        inside = before < top_p - _ROUNDING
        inside[..., 0] = True
        values = values.masked_fill(~torch.zeros_like(inside).scatter_(-1, order, inside), -torch.inf)
    return values
