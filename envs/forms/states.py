"""States of a form along a text, and p* over the tokens that it allows."""

from __future__ import annotations

from typing import Any

from array_api_compat import device

from ..arrays import namespace
from .protocol import Form


def states_along(form: Form, first: Any, tokens: Any, written: Any) -> Any:
    """(B, S) states of a form after first observations (B, L) and the first `written` (B,) of the tokens (B, T)."""
    xp = namespace(first)
    states = form.start(first)
    for step in range(int(xp.max(written)) if first.shape[0] else 0):
        following = form.next(states, tokens[:, step])
        states = xp.where((step < written)[:, None], following, states)
    return states


def states_after(form: Form, windows: Any, written: Any) -> Any:
    """(B, S) states of a form after windows (B, L), whose last `written` (B,) tokens are not of the prompt.

    The windows must show the prompt as far as the form reads it.
    """
    xp = namespace(windows)
    length = windows.shape[1]
    columns = xp.arange(length, device=device(windows))[None, :]
    rows = xp.arange(windows.shape[0], device=device(windows))[:, None]
    before = columns - written[:, None]
    first = xp.where(before >= 0, windows[rows, xp.clip(before, 0, length - 1)], 0)
    tokens = windows[rows, xp.clip(length - written[:, None] + columns, 0, length - 1)]
    return states_along(form, first, tokens, written)


def conditioned(rows: Any, allowed: Any) -> Any:
    """(B, V) log-probabilities, nats, conditioned on the allowed tokens (B, V) bool; -inf for the others."""
    xp = namespace(rows)
    kept = xp.where(allowed, rows, -xp.inf)
    highest = xp.max(kept, axis=1, keepdims=True)
    highest = xp.where(xp.isfinite(highest), highest, 0.0)
    total = xp.sum(xp.exp(kept - highest), axis=1, keepdims=True)
    return kept - highest - xp.log(xp.where(total > 0.0, total, 1.0))
