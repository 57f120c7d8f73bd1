"""LSTMs: in chunks for long text, in two directions, and where the processor has no bfloat16 one."""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence
from torch.utils.checkpoint import checkpoint


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

    def forward(self, inputs: Any, state: tuple[Tensor, Tensor] | None = None) -> tuple[Any, tuple[Tensor, Tensor]]:
        """(B, T, inputs), or such packed, and (h, c) of (layers, B, D) -> (B, T, D) outputs and the new (h, c)."""
        data = inputs.data if isinstance(inputs, PackedSequence) else inputs
        lower = torch.is_autocast_enabled(data.device.type)
        if lower and not has_bfloat16(data.device.type):
            with torch.autocast(data.device.type, enabled=False):
                return self(inputs.to(self.weight_ih_l0.dtype), state)
        if state is not None:  # under autocast the state a chunk left is of another type than the next one's inputs
            state = (state[0].to(data.dtype), state[1].to(data.dtype))
        result: tuple[Any, tuple[Tensor, Tensor]] = super().forward(inputs, state)
        return result


def in_chunks(
    lstm: LSTM, inputs: Tensor, chunk_length: int | None, state: tuple[Tensor, Tensor] | None = None
) -> Tensor:
    """The LSTM's outputs over a text, keeping what the backward pass needs of one chunk only.

    A chunk is run again when its gradient is wanted (Chen et al. 2016, "Training deep nets with sublinear memory
    cost"), from the state that was carried to it: gradients reach through the whole text, nothing is truncated.

    Args:
        lstm: with the batch first.
        inputs: (B, T, inputs).
        chunk_length: tokens in a chunk; None for the whole text in one.
        state: (h, c) to begin with; zeros if None.

    Returns: (B, T, D).
    """
    if chunk_length is None or inputs.shape[1] <= chunk_length:
        outputs: Tensor = lstm(inputs, state)[0]
        return outputs
    parts = []
    for chunk in inputs.split(chunk_length, 1):
        if torch.is_grad_enabled():
            part, state = checkpoint(lstm, chunk, state, use_reentrant=False)
        else:
            part, state = lstm(chunk, state)
        parts.append(part)
    return torch.cat(parts, 1)


class BidirectionalLSTM(nn.Module):
    """LSTM layers in both directions over texts of different length, half the width each way.

    The way back reads every text turned round, so that padding stands at the end both ways and is never read before a
    token; packed sequences would do the same more slowly, for they miss oneDNN.

    Args:
        input_size: of the first layer.
        hidden_size: D, even.
        num_layers: layers.
        dropout: between layers, while training.
    """

    def __init__(self, input_size: int, hidden_size: int, num_layers: int = 1, dropout: float = 0.0) -> None:
        super().__init__()
        sizes = [input_size] + [hidden_size] * (num_layers - 1)
        self.onward = nn.ModuleList(LSTM(size, hidden_size // 2, batch_first=True) for size in sizes)
        self.back = nn.ModuleList(LSTM(size, hidden_size // 2, batch_first=True) for size in sizes)
        self.dropout = nn.Dropout(dropout)

    def forward(self, inputs: Tensor, lengths: Tensor, chunk_length: int | None = None) -> tuple[Tensor, Tensor]:
        """Read (B, S, inputs) of (B,) `lengths`, at least 1.

        Returns: (B, S, D) outputs, anything where the text is over, and (B, D) the last output of both directions.
        """
        place = torch.arange(inputs.shape[1], device=inputs.device)
        inside = place < lengths[:, None]
        turned = torch.where(inside, lengths[:, None] - 1 - place, place)[..., None]  # its own inverse
        rows = torch.arange(len(inputs), device=inputs.device)
        x = inputs
        for number, (onward, back) in enumerate(zip(self.onward, self.back, strict=True)):
            x = self.dropout(x) if number else x
            there = in_chunks(onward, x, chunk_length)  # type: ignore[arg-type]
            again = in_chunks(back, x.gather(1, turned.expand_as(x)), chunk_length)  # type: ignore[arg-type]
            last = torch.cat([there[rows, lengths - 1], again[rows, lengths - 1]], -1)
            x = torch.cat([there, again.gather(1, turned.expand_as(again))], -1)
        return x, last
