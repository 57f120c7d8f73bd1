"""What a learning rule sees of one update: a batch, and what the online and the target network say of its states."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from ..acting.valid_actions import ActionRules
from ..networks import QNetwork
from ..networks.fused_head import soft_maximum, taken_and_soft_maximum
from ..networks.heads import effective
from ..networks.precision import resolve_precision
from ..replay.episodes import EpisodeBatch
from . import losses
from .config import AgentConfig


@dataclass
class Reading:
    """What a network says of N states.

    Args:
        network: the network.
        hidden: (N, D) its hidden vectors there.
        written: (N,) tokens written before.
        actions: (N,) what was chosen there; None where nobody asks.
        update: the update it belongs to.
    """

    network: QNetwork
    hidden: Tensor
    written: Tensor
    actions: Tensor | None
    update: Update

    @cached_property
    def preferences(self) -> Tensor:
        """(N, V) output of the action head, -inf where an action is not valid: for rules that need all of them."""
        return self.network.q_values(self.hidden, self.update.rules.mask(self.written))

    @cached_property
    def value(self) -> Tensor:
        """(N,) soft state value, held below its bound where the configuration wants it."""
        if self.update.dueling:
            values = self.network.state_values(self.hidden)
        elif torch.is_grad_enabled():
            values = self.taken_and_peak[1]
        else:
            values = self._peak(self.update.temperature)
        return self.update.bounded(values, self.written)

    @cached_property
    def advantage(self) -> Tensor:
        """(N,) A(s, a) - τ log Σ_b exp(A(s, b)/τ) of the actions chosen, whose soft maximum over all actions is 0.

        At τ = 0 the second term is the maximum, eq. 8 of Wang et al. 2016, "Dueling network architectures"; for τ > 0
        the whole is τ log π(a|s), as path consistency has it (Nachum et al. 2017, eq. 10).
        """
        if not self.update.dueling:
            return self.taken - self.value
        taken, peak = self.taken_and_peak
        return taken - peak

    @cached_property
    def taken(self) -> Tensor:
        """(N,) Q(s, a) of the actions chosen."""
        if self.update.dueling:
            return self.value + self.update.sharpening * self.advantage
        # Where nothing else reads the head, a gather is all: no V-wide pass in either direction.
        return self.network.action_values(self.hidden, self._chosen)

    @cached_property
    def q_values(self) -> Tensor:
        """(N, V) Q(s, ·), -inf where an action is not valid."""
        if not self.update.dueling:
            return self.preferences
        peak = losses.soft_value(self.preferences, self.update.temperature)
        return self.value[:, None] + self.update.sharpening * (self.preferences - peak[:, None])

    @cached_property
    def taken_and_peak(self) -> tuple[Tensor, Tensor]:
        """(N,) output of the action head for the actions chosen, and its soft maximum, in one pass."""
        return self.head_of_taken(self.network.head, self.update.temperature)

    def head_of_taken(self, head: nn.Linear, temperature: float) -> tuple[Tensor, Tensor]:
        """(N,) output of a V-wide head for the actions chosen, and its soft maximum τ log Σ exp(·/τ) over the valid."""
        weight, bias = effective(head)
        taken, peak = taken_and_soft_maximum(
            self.hidden, weight, bias, self.update.rules.always, self._chosen, temperature, self.update.dtype
        )
        return taken, self._with_eos(peak, weight, bias, temperature)

    def _peak(self, temperature: float) -> Tensor:
        weight, bias = effective(self.network.head)
        peak = soft_maximum(self.hidden, weight, bias, self.update.rules.always, temperature, self.update.dtype)
        return self._with_eos(peak, weight, bias, temperature)

    def _with_eos(self, peak: Tensor, weight: Tensor, bias: Tensor, temperature: float) -> Tensor:
        """The soft maximum with <eos> where it may be chosen in some states only."""
        rules = self.update.rules
        if not rules.min_new_tokens:
            return peak
        ends = self.hidden @ weight[rules.ending].t() + bias[rules.ending]
        either = torch.cat([peak[:, None], ends], -1)
        allowed = torch.nn.functional.pad(rules.may_end(self.written), (1, 0), value=True)
        return losses.soft_value(either, temperature, allowed)

    def of(self, values: Tensor) -> Tensor:
        """(N, V) -> (N,) those of the actions chosen."""
        return values.gather(1, self._chosen[:, None]).squeeze(1)

    @property
    def _chosen(self) -> Tensor:
        if self.actions is None:
            raise ValueError("no actions were chosen in the states behind the actions")
        return self.actions


class Update:
    """One update's material. N is the number of actions in the batch, in reading order.

    Args:
        batch: episodes.
        network: the online network.
        target_network: the target network; the online one itself for rules without.
        config: the learner's settings.
        rules: of the environment.
        temperature: τ of the agent now.

    Attributes:
        dtype: what products over all actions are made in.
        temperature: τ of the backup: that of the agent, 0 for rules that back up the maximum.
        dueling: whether Q = V + A.
        sharpening: what multiplies the advantage in Q; 1/(1 - α) for Munchausen, else 1.
        index: (N,) where in the flattened (B, L) the actions stand.
        written_after: (N,) tokens written behind them.
        rewards: (N,) what the actions earned, nats, `decision_cost` taken off; what the reward head says of it with
            `redistribute`.
        decomposition: (N,) loss of the reward head, None without.
        online: (N) the online network in the states the actions were chosen in.
    """

    def __init__(
        self,
        batch: EpisodeBatch,
        network: QNetwork,
        target_network: QNetwork,
        config: AgentConfig,
        rules: ActionRules,
        temperature: float,
    ) -> None:
        self.batch, self.network, self.target_network = batch, network, target_network
        self.config, self.rules = config, rules
        self.at = batch.is_action
        self.dtype = resolve_precision(config.precision, batch.tokens.device)
        self.temperature = 0.0 if config.traits.hard else temperature
        self.dueling = config.uses_dueling
        self.sharpening = 1.0 / (1.0 - config.munchausen_alpha) if config.loss == "munchausen" else 1.0
        self.index = batch.action_index
        self.actions, self.written, self.rewards = map(self.of_actions, (batch.actions, batch.written, batch.rewards))
        # A phrase of k tokens leads k columns further, where what follows counts γ^k.
        durations = 1 if batch.durations is None else self.of_actions(batch.durations)
        self.written_after = self.written + durations
        self.discounts = config.gamma**durations * (~self.of_actions(batch.terminal)).to(self.rewards.dtype)
        # The hidden vectors have a column more than the actions.
        self._before = self.index + self.index // self.at.shape[1]
        self._after = self._before + durations
        self._hidden = self._read(network)
        read = self._hidden.index_select(0, self._before)
        self.online = Reading(network, read, self.written, self.actions, self)
        self.decomposition: Tensor | None = None
        if config.redistribute:
            predicted = network.action_rewards(read, self.actions)
            shared_out = losses.return_decomposition(self.grid(predicted), batch.rewards, self.at)
            self.decomposition = self.of_actions(shared_out)
            self.rewards = predicted.detach()
        if config.decision_cost:
            self.rewards = self.rewards - config.decision_cost

    @property
    def density_temperature(self) -> float:
        """τ of the policy whose log-probabilities are learned; 1 where τ is 0, at which there are none."""
        return self.temperature or 1.0

    @cached_property
    def online_next(self) -> Reading:
        """The online network in the states after the actions."""
        return Reading(self.network, self._hidden.index_select(0, self._after), self.written_after, None, self)

    @cached_property
    def target(self) -> Reading:
        """The target network in the states the actions were chosen in."""
        return Reading(
            self.target_network, self._target_hidden.index_select(0, self._before), self.written, self.actions, self
        )

    @cached_property
    def target_next(self) -> Reading:
        """The target network in the states after the actions."""
        return Reading(
            self.target_network, self._target_hidden.index_select(0, self._after), self.written_after, None, self
        )

    @cached_property
    def value_next(self) -> Tensor:
        """(N,) what the target network says of the states after the actions; 0 where all of them ended their texts."""
        # Labels are texts of one word: their target needs no pass of the target network. A GPU is not asked, for it
        # would have to be waited for.
        if self.at.device.type == "cpu" and not bool(self.discounts.any()):
            return torch.zeros_like(self.rewards)
        return self.target_next.value

    @cached_property
    def _target_hidden(self) -> Tensor:
        with torch.no_grad():
            if self.target_network is self.network:
                return self._hidden.detach()
            return self._read(self.target_network)

    def _read(self, network: QNetwork) -> Tensor:
        """(B · (L + 1), D) hidden vectors behind every token."""
        lower = self.dtype != torch.float32
        with torch.autocast(self.at.device.type, dtype=self.dtype if lower else torch.bfloat16, enabled=lower):
            hidden: Tensor = network(self.batch.tokens)
        return hidden.flatten(0, 1).to(self.rewards.dtype)

    @torch.no_grad()
    def targets(self, rewards: Tensor, v_t: Tensor) -> Tensor:
        """(N,) what Q(s, a) is drawn to, from (N,) rewards and values of the states after, over `n_step` steps."""
        config = self.config
        steps = self.rules.max_new_tokens if config.loss == "pqn" else config.n_step
        if steps == 1:
            return rewards + losses.discounted(self.discounts, v_t)
        next_values = self.grid(v_t)
        if config.corrects:
            baseline = self.grid(self.target.taken)
        else:
            baseline = torch.nn.functional.pad(next_values, (1, 0))[:, :-1]
        total = losses.multi_step(
            self.grid(rewards), self.grid(self.discounts), next_values, baseline, self.at, steps, config.decay
        )
        return self.of_actions(total)

    def grid(self, values: Tensor) -> Tensor:
        """(N,) -> (B, L), 0 where no action was chosen."""
        empty = torch.zeros(self.at.numel(), dtype=values.dtype, device=values.device)
        return empty.index_copy(0, self.index, values).view(self.at.shape)

    def of_actions(self, grid: Tensor) -> Tensor:
        """(B, L) -> (N,), where actions were chosen."""
        return grid.flatten().index_select(0, self.index)

    def bounded(self, values: Tensor, written: Tensor) -> Tensor:
        """Values held below the bound of V* after `written` tokens, where there is one and it is wanted.

        Shared-out rewards have the right sums, but no bound for what is still to come.
        """
        if not (self.config.bound_values and self.config.traits.bounds) or self.config.redistribute:
            return values
        return losses.bounded(values, self.bound(written))

    def bound(self, written: Tensor) -> Tensor:
        """(N,) upper bound of V* after `written` tokens, nats."""
        rules = self.rules
        steps_left = (rules.max_new_tokens - written).clamp(min=0)
        bound = losses.value_bound(
            self.temperature, steps_left, self.network.vocab_size, rules.log_prob_weight, rules.largest_score
        )
        # Phrases add ways to write a text, never texts: log N(text) <= steps left · log ways.
        return bound + self.temperature * math.log(rules.ways) * steps_left
