"""One update: a causal pass over whole episodes, a TD error at every position."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor

from ..acting.valid_actions import ActionRules
from ..networks import QNetwork
from ..networks.compiled import compile_forward
from ..replay.episodes import EpisodeBatch
from .config import AgentConfig
from .optimizer import Optimizer
from .rules import RULES
from .stopwatch import Stopwatch
from .update import Update


class Learner:
    """Online and target network, optimiser, and the update.

    Args:
        network: the online Q-network; the target network is a copy of it.
        config: the learner's settings.
        rules: masks and horizon of the environment.
        stopwatch: counts where the time goes; a new one if None.

    Attributes:
        errors: (B, L) absolute TD errors of the last batch, 0 where no action was chosen; empty for rules without.
    """

    def __init__(
        self, network: QNetwork, config: AgentConfig, rules: ActionRules, stopwatch: Stopwatch | None = None
    ) -> None:
        self.network = network
        self.has_target_network = config.loss != "pqn"
        self.target_network = (
            copy.deepcopy(network).requires_grad_(False).eval() if self.has_target_network else network
        )
        if config.compile:
            for each in {network, self.target_network}:
                compile_forward(each, rules.valid.device)
        self.config = config
        self.rules = rules
        self.stopwatch = stopwatch or Stopwatch(rules.valid.device)
        self.optimizer = Optimizer(network, config)
        self.errors = torch.empty(0)
        self.updates = 0
        self.transitions_trained = 0

    def update(self, batch: EpisodeBatch, progress: float) -> dict[str, Tensor]:
        """Train on every action of `batch`.

        Args:
            batch: episodes.
            progress: part of training that is done, 0 to 1, for the schedules.

        Returns: scalars (tensors, so that no device is waited for): loss, and for rules that have them the mean TD
        error and state value.
        """
        self.network.train()
        self.network.resample_noise()
        with self.stopwatch.time("forward"):
            update, metrics = self._forward(batch, progress)
        with self.stopwatch.time("backward"):
            self.optimizer.zero_grad()
            metrics["loss"].backward()
        with self.stopwatch.time("optimizer"):
            norm = self.optimizer.step(self.config.at("learning_rate", progress))
            self.updates += 1
            if self.has_target_network and self.updates % self.config.target_update_interval == 0:
                self._update_target()
        if norm is not None:
            metrics["grad_norm"] = norm
        self.transitions_trained += len(update.index)
        return {name: value.detach() for name, value in metrics.items()}

    def _forward(self, batch: EpisodeBatch, progress: float) -> tuple[Update, dict[str, Tensor]]:
        temperature = self.config.at("temperature", progress)
        update = Update(batch, self.network, self.target_network, self.config, self.rules, temperature)
        outcome = RULES[self.config.loss](update)
        loss = outcome.loss if update.decomposition is None else outcome.loss + update.decomposition
        if batch.weights is not None:
            loss = loss * batch.weights[update.index // update.at.shape[1]]
        metrics = {"loss": batch.mean(loss)}
        if outcome.error is not None:
            metrics["td_error"] = outcome.error.abs().mean()
            self.errors = update.grid(outcome.error.detach().abs())
        if outcome.value is not None:
            metrics["mean_value"] = outcome.value.mean()
        return update, metrics

    @torch.no_grad()
    def _update_target(self) -> None:
        rate = self.config.target_update_rate
        online: list[Tensor] = list(self.network.parameters())
        target: list[Tensor] = list(self.target_network.parameters())
        if rate == 1.0:
            torch._foreach_copy_(target, online)
        else:
            torch._foreach_lerp_(target, online, rate)

    def state_dict(self) -> dict[str, Any]:
        """Both networks, the optimiser and the counters."""
        return {
            "network": self.network.state_dict(),
            "target_network": self.target_network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "updates": self.updates,
            "transitions_trained": self.transitions_trained,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue exactly where `state_dict` was taken."""
        self.network.load_state_dict(state["network"])
        self.target_network.load_state_dict(state["target_network"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.updates = int(state["updates"])
        self.transitions_trained = int(state["transitions_trained"])
