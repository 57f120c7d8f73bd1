"""Learning rules with one error for a whole text: trajectory balance, TBRM, ReVal."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from ...envs.arguments import number
from . import losses
from .rule import Outcome, Rule
from .update import Update

Reference = Literal["none", "start"]


@dataclass(frozen=True)
class _Trajectory(Rule):
    """A rule whose error is Σ r - τ Σ log(π/π_ref) - Z(first state), one number for a whole text.

    It is zero for every text where π(text) ∝ π_ref(text)·exp(Σ r/τ), and Z is τ log of the sum of these. A text that
    `max_new_tokens` truncates counts as it is; nothing is bootstrapped behind it.

    Args:
        reference: π_ref. "none": 1 for every text, so the optimum is that of soft Q-learning in the horizon "episode".
            "start": the policy before the first update, after `start_from` and `pretrain`; an agent that was saved and
            loaded begins with the loaded one.
        huber_delta: error of a text, in nats, from which on the loss is linear; None for squared.
    """

    needs = (("gamma", 1.0),)
    why = "it compares the reward of a whole text with its log-probability"
    ignores = ("target_update_rate", "target_update_interval", "averaged", "rewards")
    needs_temperature = True
    dueling = False
    frozen_target = True
    takes_phrases = False
    reference: Reference = "none"
    huber_delta: float | None = number(None, 1e-6)

    @property
    def target_network(self) -> bool:  # type: ignore[override]
        """The target network is the reference policy, where there is one."""
        return self.reference == "start"

    def loss(self, update: Update) -> Outcome:
        """½ error² of the text, or Huber's loss, spread evenly over its actions."""
        log_ratio = update.online.advantage
        if self.target_network:
            log_ratio = log_ratio - update.target.advantage
        surplus = (update.grid(update.rewards) - update.grid(log_ratio)).sum(-1)
        error = surplus - self._normaliser(update, surplus)
        lengths = update.at.sum(-1).clamp(min=1)

        def spread(values: Tensor) -> Tensor:
            return update.of_actions((values / lengths)[:, None] * update.at)

        return Outcome(spread(losses.squared_or_huber(error, self.huber_delta)), spread(error))

    def _normaliser(self, update: Update, surplus: Tensor) -> Tensor:
        """(B,) τ log Z of the first state of every text, nats.

        Args:
            update: the batch.
            surplus: (B,) Σ r - τ Σ log(π/π_ref) of the texts.
        """
        raise NotImplementedError


@dataclass(frozen=True)
class TrajectoryBalance(_Trajectory):
    """τ log Z + τ Σ log π = Σ r + τ Σ log π_ref of every text (Malkin et al. 2022, eq. 14).

    Args:
        reference: as above.
        huber_delta: as above.
        learned_normaliser: the head of V learns τ log Z of the first state. Without, it is the mean of
            Σ r - τ Σ log(π/π_ref) over the texts of the batch with the same prompt, so that the loss is their variance
            ("VarGrad", Richter et al. 2020, eq. 9); a prompt that stands alone in its batch then teaches nothing.
    """

    dueling = True
    learned_normaliser: bool = True

    def _normaliser(self, update: Update, surplus: Tensor) -> Tensor:
        if self.learned_normaliser:
            return _of_first(update, update.online.value)
        groups = _prompts(update)
        count = torch.zeros_like(surplus).index_add_(0, groups, torch.ones_like(surplus))
        # The mean has no part in the gradient: the errors of a prompt sum to 0.
        return (torch.zeros_like(surplus).index_add_(0, groups, surplus.detach()) / count.clamp(min=1))[groups]


@dataclass(frozen=True)
class TBRM(_Trajectory):
    """Trajectory Bellman residual minimisation: Q is the action head, V its soft maximum (Yuan et al. 2025, eq. 3).

    The Bellman residuals of a text sum up to Σ r - τ Σ log(π/π_ref) - V(first state): no target network, no critic.
    """

    reads_all_actions = True

    def _normaliser(self, update: Update, surplus: Tensor) -> Tensor:
        return _of_first(update, update.online.value)


@dataclass(frozen=True)
class ReVal(_Trajectory):
    """TBRM with V(first state) - V_ref(first state) (Wang et al. 2026, arXiv 2603.23355).

    The error of a text without reward is then 0 at the start, so that nothing moves without a reward; TBRM moves.
    Its authors use a replay of some thousand texts, first in, first out, and two updates a batch of new ones:
    `replay_capacity`, and a `replay_ratio` of two batches for the actions between updates.
    """

    reads_all_actions = True
    reference: Reference = "start"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.reference != "start":
            raise ValueError(f"reval needs the reference 'start', not {self.reference!r}; tbrm goes without")

    def _normaliser(self, update: Update, surplus: Tensor) -> Tensor:
        return _of_first(update, update.online.value - update.target.value)


def _of_first(update: Update, values: Tensor) -> Tensor:
    """(N,) of actions -> (B,) that of the first action of every text."""
    return (update.grid(values) * _first(update)).sum(-1)


def _first(update: Update) -> Tensor:
    """(B, L) bool, the first action of every text."""
    return update.at & (update.at.cumsum(-1) == 1)


def _prompts(update: Update) -> Tensor:
    """(B,) the same number for texts with the same prompt."""
    written = update.at.cumsum(-1) > 0  # column t + 1 of the tokens is what the action in column t wrote
    prompt = update.batch.tokens.clone()
    prompt[:, 1:][written] = -1
    groups: Tensor = torch.unique(prompt, dim=0, return_inverse=True)[1]
    return groups
