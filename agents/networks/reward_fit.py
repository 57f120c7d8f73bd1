"""Fitting a `RewardNetwork` to what was paid, and how much of what is new it predicts."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from ..devices import fuses
from .reward_network import RewardNetwork

_AVERAGING = 0.95  # of the weights that predict, over updates
_LAST_RATE = 0.05  # of the learning rate, at the end of training
_MEMORY = 0.9  # of the running errors on new texts, from one batch of them to the next
_NEVER = -1e9  # score of a token that is not valid, finite so that gradients are
_PARTS = ("model", "averaged", "optimizer")


class RewardFit:
    """AdamW on the Huber loss, weights averaged over updates, and running errors on texts that were not learned from.

    Args:
        model: the network, on its device.
        learning_rate: at the beginning; it falls to a twentieth with the progress of training.
        weight_decay: of AdamW.

    Attributes:
        model: the network that learns.
        averaged: its weights averaged over updates, which predict.
    """

    def __init__(self, model: RewardNetwork, learning_rate: float, weight_decay: float) -> None:
        self.model, self._rate = model, learning_rate
        self.averaged = copy.deepcopy(model).requires_grad_(False)
        self._means, self._latest = list(self.averaged.parameters()), list(model.parameters())
        self._weight_decay = weight_decay
        # Not AveragedModel, which walks the tree of modules: a small network has many small updates.
        self._average = get_ema_multi_avg_fn(_AVERAGING)
        self.error = self.spread = 0.0  # running means over new texts, nats²

    @cached_property
    def optimizer(self) -> torch.optim.Optimizer:
        """Made when it is needed: torch imports for seconds then, which a model that only plans need not wait for."""
        fused = fuses(self._latest[0].device)
        return torch.optim.AdamW(self._latest, self._rate, weight_decay=self._weight_decay, fused=fused)

    @property
    def explained(self) -> float:
        """Share of the variance of what was paid for new texts that the network predicted; below 0 if none."""
        return 1.0 - self.error / self.spread if self.spread else 0.0

    def judge(self, predicted: Tensor, paid: Tensor, share: float = 1.0) -> None:
        """Compare (M,) predictions with what was paid and not learned from, `share` of a batch of texts."""
        keep = _MEMORY**share if self.spread else 0.0
        self.error = keep * self.error + (1.0 - keep) * float((predicted - paid).square().mean())
        self.spread = keep * self.spread + (1.0 - keep) * float((paid - paid.mean()).square().mean())

    def believe(self, share: float) -> None:
        """Take `explained` to be `share`, until new texts tell better."""
        self.error, self.spread = 1.0 - share, 1.0

    def step(self, predicted: Tensor, paid: Tensor, progress: float) -> Tensor:
        """One update on (M,) predictions of `model` and what was paid; the loss, without waiting for the device."""
        return self.descend(nn.functional.smooth_l1_loss(predicted, paid), progress)

    def descend(self, loss: Tensor, progress: float) -> Tensor:
        """One update on a loss of `model`, when `progress` of the training is over; the loss, detached."""
        for group in self.optimizer.param_groups:
            group["lr"] = self._rate * (1.0 - (1.0 - _LAST_RATE) * progress)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self._average(self._means, self._latest, 1)
        return loss.detach()

    def state_dict(self) -> dict[str, Any]:
        """Everything that changes."""
        return {
            **{name: getattr(self, name).state_dict() for name in _PARTS},
            "error": self.error,
            "spread": self.spread,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where `state_dict` was taken; other entries are left alone."""
        for name in _PARTS:
            getattr(self, name).load_state_dict(state[name])
        self.error, self.spread = state["error"], state["spread"]


def log_probs_of(network: nn.Module, read: Tensor, written: Tensor, valid: Tensor, tokens: Tensor) -> Tensor:
    """(N,) modelled log p* of `tokens` (N,) after reading (N, P) tokens and (N,) written, `valid` (N, V); nats."""
    scores = network(read, written).masked_fill(~valid, _NEVER)
    return torch.log_softmax(scores, -1).gather(1, tokens[:, None])[:, 0]
