"""Triton kernels of `fused_head` for CUDA: outputs of a linear head in tiles that never leave the chip.

Three kernels. The forward one walks down the vocabulary with a running maximum and a running sum (Milakov &
Gimelshein 2018, "Online normalizer calculation for softmax"); the backward ones make every tile of outputs again, one
summing over actions (gradient of the hidden vectors), one over rows (gradient of the weights), so that no atomic
addition is needed and the same input gives the same gradient.

With TRITON_INTERPRET=1 they run on the CPU, slowly, which is how they are tested where no GPU is.
"""

from __future__ import annotations

import os

import torch
from torch import Tensor

try:  # torch brings Triton along on CUDA only
    from . import triton_kernels as kernels
except ImportError:
    kernels = None  # type: ignore[assignment]

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
WIDEST = 512  # hidden size up to which a tile's gradient fits on the chip
_ROWS, _COLUMNS, _DEPTH = 64, 64, 64
_WARPS = 8
_PROGRAMS = 512  # about four for each multiprocessor of a large GPU


def fits(hidden: Tensor) -> bool:
    """Whether the kernels can be used on (N, D) `hidden`."""
    if kernels is None or not (hidden.is_cuda or INTERPRETED):
        return False
    return hidden.dtype == torch.float32 and hidden.shape[1] <= WIDEST and len(hidden) > 0


def forward(
    hidden: Tensor, weight: Tensor, bias: Tensor, valid: Tensor, temperature: float, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Soft maxima (N,) of the head's outputs as in `fused_head.soft_maximum`, and which output is the largest (N,).

    The second is of use at τ = 0 only and otherwise nothing but zeros.
    """
    sizes = _Sizes(hidden, weight)
    parts = hidden.new_empty((sizes.column_splits, sizes.rows))
    best = torch.zeros_like(parts, dtype=torch.int64)
    grid = (_blocks(sizes.rows, _ROWS), sizes.column_splits)
    kernels.forward[grid](
        *_operands(hidden, weight, bias, valid, temperature, dtype),
        parts, best, 1.0 / (temperature or 1.0), sizes.rows, sizes.actions, sizes.depth, sizes.columns_each,
        HARD=temperature == 0.0, ROWS=_ROWS, COLUMNS=_COLUMNS, DEPTH=_DEPTH, PRECISION=_precision(), num_warps=_WARPS,
    )  # fmt: skip
    if temperature == 0.0:
        peak, split = parts.max(0)
        return peak, best.gather(0, split[None])[0]
    return temperature * parts.logsumexp(0), best[0]


def backward(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor,
    valid: Tensor,
    peak: Tensor,
    gradient: Tensor,
    temperature: float,
    dtype: torch.dtype,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of Σ gradient·peak for hidden (N, D), weight (V, D) and bias (V,); τ > 0."""
    sizes = _Sizes(hidden, weight)
    wide = 1 << max(4, (sizes.depth - 1).bit_length())
    rows = _ROWS if wide <= 256 else _ROWS // 2
    operands = _operands(hidden, weight, bias, valid, temperature, dtype)
    shape = (sizes.rows, sizes.actions, sizes.depth)
    log_mass = peak / temperature

    to_hidden = hidden.new_empty((sizes.column_splits, *hidden.shape))
    kernels.to_hidden[(_blocks(sizes.rows, rows), sizes.column_splits)](
        *operands, log_mass, to_hidden, 1.0 / temperature, *shape, sizes.columns_each,
        ROWS=rows, COLUMNS=_COLUMNS, DEPTH=_DEPTH, PRECISION=_precision(), WIDE=wide, num_warps=_WARPS,
    )  # fmt: skip

    to_weight = weight.new_empty((sizes.row_splits, *weight.shape))
    to_bias = bias.new_empty((sizes.row_splits, len(bias)))
    kernels.to_weight[(_blocks(sizes.actions, rows), sizes.row_splits)](
        *operands, log_mass, gradient.contiguous(), to_weight, to_bias, 1.0 / temperature, *shape, sizes.rows_each,
        ROWS=_COLUMNS, COLUMNS=rows, DEPTH=_DEPTH, PRECISION=_precision(), WIDE=wide, num_warps=_WARPS,
    )  # fmt: skip
    return to_hidden.sum(0) * gradient[:, None], to_weight.sum(0), to_bias.sum(0)


def _operands(
    hidden: Tensor, weight: Tensor, bias: Tensor, valid: Tensor, temperature: float, dtype: torch.dtype
) -> tuple[Tensor, Tensor, Tensor]:
    scaled = (bias / (temperature or 1.0)).masked_fill(~valid, -1e30)
    hidden, weight = hidden.contiguous().to(dtype), weight.contiguous().to(dtype)
    if INTERPRETED:  # the interpreter multiplies no bfloat16; the numbers stay those of `dtype`
        hidden, weight = hidden.float(), weight.float()
    return hidden, weight, scaled


class _Sizes:
    """How the work is cut up, so that small batches and small vocabularies fill the GPU too."""

    def __init__(self, hidden: Tensor, weight: Tensor) -> None:
        self.rows, self.depth = hidden.shape
        self.actions = len(weight)
        blocks = _blocks(self.actions, _COLUMNS), _blocks(self.rows, _ROWS)
        self.columns_each, self.column_splits = _split(blocks[0], blocks[1], _COLUMNS)
        self.rows_each, self.row_splits = _split(blocks[1], blocks[0], _COLUMNS)


def _split(blocks: int, others: int, size: int) -> tuple[int, int]:
    """Entries each program walks along a side of `blocks` blocks, and how many programs share the side."""
    wanted = max(1, min(blocks, _PROGRAMS // others))
    each = _blocks(blocks, wanted)
    return each * size, _blocks(blocks, each)


def _precision() -> str:
    """How products of float32 are made: as torch makes them."""
    return "ieee" if torch.get_float32_matmul_precision() == "highest" else "tf32"


def _blocks(entries: int, size: int) -> int:
    return -(-entries // size)
