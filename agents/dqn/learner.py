"""One update: a causal pass over whole episodes, a loss at every action, one step."""

from __future__ import annotations

import copy
import dataclasses
from contextlib import nullcontext
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from ..acting.valid_actions import ValidActions
from ..networks import QNetwork
from ..networks.precision import resolve_precision
from ..networks.sharding import gather, gathered, is_sharded, local, scatter
from ..protocol import NotFinite
from ..replay.episodes import EpisodeBatch
from . import losses
from .config import AgentConfig
from .optimizer import Optimizer, sparse_weights
from .ranks import Ranks
from .shards import sharded_networks
from .stopwatch import Stopwatch
from .update import Backup, Update

_CHECKED = 64  # updates between two looks at a GPU's flag


class Learner:
    """Online and target network, optimiser, and the update.

    Args:
        network: the online Q-network; the target network is a copy of it.
        config: the learner's settings.
        valid_actions: of the environment.
        stopwatch: counts where the time goes; a new one if None.
        ranks: the processes that train the network together, each on batches of its own; None for this one alone.

    Attributes:
        trained: what the updates train: `network` itself, or where processes split it, this one's parts.
        lags: the target network is a network of its own, not the online one.
        errors: (B, L) absolute TD errors of the last batch, 0 where no action was chosen; empty for rules without.
    """

    def __init__(
        self,
        network: QNetwork,
        config: AgentConfig,
        valid_actions: ValidActions,
        stopwatch: Stopwatch | None = None,
        ranks: Ranks | None = None,
    ) -> None:
        config = config.settled()
        rule = self.rule = config.rule
        self.network, self.ranks = network, ranks
        self._answered = nullcontext if ranks is None else ranks.answered
        if ranks is not None and config.optimizer.name == "sparse_adam":
            raise ValueError("sparse_adam cannot average the gradients of several processes; use adam")
        # A target network that is copied after every update is the online network: one pass is enough.
        copied = config.target_update_rate == 1.0 and config.target_update_interval == 1
        follows = copied and config.network.is_deterministic and not rule.frozen_target
        self.lags = rule.target_network and not follows
        if ranks is not None and network.bodies:
            self.trained, self.target_network = sharded_networks(network, config, self.lags)
        else:
            self.trained = network
            self.target_network = _frozen_copy(network) if self.lags else network
        self.valid_actions = valid_actions
        self.backup = Backup(
            gamma=config.gamma,
            dueling=rule.dueling,
            sharpening=rule.sharpening,
            # Redistributed rewards have the right sums, but no bound on what is still to come.
            bound_values=rule.bound_values and not config.rewards.redistribute,
            n_step=rule.n_step,
            trace_decay=rule.trace_decay,
            off_policy_correction=rule.off_policy_correction,
            huber_delta=rule.delta(beside_corpus=bool(config.corpus_share)),
            dtype=resolve_precision(config.precision, valid_actions.device),
        )
        self.temperature, self.learning_rate = config.temperatures, config.learning_rate
        self.target_update_rate, self.target_update_interval = config.target_update_rate, config.target_update_interval
        self.redistributes, self.decision_cost = config.rewards.redistribute, config.phrases.decision_cost
        self.stopwatch = stopwatch or Stopwatch(valid_actions.device)
        self._optimizer_config = config.optimizer
        self._reads_all_actions = rule.dueling or rule.reads_all_actions
        sparse_weights(self.trained, config.optimizer, self._reads_all_actions)  # before the first pass
        self.errors = torch.empty(0)
        self._finite: Tensor | None = None
        self.updates = 0
        self.transitions_trained = 0

    @cached_property
    def optimizer(self) -> Optimizer:
        """Made when it is needed: torch imports for seconds then, which an agent that only writes need not wait for."""
        return Optimizer(self.trained, self._optimizer_config, self.learning_rate(0.0), self._reads_all_actions)

    def update(self, batch: EpisodeBatch, progress: float) -> dict[str, Tensor]:
        """Train on every action of `batch`.

        Args:
            batch: episodes.
            progress: part of training that is done, 0 to 1, for the schedules.

        Returns: scalars (tensors, so that no device is waited for): loss, and for rules that have them the mean TD
        error and state value.
        """
        self.trained.train()
        self.trained.resample_noise()
        with self._answered(), self.stopwatch.time("forward"):
            update, metrics = self._forward(batch, progress)
        with self._answered(), self.stopwatch.time("backward"):
            self.optimizer.zero_grad()
            count = self._backward(metrics["loss"], batch, len(update.index))
        with self._answered(), self.stopwatch.time("optimizer"):
            norm = self.optimizer.step(self.learning_rate(progress))
            self._watch(batch, metrics["loss"].detach() if norm is None else metrics["loss"].detach() + norm)
            self.updates += 1
            moves = self.lags and not self.rule.frozen_target
            if moves and self.updates % self.target_update_interval == 0:
                self._update_target()
            if self.trained is not self.network:
                gather(self.network, self.trained)
        if norm is not None:
            metrics["grad_norm"] = norm
        self.transitions_trained += count
        return {name: value.detach() for name, value in metrics.items()}

    def _backward(self, loss: Tensor, batch: EpisodeBatch, count: int) -> int:
        """Gradients of the batches of all processes together, of so many actions; returns how many they all have."""
        parameters, weight = self.optimizer.parameters, batch.divisor(count)
        if self.ranks is None:
            loss.backward()
            return count
        if self.trained is self.network:
            loss.backward()
            return self.ranks.average(parameters, weight, count)
        total, actions = self.ranks.sums(weight, count)
        (loss * (weight * self.ranks.size / total)).backward()  # gradients of parts are averaged on the way
        self.ranks.average([p for p in parameters if not is_sharded(p)], 1.0, count)
        return int(actions)

    def _watch(self, batch: EpisodeBatch, number: Tensor) -> None:
        """Remember the first batch whose loss or gradient is not finite; no device is waited for."""
        finite = torch.isfinite(number)
        if self._finite is None:
            self._finite = torch.ones_like(finite)
        self._finite &= finite
        on_cpu = number.device.type == "cpu"
        if on_cpu or self.updates % _CHECKED == 0:
            self.check_finite(batch if on_cpu else None)

    def check_finite(self, batch: EpisodeBatch | None = None) -> None:
        """Raise NotFinite where a loss or gradient was not finite; `batch` is the one that it came from."""
        if self._finite is None or bool(self._finite):
            return
        reason, saved = "a loss or gradient", None
        if batch is not None:
            saved = {"tokens": batch.tokens, "actions": batch.actions, "rewards": batch.rewards, "at": batch.is_action}
            bad = ~torch.isfinite(batch.rewards)
            if bool(bad.any()):
                reason = f"the reward {float(batch.rewards[bad][0])} of token {int(batch.actions[bad][0])}"
        raise NotFinite(
            f"{reason} is not finite in update {self.updates + 1:,}; look at the rewards, or lower learning_rate", saved
        )

    def update_of(self, batch: EpisodeBatch, temperature: float) -> Update:
        """`batch` as the rule reads it when the agent's temperature is τ."""
        backup = dataclasses.replace(self.backup, temperature=0.0 if self.rule.hard else temperature)
        return Update(batch, self.trained, self.target_network, self.valid_actions, backup)

    def _forward(self, batch: EpisodeBatch, progress: float) -> tuple[Update, dict[str, Tensor]]:
        update = self.update_of(batch, self.temperature(progress))
        decomposition = self._redistribute(update) if self.redistributes else None
        if self.decision_cost:
            update.rewards = update.rewards - self.decision_cost
        outcome = self.rule.loss(update)
        loss = outcome.loss if decomposition is None else outcome.loss + decomposition
        if batch.weights is not None:
            loss = loss * batch.weights[update.index // update.at.shape[1]]
        metrics = {"loss": batch.mean(loss)}
        if outcome.error is not None:
            metrics["td_error"] = outcome.error.abs().mean()
            self.errors = update.grid(outcome.error.detach().abs())
        if outcome.value is not None:
            metrics["mean_value"] = outcome.value.mean()
        return update, metrics

    def _redistribute(self, update: Update) -> Tensor:
        """Put the predicted reward of every action in place of the one paid.

        Returns: (N,) loss of the prediction, whose sum over each episode must be that of the rewards paid.
        """
        predicted = self.network.action_rewards(update.online.hidden, update.actions)
        loss = losses.return_decomposition(update.grid(predicted), update.batch.rewards, update.at)
        update.rewards = predicted.detach()
        return update.of_actions(loss)

    @torch.no_grad()
    def _update_target(self) -> None:
        rate = self.target_update_rate
        online: list[Tensor] = [local(p) for p in self.trained.parameters()]
        target: list[Tensor] = [local(p) for p in self.target_network.parameters()]
        if rate == 1.0:
            torch._foreach_copy_(target, online)
        else:
            torch._foreach_lerp_(target, online, rate)

    def whole_tensors(self) -> list[Tensor]:
        """Weights of both networks that no processes split."""
        tensors = [*self.network.state_dict().values(), *self.target_network.parameters()]
        return [tensor for tensor in tensors if not is_sharded(tensor)]

    def take_network(self) -> None:
        """Let the target network, and the parts of processes that split the network, have its weights."""
        weights = self.network.state_dict()
        for other in {id(n): n for n in (self.trained, self.target_network)}.values():
            if other is not self.network:
                scatter(weights, other)

    def state_dict(self) -> dict[str, Any]:
        """Both networks, the optimiser and the counters.

        Processes that split the network must all call it; the first one's is whole.
        """
        first = self.ranks is None or self.ranks.rank == 0
        return {
            "network": self.network.state_dict(),
            "target_network": gathered(self.target_network.state_dict(), first),
            "optimizer": gathered(self.optimizer.state_dict(), first),
            "updates": self.updates,
            "transitions_trained": self.transitions_trained,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue exactly where `state_dict` was taken."""
        self.network.load_state_dict(state["network"])
        self.take_network()
        scatter(state["target_network"], self.target_network)
        self.optimizer.load_state_dict(state["optimizer"])
        self.updates = int(state["updates"])
        self.transitions_trained = int(state["transitions_trained"])


def _frozen_copy(network: QNetwork) -> QNetwork:
    """A copy without gradients. `to` puts the weights of an LSTM in one piece again, as cuDNN wants them."""
    copied: QNetwork = copy.deepcopy(network).to(network.head.weight.device).requires_grad_(False)
    return copied.eval()
