"""An LSTM that also runs where the processor has no bfloat16 one."""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence


@functools.cache
def has_bfloat16(device_type: str) -> bool:
    """Whether an LSTM can be run in bfloat16: on a processor without the instructions oneDNN makes none."""
    if device_type != "cpu":
        return True

    # No nn.LSTM, whose first weights would be drawn from the global generator; and float32 under autocast, as in
    # training, for tensors that are bfloat16 themselves never meet oneDNN.
    weights = [torch.zeros(4, 1), torch.zeros(4, 1), torch.zeros(4), torch.zeros(4)]
    start = torch.zeros(1, 1, 1)
    try:
        with torch.autocast(device_type, torch.bfloat16):
            torch.lstm(start, (start, start), weights, True, 1, 0.0, False, False, True)
    except RuntimeError:
        return False
    return True


class LSTM(nn.LSTM):
    """`torch.nn.LSTM` that leaves automatic mixed precision aside where bfloat16 cannot be had."""

    def forward(  # type: ignore[override]
        self, inputs: Any, state: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Any, tuple[Tensor, Tensor]]:
        """(B, T, inputs), or such packed, and (h, c) of (layers, B, D) -> (B, T, D) outputs and the new (h, c)."""
        device = (inputs.data if isinstance(inputs, PackedSequence) else inputs).device.type
        if not torch.is_autocast_enabled(device) or has_bfloat16(device):
            result: tuple[Any, tuple[Tensor, Tensor]] = super().forward(inputs, state)
            return result
        with torch.autocast(device, enabled=False):
            result = super().forward(inputs.to(self.weight_ih_l0.dtype), state)
            return result
