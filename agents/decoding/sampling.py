"""Writing token by token: greedily, or by sampling from the policy or from its best part."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from ..acting.choosing import inverse_cdf
from .options import Decoding
from .readers import Reader
from .transcript import Transcript


def sample(reader: Reader, transcripts: Sequence[Transcript], how: Decoding, uniform: Tensor) -> Iterator[None]:
    """Write all texts one token further at every step, until each is over or has as many tokens as there are numbers.

    Args:
        reader: has read the beginnings of the texts.
        transcripts: B texts, written into.
        how: temperature, top_k and top_p.
        uniform: (B, T) numbers in [0, 1), float64: the draw for each token, so that a row's text does not depend on
            the rows beside it.
    """
    rows = list(transcripts)
    for draws in range(uniform.shape[1]):
        values = reader.values()
        if how.temperature > 0.0:
            values = filter_values(values, how.top_k, how.top_p, how.temperature)
            numbers = uniform[:, draws].to(values.device, _precision(values.device))
            actions = inverse_cdf(torch.softmax(values / how.temperature, -1), numbers)
        else:
            actions = values.argmax(-1)
        for row, action in zip(rows, actions.tolist(), strict=True):
            row.add(action)
        yield
        going = [number for number, row in enumerate(rows) if not row.over]
        if not going or draws + 1 == uniform.shape[1]:
            return
        if 2 * len(going) <= len(rows):  # the rest is read for nothing
            kept = torch.tensor(going, device=actions.device)
            reader.select(kept)
            actions, rows, uniform = actions[kept], [rows[n] for n in going], uniform[kept.to(uniform.device)]
        reader.step(actions)


def uniform_numbers(seeds: Sequence[int], count: int) -> Tensor:
    """(len(seeds), count) float64 in [0, 1), each row a stream of its own seed."""
    return torch.from_numpy(np.stack([np.random.default_rng(seed).random(count) for seed in seeds]))


def _precision(device: torch.device) -> torch.dtype:
    return torch.float32 if device.type == "mps" else torch.float64  # which has no float64


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
