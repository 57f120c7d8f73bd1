"""`fused_head` for CUDA in Triton: tiles of a linear head's outputs that are never written to global memory.

There are three kernels. The forward kernel iterates over the vocabulary with a running maximum and sum (Milakov &
Gimelshein 2018, "Online normalizer calculation for softmax"). The backward kernels recompute every tile of outputs; one
sums over actions (gradient of the hidden vectors), one over rows (gradient of the weights). So no atomic additions are
needed, and gradients are deterministic.

With TRITON_INTERPRET=1 they run on the CPU, slowly, for tests without a GPU.
"""

from __future__ import annotations

import os

import torch
from torch import Tensor

try:  # torch installs Triton only with CUDA
    from . import triton_kernels as kernels
except ImportError:
    kernels = None  # type: ignore[assignment]

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
WIDEST = 512  # largest hidden size for which the gradient of a tile fits on chip
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
    """(N,) soft maxima of the outputs as in `fused_head.soft_maximum`, and (N,) the argmax at τ = 0, zeros at τ > 0."""
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
    """Gradients of Σ gradient·peak with respect to hidden (N, D), weight (V, D) and bias (V,); τ > 0."""
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
    if INTERPRETED:  # the interpreter cannot multiply bfloat16; the values stay rounded to `dtype`
        hidden, weight = hidden.float(), weight.float()
    return hidden, weight, scaled


class _Sizes:
    """How the work is split into programs, so that small batches and vocabularies fill the GPU too."""

    def __init__(self, hidden: Tensor, weight: Tensor) -> None:
        self.rows, self.depth = hidden.shape
        self.actions = len(weight)
        blocks = _blocks(self.actions, _COLUMNS), _blocks(self.rows, _ROWS)
        self.columns_each, self.column_splits = _split(blocks[0], blocks[1], _COLUMNS)
        self.rows_each, self.row_splits = _split(blocks[1], blocks[0], _COLUMNS)


def _split(blocks: int, others: int, size: int) -> tuple[int, int]:
    """Entries per program along a side of `blocks` blocks, and the number of programs along that side."""
    wanted = max(1, min(blocks, _PROGRAMS // others))
    each = _blocks(blocks, wanted)
    return each * size, _blocks(blocks, each)


def _precision() -> str:
    """Precision of float32 products, as set in torch."""
    return "ieee" if torch.get_float32_matmul_precision() == "highest" else "tf32"


def _blocks(entries: int, size: int) -> int:
    return -(-entries // size)
