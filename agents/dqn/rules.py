"""Each learning rule by its name: which readings of the networks go into which loss."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..networks import Heads
from . import losses
from .config import AgentConfig
from .update import Update


@dataclass
class Outcome:
    """What a rule makes of a batch.

    Args:
        loss: (N,) per action.
        error: (N,) its TD error, for priorities and the log; None for rules without.
        value: (N,) state values, for the log; None for rules without.
    """

    loss: Tensor
    error: Tensor | None = None
    value: Tensor | None = None


def _soft_q(update: Update) -> Outcome:
    """The Bellman equation with V = τ log Σ exp(Q/τ): dqn at τ = 0, soft Q-learning above; over several steps too."""
    with torch.no_grad():
        v_t = update.value_next
    return _squared(update, update.targets(update.rewards, v_t), v_t)


def _double(update: Update) -> Outcome:
    with torch.no_grad():
        chosen_by, judged_by = update.online_next.q_values, update.target_next.q_values
        v_t = update.bounded(losses.double_value(chosen_by, judged_by, update.temperature), update.written_after)
    return _squared(update, update.targets(update.rewards, v_t), v_t)


def _munchausen(update: Update) -> Outcome:
    alpha, tau = update.config.munchausen_alpha, update.temperature
    with torch.no_grad():
        log_policy = update.target.advantage / tau
        bonus = losses.munchausen_bonus(log_policy, tau / (1.0 - alpha), alpha, update.config.munchausen_clip)
        v_t = update.value_next
    return _squared(update, update.targets(update.rewards + bonus, v_t), v_t)


def _squared(update: Update, target: Tensor, v_t: Tensor) -> Outcome:
    error = target - update.online.taken
    return Outcome(losses.squared_or_huber(error, update.config.huber_delta), error, v_t)


def _pcl(update: Update) -> Outcome:
    with torch.no_grad():
        v_t = update.value_next
    grid = update.grid
    error = losses.path_consistency(
        grid(update.online.value),
        grid(update.rewards),
        grid(update.online.advantage),
        grid(update.discounts),
        grid(v_t),
        update.at,
        update.config.n_step,
    )
    error = update.of_actions(error)
    return Outcome(losses.squared_or_huber(error, update.config.huber_delta), error, v_t)


def _hl_gauss(update: Update) -> Outcome:
    """V as a histogram, fitted to target - A(s, a) by cross-entropy; the advantages by squared error."""
    with torch.no_grad():
        v_t = update.value_next
        target = update.targets(update.rewards, v_t)
    network, online = update.network, update.online
    histogram = losses.gaussian_histogram(target - online.advantage.detach(), network.support)
    loss = losses.distribution_cross_entropy(network.value_head(online.hidden), histogram)
    error = target - (online.value.detach() + online.advantage)
    return Outcome(loss + losses.squared_or_huber(error, update.config.huber_delta), error, v_t)


def _c51(update: Update) -> Outcome:
    support = update.network.support
    with torch.no_grad():
        best = _best_atoms(update).softmax(-1)
        target = losses.categorical_projection(best, update.rewards, update.discounts, support)
    logits = _taken_atoms(update)
    error = target @ support - torch.softmax(logits, -1) @ support
    return Outcome(losses.distribution_cross_entropy(logits, target), error, best @ support)


def _quantile(update: Update) -> Outcome:
    with torch.no_grad():
        best = _best_atoms(update)
        target = update.rewards[:, None] + losses.discounted(update.discounts[:, None], best)
    quantiles = _taken_atoms(update)
    loss = losses.quantile_huber(quantiles, target, update.config.huber_delta or 1.0)
    return Outcome(loss, target.mean(-1) - quantiles.mean(-1), best.mean(-1))


def _best_atoms(update: Update) -> Tensor:
    """(N, atoms) of the target network's greedy action in the state after."""
    reading = update.target_next
    best = reading.preferences.argmax(-1)
    atoms = update.target_network.action_atoms(reading.hidden)
    return atoms[torch.arange(len(best), device=best.device), best]


def _taken_atoms(update: Update) -> Tensor:
    atoms = update.network.action_atoms(update.online.hidden)
    return atoms[torch.arange(len(atoms), device=atoms.device), update.actions]


def _cross_entropy(update: Update) -> Outcome:
    """Of the Boltzmann policy ∝ exp(Q/τ) that the agent acts by."""
    tau = update.density_temperature
    taken, peak = update.online.head_of_taken(update.network.head, tau)
    return Outcome(losses.cross_entropy(taken / tau, peak / tau))


def _cql(update: Update) -> Outcome:
    outcome = _soft_q(update)
    extra = losses.conservative(*update.online.taken_and_peak)
    return Outcome(outcome.loss + update.config.cql_weight * extra, outcome.error, outcome.value)


def _ilql(update: Update) -> Outcome:
    config, online = update.config, update.online
    with torch.no_grad():
        v_t = update.bounded(update.target_network.state_values(update.target_next.hidden), update.written_after)
        q_target = update.target.taken
    error = update.rewards + losses.discounted(update.discounts, v_t) - online.taken
    value = losses.expectile(q_target - update.network.state_values(online.hidden), config.expectile)
    extra = losses.conservative(*online.head_of_taken(update.network.head, 1.0))
    loss = losses.squared_or_huber(error, config.huber_delta) + value + config.cql_weight * extra
    return Outcome(loss + _behaviour(update), error, v_t)


def _q_sft(update: Update) -> Outcome:
    """Rewards are first mapped to [0, 1]: (tokens paid for + reward/scale)/T, which orders texts of equal length."""
    rules, written = update.rules, update.written
    since = written + 1 if not rules.reward_every else written % rules.reward_every + 1
    last = update.of_actions(torch.nn.functional.pad(update.at, (0, 1))[:, 1:]).logical_not()
    pays = last | ((written + 1) % rules.reward_every == 0) if rules.reward_every else last
    scaled = torch.where(pays, since + update.rewards / update.config.reward_scale, 0.0) / rules.max_new_tokens
    with torch.no_grad():
        ratio = (torch.log_softmax(update.target_next.preferences, -1) - _log_behaviour(update)).exp()
        v_t = ratio.nan_to_num(0.0).amax(-1)
        target = (scaled.clamp(min=0.0) + losses.discounted(update.discounts, v_t)).clamp(0.0, 1.0)
    loss = losses.weighted_cross_entropy(update.online.preferences, update.actions, target)
    return Outcome(loss + _behaviour(update), None, v_t)


def _log_behaviour(update: Update) -> Tensor:
    """(N, V) log π_β of the target network in the states after, -inf where not valid."""
    reading = update.target_next
    logits = _behaviour_head(update.target_network)(reading.hidden)
    return torch.log_softmax(update.rules.masked(logits, reading.written), -1)


def _behaviour(update: Update) -> Tensor:
    """(N,) cross-entropy of the behaviour head."""
    return losses.cross_entropy(*update.online.head_of_taken(_behaviour_head(update.network), 1.0))


def _behaviour_head(network: nn.Module) -> nn.Linear:
    head = network.behaviour_head
    if not isinstance(head, nn.Linear):
        raise ValueError("this rule needs a network with a behaviour head")
    return head


def _iq_learn(update: Update) -> Outcome:
    online, after = update.online, update.online_next
    loss = losses.inverse_soft_q(online.taken, online.value, update.discounts, after.value, update.config.td_weight)
    return Outcome(loss, None, after.value.detach())


RULES: dict[str, Callable[[Update], Outcome]] = {
    "soft_q": _soft_q,
    "dqn": _soft_q,
    "double": _double,
    "munchausen": _munchausen,
    "pcl": _pcl,
    "hl_gauss": _hl_gauss,
    "c51": _c51,
    "quantile": _quantile,
    "cross_entropy": _cross_entropy,
    "q_sft": _q_sft,
    "iq_learn": _iq_learn,
    "cql": _cql,
    "ilql": _ilql,
    "pqn": _soft_q,
}


_MARGIN_BINS = 4


def make_heads(config: AgentConfig) -> Heads:
    """The heads that the learning rule needs."""
    loss = config.loss
    distributional, low, high = loss in ("c51", "quantile"), *config.value_range
    if loss == "hl_gauss":  # a histogram's Gaussians need room on both sides to keep their mean
        margin = _MARGIN_BINS * (high - low) / config.atoms
        low, high = low - margin, high + margin
    return Heads(
        atoms=config.atoms if distributional else 1,
        value_bins=config.atoms if loss == "hl_gauss" else 1,
        support=(low, high),
        quantiles=loss == "quantile",
        behaviour=config.advantage_weight if loss in ("ilql", "q_sft") else None,
        likelihood_ratio=loss == "q_sft",
        rewards=config.redistribute,
        layer_norm=loss == "pqn",
    )
