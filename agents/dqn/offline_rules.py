"""Learning rules for the corpus alone: maximum likelihood, Q-SFT, IQ-learn, ILQL."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ...envs.arguments import number
from ..networks import Heads, QNetwork
from . import losses
from .rule import Outcome, Rule, TDRule
from .update import Update

_OFFLINE = "it learns from the corpus alone"


@dataclass(frozen=True)
class CrossEntropy(Rule):
    """Maximum likelihood of the policy on the corpus; no rewards."""

    corpus_share = 1.0
    needs = (("corpus_share", 1.0),)
    why = _OFFLINE
    ignores = ("epsilon", "exploration")
    maximum_likelihood = True
    starts_from_likelihood = False
    takes_phrases = False

    def loss(self, update: Update) -> Outcome:
        """-log π(a|s) of the Boltzmann policy π ∝ exp(Q/τ) that the agent acts by."""
        tau = update.density_temperature
        taken, maximum = update.online.head_of_taken(update.network.head, tau)
        return Outcome(losses.cross_entropy(taken / tau, maximum / tau))


@dataclass(frozen=True)
class QSFT(Rule):
    """Values learned as likelihoods (Hong et al. 2024).

    Args:
        advantage_weight: multiple of the advantage that is added to log π_β when acting.
        reward_scale: nats a token that the mapping of rewards to [0, 1] covers.
    """

    corpus_share = 1.0
    dueling = False
    starts_from_likelihood = False
    takes_phrases = False
    advantage_weight: float = number(1.0, 0.0)
    reward_scale: float = number(20.0, 1e-6)

    def heads(self) -> Heads:
        """A behaviour head beside the action head, whose values are likelihood ratios to it."""
        return Heads(behaviour=self.advantage_weight, likelihood_ratio=True)

    def loss(self, update: Update) -> Outcome:
        """See `losses.weighted_cross_entropy`.

        Rewards are first mapped to [0, 1]: (tokens paid for + reward/scale)/T, which orders texts of equal length.
        """
        env, written = update.valid_actions.env, update.written
        since = written + 1 if not env.reward_every else written % env.reward_every + 1
        last = update.of_actions(torch.nn.functional.pad(update.at, (0, 1))[:, 1:]).logical_not()
        pays = last | ((written + 1) % env.reward_every == 0) if env.reward_every else last
        scaled = torch.where(pays, since + update.rewards / self.reward_scale, 0.0) / env.max_new_tokens
        ratio = (torch.log_softmax(update.target_next.preferences, -1) - _log_behaviour(update)).exp()
        v_t = ratio.nan_to_num(0.0).amax(-1).clamp(max=1.0)  # returns are mapped to [0, 1]
        target = (scaled.clamp(min=0.0) + losses.discounted(update.discounts, v_t)).clamp(0.0, 1.0)
        loss = losses.weighted_cross_entropy(update.online.preferences, update.actions, target)
        return Outcome(loss + _behaviour(update), None, v_t)


@dataclass(frozen=True)
class IQLearn(Rule):
    """Log-likelihood with a TD regulariser; no rewards (Garg et al. 2021; Wulfmeier et al. 2024).

    Args:
        td_weight: weight of the TD regulariser.
    """

    corpus_share = 1.0
    needs = (("corpus_share", 1.0),)
    why = _OFFLINE
    ignores = ("epsilon", "exploration")
    td_weight: float = number(0.1, 0.0)

    def loss(self, update: Update) -> Outcome:
        """See `losses.inverse_soft_q`."""
        online, after = update.online, update.online_next
        loss = losses.inverse_soft_q(online.taken, online.value, update.discounts, after.value, self.td_weight)
        return Outcome(loss, None, after.value.detach())


@dataclass(frozen=True)
class ILQL(TDRule):
    """Implicit language Q-learning, for offline data (Snell et al. 2023).

    Args:
        expectile: V(s) is this expectile of Q(s, a) over the data; ½ is the mean, near 1 the maximum.
        cql_weight: weight of the penalty on untried actions.
        advantage_weight: multiple of the advantage that is added to log π_β when acting.
    """

    corpus_share = 1.0
    robust_on_corpus = False
    dueling = False
    expectile: float = number(0.7, 0.5, 0.9999)
    cql_weight: float = number(0.1, 0.0)
    advantage_weight: float = number(1.0, 0.0)

    def heads(self) -> Heads:
        """A behaviour head beside Q and V."""
        return Heads(behaviour=self.advantage_weight)

    def loss(self, update: Update) -> Outcome:
        """TD error with V(s'), the expectile loss of V(s), the penalty, and cross-entropy of the behaviour head."""
        online, after = update.online, update.target_next
        with torch.no_grad():
            v_t = after.bounded(update.target_network.state_values(after.hidden))
        q_target = update.target.taken
        error = update.rewards + losses.discounted(update.discounts, v_t) - online.taken
        value = losses.expectile(q_target - update.network.state_values(online.hidden), self.expectile)
        extra = losses.conservative(*online.head_of_taken(update.network.head, 1.0))
        loss = losses.squared_or_huber(error, update.backup.huber_delta) + value + self.cql_weight * extra
        return Outcome(loss + _behaviour(update), error, v_t)


def _log_behaviour(update: Update) -> Tensor:
    """(N, V) log π_β of the target network in the states after, -inf where not valid."""
    states = update.target_next
    with torch.no_grad():
        logits = _behaviour_head(update.target_network)(states.hidden)
    return torch.log_softmax(update.valid_actions.masked(logits, states.written, states.allowed), -1)


def _behaviour(update: Update) -> Tensor:
    """(N,) cross-entropy of the behaviour head."""
    return losses.cross_entropy(*update.online.head_of_taken(_behaviour_head(update.network), 1.0))


def _behaviour_head(network: QNetwork) -> nn.Linear:
    if network.behaviour_head is None:
        raise ValueError("this rule needs a network with a behaviour head")
    return network.behaviour_head
