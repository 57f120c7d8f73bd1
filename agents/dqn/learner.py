"""One update: a causal pass over whole episodes, a TD error at every position."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..configuration import AgentConfig
from ..networks import QNetwork
from . import losses
from .replay import EpisodeBatch

CHUNK = 1 << 22  # entries of a (positions, V) block that may live in memory at once


@dataclass(frozen=True)
class ActionRules:
    """What the learner must know of the environment's rules.

    Args:
        valid: (V,) bool, actions that may ever be chosen.
        eos: the token that ends a text.
        min_new_tokens: actions before `eos` may be chosen.
        max_new_tokens: most actions in an episode.
    """

    valid: Tensor
    eos: int
    min_new_tokens: int
    max_new_tokens: int

    def masked(self, q_values: Tensor, written: Tensor) -> Tensor:
        """(N, V) values with -inf where the action may not be chosen after `written` (N,) tokens."""
        q_values = q_values.masked_fill(~self.valid, -torch.inf)
        if self.min_new_tokens:
            q_values[:, self.eos] = torch.where(written < self.min_new_tokens, -torch.inf, q_values[:, self.eos])
        return q_values


class Learner:
    """Online and target network, optimiser, and the update.

    Args:
        network: the online Q-network; the target network is a copy of it.
        config: the learner's settings.
        rules: masks and horizon of the environment.
    """

    def __init__(self, network: QNetwork, config: AgentConfig, rules: ActionRules) -> None:
        self.network = network
        self.target_network = copy.deepcopy(network).requires_grad_(False).eval()
        self.config = config
        self.rules = rules
        self.optimizer = _optimizer(network, config)
        self.updates = 0
        self.transitions_trained = 0

    def update(self, batch: EpisodeBatch, progress: float) -> dict[str, Tensor]:
        """Train on every action of `batch`.

        Args:
            batch: episodes.
            progress: part of training that is done, 0 to 1, for the schedules.

        Returns: scalars (tensors, so that no device is waited for): loss, and for TD rules the mean value.
        """
        temperature = self.config.at("temperature", progress)
        self.network.train()
        hidden = self.network(batch.tokens)  # (B, L + 1, D)
        if self.config.loss == "cross_entropy":
            metrics = self._cross_entropy(hidden, batch)
        else:
            metrics = self._td(hidden, batch, temperature)

        for group in self.optimizer.param_groups:
            group["lr"] = self.config.at("learning_rate", progress)
        self.optimizer.zero_grad(set_to_none=True)
        metrics["loss"].backward()
        if self.config.max_grad_norm is not None:
            metrics["grad_norm"] = nn.utils.clip_grad_norm_(self.network.parameters(), self.config.max_grad_norm)
        self.optimizer.step()
        self.updates += 1
        self.transitions_trained += int(batch.is_action.sum())
        if self.updates % self.config.target_update_interval == 0:
            self._update_target()
        return {name: value.detach() for name, value in metrics.items()}

    def _td(self, hidden: Tensor, batch: EpisodeBatch, temperature: float) -> dict[str, Tensor]:
        at = batch.is_action
        read, actions, written = (
            hidden[:, :-1][at],
            batch.actions[at],
            batch.written[at],
        )  # (N, D), (N,), (N,)
        if self.config.dueling:
            preferences = self.rules.masked(self.network.q_values(read), written)
            preference = preferences.gather(1, actions[:, None]).squeeze(1)
            value = self._bounded(self.network.state_values(read), written, temperature)
            q_tm1 = losses.dueling(value, preference, preferences, temperature)
        else:
            q_tm1 = self.network.action_values(read, actions)
        v_t = self._next_values(batch, written + 1, temperature)
        discount_t = self.config.gamma * (~batch.terminal[at]).to(q_tm1.dtype)
        error = losses.td_error(q_tm1, batch.rewards[at], discount_t, v_t)
        return {
            "loss": losses.squared_or_huber(error, self.config.huber_delta).mean(),
            "td_error": error.abs().mean(),
            "mean_value": v_t.mean(),
        }

    def _cross_entropy(self, hidden: Tensor, batch: EpisodeBatch) -> dict[str, Tensor]:
        at = batch.is_action
        logits = self.rules.masked(self.network.q_values(hidden[:, :-1][at]), batch.written[at])
        return {"loss": losses.cross_entropy(logits, batch.actions[at]).mean()}

    @torch.no_grad()
    def _next_values(self, batch: EpisodeBatch, written: Tensor, temperature: float) -> Tensor:
        """(N,) target-network values of the states after each action."""
        hidden = self.target_network(batch.tokens)[:, 1:][batch.is_action]  # (N, D)
        if self.config.dueling:
            values = self.target_network.state_values(hidden)
        else:
            chunks = zip(hidden.split(self._rows), written.split(self._rows), strict=True)
            values = torch.cat([
                losses.soft_value(self.rules.masked(self.target_network.q_values(h), w), temperature)
                for h, w in chunks
            ])  # fmt: skip
        return self._bounded(values, written, temperature)

    def _bounded(self, values: Tensor, written: Tensor, temperature: float) -> Tensor:
        """Values held below the bound of V* after `written` tokens, where the configuration wants it."""
        if not self.config.bound_values:
            return values
        steps_left = (self.rules.max_new_tokens - written).clamp(min=0)
        return losses.bounded(values, losses.value_bound(temperature, steps_left, self.network.vocab_size))

    @property
    def _rows(self) -> int:
        return max(1, CHUNK // self.network.vocab_size)

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


def _optimizer(network: nn.Module, config: AgentConfig) -> torch.optim.Optimizer:
    rate = config.at("learning_rate", 0.0)
    parameters = list(network.parameters())
    # One pass over all parameters instead of several for each; not offered for every device.
    fused = parameters[0].device.type in ("cpu", "cuda")
    if config.optimizer == "sgd":
        return torch.optim.SGD(parameters, lr=rate, momentum=0.9, weight_decay=config.weight_decay, fused=fused)
    if config.optimizer == "adamw":
        return torch.optim.AdamW(parameters, lr=rate, weight_decay=config.weight_decay, fused=fused)
    return torch.optim.Adam(parameters, lr=rate, fused=fused)
