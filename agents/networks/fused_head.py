"""A linear head fused with the soft maximum over its V outputs: computed in blocks, without the (N, V) tensor.

The update needs only two numbers of the V outputs: that of the action taken, which is a gather, and the soft maximum.
In blocks of columns that fit the cache they cost one matrix product. The backward pass recomputes each block if keeping
all of them would take too much memory (Wijmans et al. 2025, "Cut your losses in large-vocabulary language models").
On a GPU both passes are Triton kernels (`triton_head`); this file is the reference implementation.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from . import triton_head

COLUMNS = 1024  # most actions in a block; with 1,024 rows 4 MiB, which fit the CPU's cache
BLOCK = 1 << 20  # most outputs in a block, so that blocks of more rows fit the cache too
NARROWEST = 128  # fewest actions in a block; narrower products are slow
KEPT = 1 << 23  # most outputs that the forward pass keeps for the backward pass, 32 MiB
NEVER = -1e30  # output of an action that is not valid; finite, so that a block without valid actions gives no nan


def soft_maximum(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor,
    valid: Tensor,
    temperature: float,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """τ·log Σ_a exp(z_a/τ) of z = W·hidden + b over the valid actions; the maximum at τ = 0. No gradient.

    Args:
        hidden: (N, D).
        weight: (V, D).
        bias: (V,).
        valid: (V,) bool.
        temperature: τ >= 0.
        dtype: of the matrix products. With bfloat16 the error of every z, and so of the result, is at most
            2^-8·(Σ|W||hidden| + |b| + |z|).

    Returns: (N,) in the dtype of `hidden`.
    """
    with torch.no_grad():
        if triton_head.fits(hidden):
            return triton_head.forward(hidden, weight, bias, valid, temperature, dtype)[0]
        head = _Head(hidden, weight, bias, valid, temperature, dtype)
        return head.maximum() if temperature == 0.0 else head.soft_maximum()[0]


def taken_and_soft_maximum(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor,
    valid: Tensor,
    actions: Tensor,
    temperature: float,
    dtype: torch.dtype = torch.float32,
) -> tuple[Tensor, Tensor]:
    """Outputs of the actions taken, and the `soft_maximum` over the valid actions, both with gradients.

    Their difference is τ log π(a | s) of the policy π ∝ exp(z/τ).

    Args:
        hidden: (N, D).
        weight: (V, D).
        bias: (V,).
        valid: (V,) bool; the actions taken need not be valid.
        actions: (N,) int64.
        temperature: τ >= 0; at 0 the gradient of the maximum goes to the first of equal maxima.
        dtype: of the matrix products over all V, see `soft_maximum`; the outputs of the actions taken are exact.

    Returns: two tensors (N,).
    """
    result: tuple[Tensor, Tensor] = _TakenAndPeak.apply(hidden, weight, bias, valid, actions, temperature, dtype)
    return result


class _Head:
    """The outputs divided by τ, in blocks of columns."""

    def __init__(
        self, hidden: Tensor, weight: Tensor, bias: Tensor, valid: Tensor, temperature: float, dtype: torch.dtype
    ) -> None:
        dtype = hidden.dtype if dtype == torch.float32 else dtype  # float64 networks stay float64
        self.temperature = temperature
        scale = temperature or 1.0
        self.hidden = (hidden if scale == 1.0 else hidden / scale).to(dtype)
        self.bias = (bias / scale).masked_fill(~valid, NEVER).to(dtype)
        self.weight = weight.to(dtype)
        self.exact = hidden.dtype
        width = min(COLUMNS, max(NARROWEST, BLOCK // max(len(hidden), 1)))
        self.columns = [slice(start, start + width) for start in range(0, len(weight), width)]

    def blocks(self, keep: bool = False) -> Iterator[tuple[slice, Tensor]]:
        """Slices of columns and their (N, columns) outputs. Without `keep` the next block overwrites the outputs."""
        count = len(self.hidden)
        # A new allocation per block would fragment the memory.
        place = None if keep else self.hidden.new_empty(count * (self.columns[0].stop if self.columns else 0))
        for columns in self.columns:
            weight, bias = self.weight[columns], self.bias[columns]
            out = None if place is None else place[: count * len(bias)].view(count, len(bias))
            yield columns, torch.addmm(bias, self.hidden, weight.t(), out=out)

    def soft_maximum(self, keep: bool = False) -> tuple[Tensor, Tensor, list[Tensor]]:
        """(N,) soft maxima, (blocks, N) share of each block in exp(peak/τ), and with `keep` the outputs."""
        parts, kept = [], []
        for _, block in self.blocks(keep):
            # log_softmax is one fused pass and logsumexp is five; their difference to the outputs is the log-sum-exp.
            below = torch.log_softmax(block, -1, dtype=self.exact)
            parts.append(block.amax(-1).to(self.exact) - below.amax(-1))
            if keep:
                kept.append(block)
        logs = torch.stack(parts)
        peak = logs.logsumexp(0)
        return peak * self.temperature, (logs - peak).exp_(), kept

    def maximum(self) -> Tensor:
        """(N,) largest outputs; a quarter faster than `best`, which also gives their indices."""
        return torch.stack([block.amax(-1) for _, block in self.blocks()]).amax(0).to(self.exact)

    def best(self) -> tuple[Tensor, Tensor]:
        """(N,) largest outputs, and (N,) their actions."""
        best = [(columns.start, *block.max(-1)) for columns, block in self.blocks()]
        values, which = torch.stack([v for _, v, _ in best]).max(0)
        places = torch.stack([start + place for start, _, place in best])
        return values.to(self.exact), places.gather(0, which[None])[0]


class _TakenAndPeak(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor,
        valid: Tensor,
        actions: Tensor,
        temperature: float,
        dtype: torch.dtype,
    ) -> tuple[Tensor, Tensor]:
        taken = (hidden * weight[actions]).sum(-1) + bias[actions]
        ctx.temperature, ctx.dtype, ctx.kept, shares, best = temperature, dtype, [], None, actions
        if triton_head.fits(hidden):
            peak, best = triton_head.forward(hidden, weight, bias, valid, temperature, dtype)
        else:
            head = _Head(hidden, weight, bias, valid, temperature, dtype)
            if temperature == 0.0:
                peak, best = head.best()
            else:
                peak, shares, ctx.kept = head.soft_maximum(keep=len(hidden) * len(weight) <= KEPT)
        ctx.save_for_backward(hidden, weight, bias, valid, actions, peak, best, shares)
        return taken, peak

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        hidden, weight, bias, valid, actions, peak, best, shares = ctx.saved_tensors
        to_taken, to_peak = gradients
        if ctx.temperature == 0.0:
            to_hidden = to_peak[:, None] * weight[best]
            to_weight, to_bias = torch.zeros_like(weight), torch.zeros_like(bias)
            to_weight.index_add_(0, best, to_peak[:, None] * hidden)
            to_bias.index_add_(0, best, to_peak)
        elif triton_head.fits(hidden):
            to_hidden, to_weight, to_bias = triton_head.backward(
                hidden, weight, bias, valid, peak, to_peak, ctx.temperature, ctx.dtype
            )
        else:
            to_hidden, to_weight, to_bias = _through_softmax(ctx, hidden, weight, bias, valid, shares, to_peak)
        to_hidden.addcmul_(to_taken[:, None], weight[actions])
        to_weight.index_add_(0, actions, to_taken[:, None] * hidden)
        to_bias.index_add_(0, actions, to_taken)
        return to_hidden, to_weight, to_bias, None, None, None, None


def _through_softmax(
    ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor, valid: Tensor, shares: Tensor, to_peak: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of the soft maxima: the softmax within each block times the block's share."""
    head = _Head(hidden, weight, bias, valid, ctx.temperature, ctx.dtype)
    work = head.weight.dtype
    to_hidden = torch.zeros_like(hidden)
    to_weight, to_bias = torch.empty_like(weight), torch.empty_like(bias)
    blocks = zip(head.columns, ctx.kept, strict=True) if ctx.kept else head.blocks()
    for (columns, block), share in zip(blocks, shares, strict=True):
        within = torch.softmax(block, -1)
        rows = share * to_peak
        to_hidden.addcmul_(rows[:, None], within @ head.weight[columns])
        scaled = (rows[:, None] * hidden).to(work)
        if work == weight.dtype:
            torch.mm(within.t(), scaled, out=to_weight[columns])
        else:
            to_weight[columns] = within.t() @ scaled
        to_bias[columns] = within.t() @ rows.to(work)
    return to_hidden, to_weight, to_bias
