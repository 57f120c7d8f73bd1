"""The Triton kernels that `triton_head` launches. Sizes: hidden (rows, depth), weight (actions, depth)."""

from __future__ import annotations

import triton
import triton.language as tl

NEVER = tl.constexpr(-1e38)  # below every output, and finite


@triton.jit
def _tile(hidden, weight, row, column, rows, actions, depth,
         ROWS: tl.constexpr, COLUMNS: tl.constexpr, DEPTH: tl.constexpr, PRECISION: tl.constexpr):  # fmt: skip
    total = tl.zeros((ROWS, COLUMNS), tl.float32)
    for start in range(0, depth, DEPTH):
        deep = start + tl.arange(0, DEPTH)
        h = tl.load(hidden + row[:, None] * depth + deep, (row[:, None] < rows) & (deep < depth), 0.0)
        w = tl.load(weight + column[:, None] * depth + deep, (column[:, None] < actions) & (deep < depth), 0.0)
        total = tl.dot(h, tl.trans(w), total, input_precision=PRECISION)
    return total


@triton.jit
def forward(hidden, weight, bias, parts, best, scale, rows, actions, depth, columns_each,
            HARD: tl.constexpr,
            ROWS: tl.constexpr, COLUMNS: tl.constexpr, DEPTH: tl.constexpr, PRECISION: tl.constexpr):  # fmt: skip
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    first = tl.program_id(1) * columns_each
    peak = tl.full((ROWS,), NEVER, tl.float32)
    mass = tl.zeros((ROWS,), tl.float32)
    which = tl.zeros((ROWS,), tl.int64)
    for start in range(first, tl.minimum(first + columns_each, actions), COLUMNS):
        column = start + tl.arange(0, COLUMNS)
        z = _tile(hidden, weight, row, column, rows, actions, depth, ROWS, COLUMNS, DEPTH, PRECISION) * scale
        z = tl.where(column < actions, z + tl.load(bias + column, column < actions, 0.0), NEVER)
        higher = tl.maximum(peak, tl.max(z, 1))
        if HARD:
            here = tl.argmax(z, 1)
            which = tl.where(higher > peak, start + here, which)
        else:
            mass = mass * tl.exp(peak - higher) + tl.sum(tl.exp(z - higher[:, None]), 1)
        peak = higher
    place = tl.program_id(1) * rows + row
    if HARD:
        tl.store(parts + place, peak, row < rows)
        tl.store(best + place, which, row < rows)
    else:
        tl.store(parts + place, peak + tl.log(mass), row < rows)


@triton.jit
def to_hidden(hidden, weight, bias, log_mass, out, scale, rows, actions, depth, columns_each,
              WIDE: tl.constexpr,
              ROWS: tl.constexpr, COLUMNS: tl.constexpr, DEPTH: tl.constexpr, PRECISION: tl.constexpr):  # fmt: skip
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    wide = tl.arange(0, WIDE)
    first = tl.program_id(1) * columns_each
    mass = tl.load(log_mass + row, row < rows, 0.0)
    total = tl.zeros((ROWS, WIDE), tl.float32)
    for start in range(first, tl.minimum(first + columns_each, actions), COLUMNS):
        column = start + tl.arange(0, COLUMNS)
        z = _tile(hidden, weight, row, column, rows, actions, depth, ROWS, COLUMNS, DEPTH, PRECISION) * scale
        z = tl.where(column < actions, z + tl.load(bias + column, column < actions, 0.0), NEVER)
        p = tl.exp(z - mass[:, None])
        w = tl.load(weight + column[:, None] * depth + wide, (column[:, None] < actions) & (wide < depth), 0.0)
        total = tl.dot(p.to(w.dtype), w, total, input_precision=PRECISION)
    place = (tl.program_id(1) * rows + row)[:, None].to(tl.int64) * depth + wide
    tl.store(out + place, total, (row[:, None] < rows) & (wide < depth))


@triton.jit
def to_weight(hidden, weight, bias, log_mass, gradient, out, out_bias, scale, rows, actions, depth, rows_each,
              WIDE: tl.constexpr,
              ROWS: tl.constexpr, COLUMNS: tl.constexpr, DEPTH: tl.constexpr, PRECISION: tl.constexpr):  # fmt: skip
    column = tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)
    wide = tl.arange(0, WIDE)
    first = tl.program_id(1) * rows_each
    shift = tl.load(bias + column, column < actions, NEVER)
    total = tl.zeros((COLUMNS, WIDE), tl.float32)
    total_bias = tl.zeros((COLUMNS,), tl.float32)
    for start in range(first, tl.minimum(first + rows_each, rows), ROWS):
        row = start + tl.arange(0, ROWS)
        z = _tile(weight, hidden, column, row, actions, rows, depth, COLUMNS, ROWS, DEPTH, PRECISION) * scale
        mass = tl.load(log_mass + row, row < rows, 0.0)
        share = tl.load(gradient + row, row < rows, 0.0)
        p = tl.exp(z + shift[:, None] - mass[None, :]) * share[None, :]
        h = tl.load(hidden + row[:, None] * depth + wide, (row[:, None] < rows) & (wide < depth), 0.0)
        total = tl.dot(p.to(h.dtype), h, total, input_precision=PRECISION)
        total_bias += tl.sum(p, 1)
    place = tl.program_id(1).to(tl.int64) * actions + column
    tl.store(out + place[:, None] * depth + wide, total, (column[:, None] < actions) & (wide < depth))
    tl.store(out_bias + place, total_bias, column < actions)
