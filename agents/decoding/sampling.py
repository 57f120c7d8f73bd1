"""Writing token by token: greedily, or by sampling from the policy or from its best part."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from ..dqn.exploration import inverse_cdf
from .filtering import filter_values
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
