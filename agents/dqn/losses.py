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
    if temperature == 1.0:  # saves a pass over all V values, forward and backward
        return torch.logsumexp(q_values, -1)
    return temperature * torch.logsumexp(q_values / temperature, -1)


def double_value(q_online: Tensor, q_target: Tensor, temperature: float) -> Tensor:
    """Value of the online network's policy under the target network: Σ_a π(a)·(Q̄(a) - τ log π(a)).

    At τ = 0 that is Q̄(argmax Q), double Q-learning; with equal networks it is `soft_value`.

    Args:
        q_online: (..., V) values that choose, -inf where an action is not valid.
        q_target: (..., V) values that judge.
        temperature: τ >= 0.

    Returns: (...) state values.
    Source: van Hasselt et al. 2016, "Deep reinforcement learning with double Q-learning", eq. 4.
    """
    if temperature == 0.0:
        return q_target.gather(-1, q_online.argmax(-1, keepdim=True)).squeeze(-1)
    log_policy = torch.log_softmax(q_online / temperature, -1)
    policy = log_policy.exp()
    return torch.where(policy > 0, policy * (q_target - temperature * log_policy), 0.0).sum(-1)


def value_bound(
    temperature: float,
    steps_left: Tensor,
    num_actions: int,
    log_prob_weight: float = 1.0,
    largest_score: float = 0.0,
) -> Tensor:
    """Upper bound of V* under the rewards w·log p* and a score at the end, with γ = 1, in nats.

    With Σ_a p*(a|s) = 1 a step adds at most τ log Σ p^{w/τ} <= max(0, τ - w)·log V to the soft value: for τ <= w every
    p^{w/τ} <= p, for τ > w the power is concave and the sum largest at p = 1/V (Jensen). A score adds its maximum.

    Args:
        temperature: τ >= 0.
        steps_left: (...) most steps the episode can still take.
        num_actions: V.
        log_prob_weight: w >= 0.
        largest_score: most that the score at the end can be, at least 0.

    Returns: (...) bounds.
    """
    return max(0.0, temperature - log_prob_weight) * math.log(num_actions) * steps_left + largest_score


class _Bounded(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, bound: Tensor) -> Tensor:
        ctx.save_for_backward(values > bound)
        return torch.minimum(values, bound)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (above,) = ctx.saved_tensors
        # A plain minimum has no gradient above the bound: a value there could never come down again.
        return gradients[0].masked_fill(above & (gradients[0] < 0), 0.0), None


def bounded(values: Tensor, bound: Tensor) -> Tensor:
    """min(values, bound), whose gradient can lower a value that is above its bound but not raise it."""
    result: Tensor = _Bounded.apply(values, bound)
    return result


def td_error(q_tm1: Tensor, r_t: Tensor, discount_t: Tensor, v_t: Tensor) -> Tensor:
    """r_t + γ_t·V(s_t) - Q(s_{t-1}, a_{t-1}), with no gradient through the target.

    Args:
        q_tm1: (...) value of the action taken.
        r_t: (...) reward it earned.
        discount_t: (...) discount, 0 where the action ended the episode.
        v_t: (...) value of the next state; any value where discount_t is 0.

    Returns: (...) errors in nats.
    Source: Sutton & Barto 2018, eq. 6.5, with the value of the next state given.
    """
    return (r_t + discounted(discount_t, v_t)).detach() - q_tm1


def centred(errors: Tensor, positions: Tensor) -> Tensor:
    """Errors less the mean of those at the same position; the mean has no gradient.

    Args:
        errors: (N,) nats.
        positions: (N,) int64, tokens written before, at least 0.

    Returns: (N,) errors, whose mean at every position is 0.
    """
    sums = errors.new_zeros(int(positions.max()) + 1 if len(positions) else 0)
    counts = torch.zeros_like(sums).index_add(0, positions, torch.ones_like(errors))
    means = sums.index_add(0, positions, errors.detach()) / counts.clamp(min=1)
    return errors - means[positions]


def discounted(discount_t: Tensor, v_t: Tensor) -> Tensor:
    """γ_t·V(s_t); 0 where the discount is 0, even if the value is not finite."""
    return torch.where(discount_t > 0, discount_t * v_t, 0.0)


def multi_step(
    r_t: Tensor,
    discount_t: Tensor,
    v_t: Tensor,
    baseline_tm1: Tensor,
    is_action: Tensor,
    steps: int,
    trace_decay: float = 1.0,
) -> Tensor:
    """Targets over several steps: G_j = r_j + γ_j V_{j+1} + Σ_{0<i<n} λ^i (Π γ) (r + γ V - B)_{j+i}.

    With the baseline B = V(s) that is the n-step return, or for large n the λ-return (Sutton & Barto 2018, eq. 12.1),
    biased off the policy. With B = Q(s, a) every term has mean zero at the optimum whatever policy chose the actions
    (Harutyunyan et al. 2016, "Q(λ) with off-policy corrections", eq. 5; for soft values it is path consistency).

    Args:
        r_t: (B, L) rewards, 0 where no action was chosen.
        discount_t: (B, L) discounts, 0 where the action ended the episode or none was chosen.
        v_t: (B, L) value of the state after each action.
        baseline_tm1: (B, L) V(s) or Q(s, a) of the state each action was chosen in; any value where none was.
        is_action: (B, L) bool, where an action was chosen.
        steps: n >= 1; with 1 it is the one-step target.
        trace_decay: λ, 0 to 1.

    Returns: (B, L) targets, nats. Each row's actions must stand side by side.
    """
    one_step = r_t + discounted(discount_t, v_t)
    # A truncated episode ends with a discount above 0 and no action behind it.
    error = torch.where(is_action, one_step - baseline_tm1, 0.0)
    total, weight = one_step, torch.ones_like(r_t)
    for i in range(1, min(steps, r_t.shape[1])):
        before = F.pad(discount_t, (0, i - 1))[:, i - 1 : i - 1 + r_t.shape[1]]
        weight = weight * before * trace_decay
        later = F.pad(error, (0, i))[:, i : i + r_t.shape[1]]
        total = total + torch.where(weight > 0, weight * later, 0.0)
    return total


def path_consistency(
    v_tm1: Tensor,
    r_t: Tensor,
    log_policy: Tensor,
    discount_t: Tensor,
    v_t: Tensor,
    is_action: Tensor,
    steps: int,
) -> Tensor:
    """C_j = Σ_{i<d} (Π γ)(r - τ log π)_{j+i} + (Π γ) V_{j+d} - V_j, gradient through V_j and every log π.

    One step of it is `td_error` with Q = V + τ log π.

    Args:
        v_tm1: (B, L) V(s) of the state each action was chosen in.
        r_t: (B, L) rewards, 0 where no action was chosen.
        log_policy: (B, L) τ log π of the actions, 0 where none was chosen.
        discount_t: (B, L) discounts, 0 where the action ended the episode or none was chosen.
        v_t: (B, L) value of the state after each action, from the target network.
        is_action: (B, L) bool, where an action was chosen.
        steps: d >= 1, cut short by the end of the episode.

    Returns: (B, L) consistency errors.
    Source: Nachum et al. 2017, "Bridging the gap between value and policy based reinforcement learning", eq. 15.
    """
    paid = r_t.detach() - log_policy
    # A path of d steps is the (d - 1)-step correction of the one-step target by r - τ log π + γV' - V̄.
    return multi_step(paid, discount_t, v_t.detach(), _shift(v_t.detach()), is_action, steps) - v_tm1


def _shift(v_t: Tensor) -> Tensor:
    """Values of the states after each action to values of the states before (the first column is never used)."""
    return F.pad(v_t, (1, 0))[:, :-1]


def munchausen_bonus(log_policy: Tensor, temperature: float, alpha: float, clip: float | None = None) -> Tensor:
    """α·[τ log π(a|s)]_{clip}^0, added to the reward.

    Without the clip the fixed point is that of τ_eff = (1 - α)τ. A clip above -τ log V makes rare actions all alike.

    Args:
        log_policy: (...) log π̄(a|s) of the actions taken, from the target network.
        temperature: τ of the entropy term.
        alpha: α, 0 to below 1.
        clip: l₀ <= 0, nats, or None for none.

    Returns: (...) nats.
    Source: Vieillard et al. 2020, "Munchausen reinforcement learning", eq. 2 and sec. 4.
    """
    bonus = temperature * log_policy
    return alpha * (bonus if clip is None else bonus.clamp(min=clip))


def squared_or_huber(error: Tensor, delta: float | None) -> Tensor:
    """½·error², or Huber's loss with its linear part from |error| = delta on (Huber 1964)."""
    if delta is None:
        return 0.5 * error.square()
    return F.huber_loss(error, torch.zeros_like(error), reduction="none", delta=delta)


def cross_entropy(taken: Tensor, log_mass: Tensor) -> Tensor:
    """-log p(a) of p ∝ exp(z), in nats.

    Args:
        taken: (N,) logits z(a) of the actions taken; action values at temperature 1 serve as they are.
        log_mass: (N,) log Σ_b exp(z(b)) over the valid actions.

    Returns: (N,) losses.
    """
    return log_mass - taken


def weighted_cross_entropy(logits: Tensor, tokens: Tensor, weight: Tensor) -> Tensor:
    """-[w log p(a) + (1 - w)/(n - 1) Σ_{b≠a} log p(b)]: Q-SFT's loss, the value w learned as a likelihood.

    Over data from π_β its minimum is p(a) = π_β(a) w(a) + Σ_{b≠a} π_β(b) (1 - w(b))/(n - 1), so that p/π_β >= w.

    Args:
        logits: (N, V), -inf where an action is not valid.
        tokens: (N,) int64 actions taken.
        weight: (N,) Bellman targets, 0 to 1.

    Returns: (N,) losses.
    Source: Hong et al. 2024, "Q-SFT: Q-learning for language models via supervised fine-tuning", eq. 4.
    """
    log_p = torch.log_softmax(logits, -1)
    valid = torch.isfinite(logits)
    taken = log_p.gather(-1, tokens[:, None]).squeeze(-1)
    others = log_p.masked_fill(~valid, 0.0).sum(-1) - taken
    return -(weight * taken + (1.0 - weight) / (valid.sum(-1) - 1).clamp(min=1) * others)


def conservative(taken: Tensor, maximum: Tensor) -> Tensor:
    """τ log Σ_b exp(Q(s, b)/τ) - Q(s, a): CQL's regulariser, which keeps untried actions low.

    At τ = 1 it is -log π(a|s), the cross-entropy of the policy. A constant of the state in both does not matter.

    Args:
        taken: (N,) values of the actions of the data.
        maximum: (N,) soft maximum over the valid actions, `soft_value`.

    Returns: (N,), not below 0.
    Source: Kumar et al. 2020, "Conservative Q-learning for offline reinforcement learning", eq. 4.
    """
    return maximum - taken


def expectile(error: Tensor, share: float) -> Tensor:
    """|share - 1[error < 0]|·error², whose minimum is the `share`-expectile; at ½ the mean.

    Source: Kostrikov et al. 2022, "Offline reinforcement learning with implicit Q-learning", eq. 3; in language
    models Snell et al. 2023, "Offline RL for natural language generation with implicit language Q learning", eq. 2.
    """
    return torch.where(error < 0, 1.0 - share, share) * error.square()


def inverse_soft_q(q_tm1: Tensor, v_tm1: Tensor, discount_t: Tensor, v_t: Tensor, weight: float) -> Tensor:
    """V(s) - Q(s, a) + weight·(Q(s, a) - γV(s'))²: log-likelihood with a TD regulariser, gradient through all of it.

    At τ = 1 the first part is -log π(a|s); the second keeps the reward that Q implies small.

    Args:
        q_tm1: (N,) values of the actions of the data.
        v_tm1: (N,) soft values of their states.
        discount_t: (N,) discounts, 0 where the episode ended.
        v_t: (N,) soft values of the states after.
        weight: 1/(4α) of the χ² divergence.

    Returns: (N,) losses.
    Source: Garg et al. 2021, "IQ-Learn", eq. 9 and 10; Wulfmeier et al. 2024, "Imitating language via scalable
    inverse reinforcement learning", eq. 8.
    """
    return v_tm1 - q_tm1 + weight * (q_tm1 - discounted(discount_t, v_t)).square()


def return_decomposition(predicted: Tensor, r_t: Tensor, is_action: Tensor) -> Tensor:
    """½(Σ r̂ - Σ r)² / T of each episode, spread evenly over its actions: learns where a late reward was earned.

    Any r̂ with the right sums leaves the return of every text, and so the optimum, unchanged.

    Args:
        predicted: (B, L) r̂(s, a) of the actions, 0 where none was chosen.
        r_t: (B, L) rewards as they were paid, 0 where no action was chosen.
        is_action: (B, L) bool.

    Returns: (B, L) losses, 0 where no action was chosen.
    Source: Efroni et al. 2021, "Reinforcement learning with trajectory feedback", sec. 3; Arjona-Medina et al. 2019,
    "RUDDER", for the idea.
    """
    lengths = is_action.sum(-1, keepdim=True).clamp(min=1)
    error = (predicted - r_t).sum(-1, keepdim=True)
    return is_action * 0.5 * error.square() / lengths


def categorical_projection(probabilities: Tensor, r_t: Tensor, discount_t: Tensor, support: Tensor) -> Tensor:
    """The distribution of r + γZ on the atoms of `support`, each shifted atom shared between its neighbours.

    The mean is kept as long as no atom is shifted out of the support.

    Args:
        probabilities: (N, K) of Z.
        r_t: (N,) rewards.
        discount_t: (N,) discounts; 0 leaves the reward alone.
        support: (K,) atoms, evenly spaced, ascending, nats.

    Returns: (N, K) probabilities.
    Source: Bellemare et al. 2017, "A distributional perspective on reinforcement learning", algorithm 1.
    """
    width = support[1] - support[0]
    moved = (r_t[:, None] + discount_t[:, None] * support).clamp(support[0], support[-1])
    place = ((moved - support[0]) / width).clamp(0, len(support) - 1)
    low = place.floor().long()
    high = (low + 1).clamp(max=len(support) - 1)
    share = place - low
    projected = torch.zeros_like(probabilities)
    projected.scatter_add_(-1, low, probabilities * (1.0 - share))
    return projected.scatter_add_(-1, high, probabilities * share)


def distribution_cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """-Σ target·log softmax(logits): (N, K), (N, K) -> (N,)."""
    return -(target * F.log_softmax(logits, -1)).sum(-1)


def quantile_huber(quantiles: Tensor, targets: Tensor, delta: float = 1.0) -> Tensor:
    """Quantile regression with Huber's loss, summed over quantiles and averaged over targets.

    Args:
        quantiles: (N, K) predicted, quantile i at the level (i + ½)/K.
        targets: (N, M) samples of the target distribution, no gradient.
        delta: where Huber's loss turns linear, nats.

    Returns: (N,) losses.
    Source: Dabney et al. 2018, "Distributional reinforcement learning with quantile regression", eq. 10.
    """
    count = quantiles.shape[-1]
    level = (torch.arange(count, device=quantiles.device) + 0.5) / count
    error = targets[:, None, :] - quantiles[:, :, None]  # (N, K, M)
    huber = F.huber_loss(error, torch.zeros_like(error), reduction="none", delta=delta) / delta
    return ((level[:, None] - (error.detach() < 0).float()).abs() * huber).mean(-1).sum(-1)


def gaussian_histogram(values: Tensor, support: Tensor, spread: float = 0.75) -> Tensor:
    """Probabilities of bins centred on `support` under a Gaussian around each value, cut off at the outer edges.

    Args:
        values: (N,) nats; those outside the support are taken to its nearest end.
        support: (K,) bin centres, evenly spaced, ascending.
        spread: standard deviation in bin widths.

    Returns: (N, K).
    Source: Imani & White 2018, "Improving regression performance with distributional losses"; Farebrother et al.
    2024, "Stop regressing", eq. 3, whose choice is a spread of 0.75.
    """
    width = support[1] - support[0]
    edges = torch.cat([support - width / 2, support[-1:] + width / 2])
    clamped = values.clamp(support[0], support[-1])[:, None]
    below = 0.5 * (1.0 + torch.erf((edges - clamped) / (spread * width * math.sqrt(2.0))))  # (N, K + 1)
    return below.diff(dim=-1) / (below[:, -1:] - below[:, :1])
