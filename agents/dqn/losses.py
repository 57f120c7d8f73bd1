"""The learning rules: pure functions of tensors, values in nats.

Arguments are named for time as in `rlax`: `_tm1` belongs to the state an action was taken in, `_t` to the state after.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


def soft_value(q_values: Tensor, temperature: float, valid: Tensor | None = None) -> Tensor:
    """Soft state value τ·log Σ_a exp(Q(s, a)/τ), in nats; the plain maximum at τ = 0.

    Args:
        q_values: (..., V) action values.
        temperature: τ >= 0, in nats.
        valid: (..., V) bool, True where the action may be taken; all of them if None.

    Returns: (...) state values, -inf where no action is valid.
    Source: Haarnoja et al. 2017, "Reinforcement learning with deep energy-based policies", eq. 3.
    """
    if valid is not None:
        q_values = q_values.masked_fill(~valid, -torch.inf)
    if temperature == 0.0:
        return q_values.amax(-1)
    return temperature * torch.logsumexp(q_values / temperature, -1)


def value_bound(temperature: float, steps_left: Tensor, num_actions: int) -> Tensor:
    """Upper bound of V* under log-likelihood rewards and γ = 1, in nats.

    With Σ_a p*(a|s) = 1 a step adds at most max(0, τ - 1)·log V to the soft value: for τ <= 1 the power mean
    inequality gives τ log Σ p^{1/τ} <= 0, for τ > 1 Jensen's gives τ log Σ p^{1/τ} <= (τ - 1) log V.

    Args:
        temperature: τ >= 0.
        steps_left: (...) most steps the episode can still take.
        num_actions: V.

    Returns: (...) bounds.
    """
    return max(0.0, temperature - 1.0) * math.log(num_actions) * steps_left


class _Bounded(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, bound: Tensor) -> Tensor:
        ctx.save_for_backward(values > bound)
        return torch.minimum(values, bound)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (above,) = ctx.saved_tensors
        # A plain minimum would have no gradient above the bound and a value once there could never come back.
        return gradients[0].masked_fill(above & (gradients[0] < 0), 0.0), None


def bounded(values: Tensor, bound: Tensor) -> Tensor:
    """min(values, bound), whose gradient can lower a value that is above its bound but not raise it."""
    result: Tensor = _Bounded.apply(values, bound)
    return result


def dueling(state_value: Tensor, preference: Tensor, preferences: Tensor, temperature: float) -> Tensor:
    """Q(s, a) = V(s) + A(s, a) - τ log Σ_b exp(A(s, b)/τ): the dueling head whose soft value is V(s) exactly.

    At τ = 0 the last term is the maximum, eq. 8 of Wang et al. 2016, "Dueling network architectures"; for τ > 0
    the advantage is τ log π(a|s), as path consistency has it (Nachum et al. 2017, eq. 10).

    Args:
        state_value: (...) V(s).
        preference: (...) A(s, a) of the action taken.
        preferences: (..., V) A(s, ·), -inf where an action is not valid.
        temperature: τ >= 0.

    Returns: (...) action values.
    """
    return state_value + preference - soft_value(preferences, temperature)


def td_error(q_tm1: Tensor, r_t: Tensor, discount_t: Tensor, v_t: Tensor) -> Tensor:
    """r_t + γ_t·V(s_t) - Q(s_{t-1}, a_{t-1}), with no gradient through the target.

    Args:
        q_tm1: (...) value of the action taken.
        r_t: (...) reward it earned.
        discount_t: (...) discount, 0 where the action ended the episode.
        v_t: (...) value of the state it led to; may be anything where discount_t is 0.

    Returns: (...) errors in nats.
    Source: Sutton & Barto 2018, eq. 6.5, with the value of the next state given.
    """
    bootstrap = torch.where(discount_t > 0, discount_t * v_t, 0.0)
    return (r_t + bootstrap).detach() - q_tm1


def squared_or_huber(error: Tensor, delta: float | None) -> Tensor:
    """½·error², or Huber's loss with its linear part from |error| = delta on (Huber 1964)."""
    if delta is None:
        return 0.5 * error.square()
    return F.huber_loss(error, torch.zeros_like(error), reduction="none", delta=delta)


def cross_entropy(logits: Tensor, tokens: Tensor, valid: Tensor | None = None) -> Tensor:
    """-log softmax(logits)[token] over the valid tokens, in nats.

    Args:
        logits: (N, V); action values at temperature 1 serve as they are.
        tokens: (N,) int64.
        valid: (N, V) or (V,) bool.

    Returns: (N,) losses.
    """
    if valid is not None:
        logits = logits.masked_fill(~valid, -torch.inf)
    return F.cross_entropy(logits, tokens, reduction="none")
