"""What a learning rule is given: a batch, and what the online and the target network say of its states."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from ..acting.valid_actions import ValidActions
from ..networks import QNetwork
from ..networks.fused_head import soft_maximum, taken_and_soft_maximum
from ..networks.heads import effective
from ..replay.episodes import EpisodeBatch
from . import losses


@dataclass(frozen=True)
class Backup:
    """How values are backed up; every default is settled.

    Args:
        gamma: discount.
        temperature: τ of the backup; 0 for rules that back up the maximum.
        dueling: whether Q = V + A.
        sharpening: factor of the advantage in Q.
        bound_values: hold V below its bound.
        n_step: tokens that a target looks ahead; None for the whole text.
        trace_decay: λ.
        off_policy_correction: subtract Q(s, a) along several-step targets, not V(s).
        huber_delta: error, in nats, from which on a squared loss is linear; None for squared throughout.
        dtype: of the products over all actions.
    """

    gamma: float = 1.0
    temperature: float = 1.0
    dueling: bool = True
    sharpening: float = 1.0
    bound_values: bool = False
    n_step: int | None = 1
    trace_decay: float = 1.0
    off_policy_correction: bool = True
    huber_delta: float | None = None
    dtype: torch.dtype = torch.float32


class _Property(cached_property[Tensor]):
    """A cached tensor, computed with or without gradients as its `States` say, whoever asks first."""

    def __init__(self, compute: Callable[[States], Tensor]) -> None:
        def in_mode(states: States) -> Tensor:
            with torch.set_grad_enabled(states.trains):
                return compute(states)

        in_mode.__doc__ = compute.__doc__
        super().__init__(in_mode)


class States:
    """N states, and what one network says of them.

    Args:
        network: the network.
        hidden: (N, D) its hidden vectors.
        written: (N,) tokens written before.
        actions: (N,) actions chosen there; None where none are known.
        valid_actions: of the environment.
        backup: how values are backed up.
        trains: whether gradients are kept.
        allowed: (N, V) bool, what `no_repeat` and a form allow; None where there is neither.
    """

    def __init__(
        self,
        network: QNetwork,
        hidden: Tensor,
        written: Tensor,
        actions: Tensor | None,
        valid_actions: ValidActions,
        backup: Backup,
        trains: bool,
        allowed: Tensor | None = None,
    ) -> None:
        self.allowed = allowed
        self.network, self.hidden, self.written, self.actions = network, hidden, written, actions
        self.valid_actions, self.backup, self.trains = valid_actions, backup, trains

    def frozen(self) -> States:
        """The same states without gradients."""
        hidden = self.hidden.detach()
        parts = (self.written, self.actions, self.valid_actions, self.backup)
        return States(self.network, hidden, *parts, trains=False, allowed=self.allowed)

    @_Property
    def preferences(self) -> Tensor:
        """(N, V) output of the action head, -inf where an action is not valid: for rules that need all of them."""
        return self.network.q_values(self.hidden, self.valid_actions.mask(self.written, self.allowed))

    @_Property
    def value(self) -> Tensor:
        """(N,) soft state value, below its bound where it has one."""
        if self.backup.dueling:
            values = self.network.state_values(self.hidden)
        elif self.trains and self.actions is not None:
            values = self.taken_and_maximum[1]
        else:
            values = self._soft_maximum
        return self.bounded(values)

    @_Property
    def advantage(self) -> Tensor:
        """(N,) A(s, a) - τ log Σ_b exp(A(s, b)/τ) of the actions chosen; its soft maximum over all actions is 0.

        At τ = 0 the second term is the maximum, eq. 8 of Wang et al. 2016, "Dueling network architectures"; for τ > 0
        the whole is τ log π(a|s), as path consistency has it (Nachum et al. 2017, eq. 10).
        """
        if not self.backup.dueling:
            return self.taken - self.value
        taken, maximum = self.taken_and_maximum
        return taken - maximum

    @_Property
    def taken(self) -> Tensor:
        """(N,) Q(s, a) of the actions chosen."""
        if self.backup.dueling:
            return self.value + self.backup.sharpening * self.advantage
        # A gather is enough where nothing else needs the head: no V-wide pass in either direction.
        return self.network.action_values(self.hidden, self._chosen)

    @_Property
    def q_values(self) -> Tensor:
        """(N, V) Q(s, ·), -inf where an action is not valid."""
        if not self.backup.dueling:
            return self.preferences
        maximum = losses.soft_value(self.preferences, self.backup.temperature)
        return self.value[:, None] + self.backup.sharpening * (self.preferences - maximum[:, None])

    @cached_property
    def taken_and_maximum(self) -> tuple[Tensor, Tensor]:
        """(N,) output of the action head for the actions chosen, and its soft maximum, in one pass."""
        with torch.set_grad_enabled(self.trains):
            return self.head_of_taken(self.network.head, self.backup.temperature)

    def head_of_taken(self, head: nn.Linear, temperature: float) -> tuple[Tensor, Tensor]:
        """(N,) output of a V-wide head for the actions chosen, and its soft maximum τ log Σ exp(·/τ) over the valid."""
        weight, bias = effective(head)
        if self.allowed is not None:
            values = self._masked(weight, bias)
            return self.of(values), losses.soft_value(values, temperature)
        always = self.valid_actions.always
        taken, maximum = taken_and_soft_maximum(
            self.hidden, weight, bias, always, self._chosen, temperature, self.backup.dtype
        )
        return taken, self._with_eos(maximum, weight, bias, temperature)

    @_Property
    def _soft_maximum(self) -> Tensor:
        weight, bias = effective(self.network.head)
        temperature = self.backup.temperature
        if self.allowed is not None:
            return losses.soft_value(self._masked(weight, bias), temperature)
        maximum = soft_maximum(self.hidden, weight, bias, self.valid_actions.always, temperature, self.backup.dtype)
        return self._with_eos(maximum, weight, bias, temperature)

    def _masked(self, weight: Tensor, bias: Tensor) -> Tensor:
        """(N, V) output of the head, -inf where an action is not valid: which ones differs from state to state."""
        return self.valid_actions.masked(self.hidden @ weight.t() + bias, self.written, self.allowed)

    def _with_eos(self, maximum: Tensor, weight: Tensor, bias: Tensor, temperature: float) -> Tensor:
        """The soft maximum with `<eos>`, which may be valid in some states only."""
        valid = self.valid_actions
        if not valid.env.min_new_tokens:
            return maximum
        ends = self.hidden @ weight[valid.ending].t() + bias[valid.ending]
        either = torch.cat([maximum[:, None], ends], -1)
        allowed = nn.functional.pad(valid.may_end(self.written), (1, 0), value=True)
        return losses.soft_value(either, temperature, allowed)

    def of(self, values: Tensor) -> Tensor:
        """(N, V) -> (N,) those of the actions chosen."""
        return values.gather(1, self._chosen[:, None]).squeeze(1)

    def bounded(self, values: Tensor) -> Tensor:
        """(N,) values, held below the bound of V* where the backup asks for it."""
        return losses.bounded(values, self.bound) if self.backup.bound_values else values

    @property
    def bound(self) -> Tensor:
        """(N,) upper bound of V*, nats."""
        env, form, temperature = self.valid_actions.env, self.valid_actions.form, self.backup.temperature
        steps_left = (env.max_new_tokens - self.written).clamp(min=0)
        largest_score = max(0.0, env.sequence_weight) if env.sequence_reward else 0.0
        largest_score += env.form_bonus * form.most_bonus if form is not None and env.pays_bonus else 0.0
        bound = losses.value_bound(temperature, steps_left, self.network.vocab_size, env.log_prob_weight, largest_score)
        # Phrases add ways to write a text, never texts: log N(text) <= steps left · log ways.
        return bound + temperature * math.log(self.valid_actions.ways) * steps_left

    @property
    def _chosen(self) -> Tensor:
        if self.actions is None:
            raise ValueError("no actions are known in the states after the actions of a batch")
        return self.actions


class Update:
    """A batch as a rule reads it. N is the number of actions in it.

    Args:
        batch: episodes.
        network: the online network.
        target_network: the target network; the online one itself for rules without.
        valid_actions: of the environment.
        backup: how values are backed up.

    Attributes:
        at: (B, L) bool, where an action was chosen.
        index: (N,) where in the flattened (B, L) the actions stand.
        actions: (N,) actions.
        written: (N,) tokens written before them.
        rewards: (N,) what they earned, nats.
        discounts: (N,) γ to the number of tokens that the action wrote; 0 where it ended the episode.
        online: the online network in the states the actions were chosen in.
    """

    def __init__(
        self,
        batch: EpisodeBatch,
        network: QNetwork,
        target_network: QNetwork,
        valid_actions: ValidActions,
        backup: Backup,
    ) -> None:
        self.batch, self.network, self.target_network = batch, network, target_network
        self.valid_actions, self.backup = valid_actions, backup
        self.at = batch.is_action
        self.index = batch.action_index
        self.actions, self.written, self.rewards = map(self.of_actions, (batch.actions, batch.written, batch.rewards))
        # A phrase of k tokens leads k columns further; what follows it is discounted by γ^k.
        durations = 1 if batch.durations is None else self.of_actions(batch.durations)
        self._written_after = self.written + durations
        self.discounts = backup.gamma**durations * (~self.of_actions(batch.terminal)).to(self.rewards.dtype)
        # The hidden vectors have a column more than the actions.
        self._before = self.index + self.index // self.at.shape[1]
        self._after = self._before + durations
        self._hidden = self._forward(network)
        self.online = self._states(network, self._hidden, before=True, trains=True)

    @property
    def density_temperature(self) -> float:
        """τ of the policy whose log-probabilities are learned; 1 at τ = 0, which has none."""
        return self.backup.temperature or 1.0

    @cached_property
    def online_next(self) -> States:
        """The online network in the states after the actions."""
        return self._states(self.network, self._hidden, before=False, trains=True)

    @cached_property
    def target(self) -> States:
        """The target network in the states the actions were chosen in, without gradients."""
        return self._states(self.target_network, self._target_hidden, before=True, trains=False)

    @cached_property
    def target_next(self) -> States:
        """The target network in the states after the actions, without gradients."""
        return self._states(self.target_network, self._target_hidden, before=False, trains=False)

    @cached_property
    def value_next(self) -> Tensor:
        """(N,) V̄ of the states after the actions; 0 where every action of the batch ended its text."""
        # Labels are texts of one word: their target needs no pass of the target network. On a GPU the question itself
        # would make the host wait.
        # Processes that split the target network pass it together.
        alone = self.at.device.type == "cpu" and not self.target_network.bodies
        if alone and not bool(self.discounts.any()):
            return torch.zeros_like(self.rewards)
        return self.target_next.value

    @cached_property
    def _target_hidden(self) -> Tensor:
        if self.target_network is self.network:
            return self._hidden.detach()
        with torch.no_grad():
            return self._forward(self.target_network)

    def _forward(self, network: QNetwork) -> Tensor:
        """(B · (L + 1), D) hidden vectors after every token."""
        dtype = self.backup.dtype
        lower = dtype != torch.float32
        with torch.autocast(self.at.device.type, dtype=dtype if lower else torch.bfloat16, enabled=lower):
            hidden: Tensor = network(self.batch.tokens)
        return hidden.flatten(0, 1).to(self.rewards.dtype)

    def _states(self, network: QNetwork, hidden: Tensor, before: bool, trains: bool) -> States:
        place, written = (self._before, self.written) if before else (self._after, self._written_after)
        actions = self.actions if before else None
        found = hidden.index_select(0, place)
        allowed = self._allowed_before if before else self._allowed_after
        return States(network, found, written, actions, self.valid_actions, self.backup, trains, allowed)

    @cached_property
    def _allowed_before(self) -> Tensor | None:
        """(N, V) bool, what `no_repeat` and a form allow in the states the actions were chosen in."""
        return self.valid_actions.allowed_at(self.batch.tokens, self._before, self.written)

    @cached_property
    def _allowed_after(self) -> Tensor | None:
        """(N, V) bool, the same in the states after the actions."""
        return self.valid_actions.allowed_at(self.batch.tokens, self._after, self._written_after)

    @torch.no_grad()
    def targets(self, rewards: Tensor, v_t: Tensor) -> Tensor:
        """(N,) Bellman targets for Q(s, a), from (N,) rewards and values of the states after."""
        backup = self.backup
        steps = backup.n_step or self.valid_actions.env.max_new_tokens
        if steps == 1:
            return rewards + losses.discounted(self.discounts, v_t)
        next_values = self.grid(v_t)
        if backup.off_policy_correction:
            baseline = self.grid(self.target.taken)
        else:
            baseline = nn.functional.pad(next_values, (1, 0))[:, :-1]
        total = losses.multi_step(
            self.grid(rewards), self.grid(self.discounts), next_values, baseline, self.at, steps, backup.trace_decay
        )
        return self.of_actions(total)

    def grid(self, values: Tensor) -> Tensor:
        """(N,) -> (B, L), 0 where no action was chosen."""
        empty = torch.zeros(self.at.numel(), dtype=values.dtype, device=values.device)
        return empty.index_copy(0, self.index, values).view(self.at.shape)

    def of_actions(self, grid: Tensor) -> Tensor:
        """(B, L) -> (N,), where actions were chosen."""
        return grid.flatten().index_select(0, self.index)
