"""LSTMs: gradient checkpointing for long texts, a bidirectional LSTM, and a fallback for CPUs without bfloat16."""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence
from torch.utils.checkpoint import checkpoint


@functools.cache
def has_bfloat16(device_type: str) -> bool:
    """Whether an LSTM runs in bfloat16: oneDNN refuses on CPUs without the instructions."""
    if device_type != "cpu":
        return True

    # torch.lstm, because nn.LSTM would draw weights from the global generator. float32 tensors under autocast, as in
    # training, because bfloat16 tensors do not use oneDNN.
    weights = [torch.zeros(4, 1), torch.zeros(4, 1), torch.zeros(4), torch.zeros(4)]
    start = torch.zeros(1, 1, 1)
    try:
        with torch.autocast(device_type, torch.bfloat16):
            torch.lstm(start, (start, start), weights, True, 1, 0.0, False, False, True)
    except RuntimeError:
        return False
    return True


class LSTM(nn.LSTM):
    """`torch.nn.LSTM` that runs in float32 under autocast if the device has no bfloat16 LSTM."""

    def forward(self, inputs: Any, state: tuple[Tensor, Tensor] | None = None) -> tuple[Any, tuple[Tensor, Tensor]]:
        """(B, T, inputs), possibly packed, and (h, c), each (layers, B, D) -> (B, T, D) outputs and the new (h, c)."""
        data = inputs.data if isinstance(inputs, PackedSequence) else inputs
        lower = torch.is_autocast_enabled(data.device.type)
        if lower and not has_bfloat16(data.device.type):
            with torch.autocast(data.device.type, enabled=False):
                return self(inputs.to(self.weight_ih_l0.dtype), state)
        if state is not None:  # under autocast the state of the last chunk and the next inputs differ in dtype
            state = (state[0].to(data.dtype), state[1].to(data.dtype))
        result: tuple[Any, tuple[Tensor, Tensor]] = super().forward(inputs, state)
        return result


def in_chunks(
    lstm: LSTM, inputs: Tensor, chunk_length: int | None, state: tuple[Tensor, Tensor] | None = None
) -> Tensor:
    """The LSTM's outputs over a text, with gradient checkpointing by chunks of tokens.

    The backward pass runs each chunk again from its initial state (Chen et al. 2016, "Training deep nets with sublinear
    memory cost"). Backpropagation through time is not truncated.

    Args:
        lstm: with batch_first.
        inputs: (B, T, inputs).
        chunk_length: tokens per chunk; None for no checkpointing.
        state: initial (h, c); zeros if None.

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
    """Bidirectional LSTM over texts of different lengths; each direction has half of the hidden size.

    The backward direction runs over the reversed text, so that padding comes last in both directions. Packed sequences
    would give the same outputs more slowly, because they do not use oneDNN.

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
        """Encode inputs (B, S, inputs) of `lengths` (B,), at least 1.

        Returns: (B, S, D) outputs, undefined on padding, and (B, D) the final outputs of both directions.
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
