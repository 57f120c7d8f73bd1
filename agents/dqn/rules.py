"""The learning rules by name. Each is one class: its loss, its defaults, its heads, its settings."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ...envs.arguments import number
from ..networks import Heads, QNetwork
from . import losses
from .rule import Outcome, Rule
from .update import Update

_MARGIN_BINS = 4


@dataclass(frozen=True)
class _TD(Rule):
    """A rule with a TD error.

    Args:
        bound_values: hold V below the bound that log-likelihood rewards guarantee (V* <= 0 for τ <= 1). Without it
            errors add up along the text and values drift upwards.
        huber_delta: error, in nats, from which on the loss is linear; None for squared throughout.
    """

    bound_values: bool = True
    huber_delta: float | None = number(None, 1e-6)

    def _squared(self, update: Update, target: Tensor, v_t: Tensor) -> Outcome:
        """½(target - Q(s, a))², or Huber's loss."""
        error = target - update.online.taken
        return Outcome(losses.squared_or_huber(error, self.huber_delta), error, v_t)


@dataclass(frozen=True)
class _MultiStep(_TD):
    """A rule whose targets may look several tokens ahead.

    Args:
        n_step: tokens that a target looks ahead.
        trace_decay: λ, the weight of each further token.
        off_policy_correction: subtract Q(s, a) along several-step targets, so that the optimum does not depend on who
            wrote the text; without it they are plain n-step or λ-returns.
    """

    n_step: int = number(1, 1)
    trace_decay: float = number(1.0, 0.0, 1.0)
    off_policy_correction: bool = True


@dataclass(frozen=True)
class _Histogram(Rule):
    """A rule that learns a distribution over fixed returns.

    Args:
        atoms: numbers in the distribution.
        value_range: lowest and highest return that they cover, nats.
    """

    atoms: int = number(51, 2)
    value_range: tuple[float, float] = (-100.0, 0.0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.value_range[0] < self.value_range[1]:
            raise ValueError(f"value_range must be (lowest, highest) with lowest < highest, not {self.value_range}")


@dataclass(frozen=True)
class SoftQ(_MultiStep):
    """The soft Bellman equation, V = τ log Σ exp(Q/τ) (Haarnoja et al. 2017).

    Args:
        dueling: separate heads for V(s) and for the advantages, whose soft maximum is 0. Without it one head gives Q
            and an update has no V-wide backward pass, but the values of untried actions are not held down.
    """

    reads_all_actions = False
    dueling: bool = True

    def loss(self, update: Update) -> Outcome:
        """½(r + γV̄(s') - Q(s, a))², or Huber's loss; over several steps too."""
        return self._squared(update, update.targets(update.rewards, update.value_next), update.value_next)


@dataclass(frozen=True)
class DQNRule(SoftQ):
    """The plain Bellman equation, V = max Q (Mnih et al. 2015), at every temperature."""

    temperature = 0.0
    hard = True
    dueling: bool = False


@dataclass(frozen=True)
class Double(SoftQ):
    """The online network chooses, the target network judges (van Hasselt et al. 2016)."""

    temperature = 0.0
    dueling: bool = False

    def loss(self, update: Update) -> Outcome:
        """See `losses.double_value`."""
        chosen_by, judged_by = update.online_next.frozen().q_values, update.target_next.q_values
        v_t = losses.double_value(chosen_by, judged_by, update.backup.temperature)
        v_t = update.target_next.bounded(v_t)
        return self._squared(update, update.targets(update.rewards, v_t), v_t)


@dataclass(frozen=True)
class Munchausen(_TD):
    """A share of log π is added to the reward (Vieillard et al. 2020).

    Args:
        munchausen_alpha: α, the share. The temperature stays that of the optimum that is found.
        munchausen_clip: least value of τ log π before it is shared, nats; None for no limit.
    """

    needs_temperature = True
    munchausen_alpha: float = number(0.9, 0.0, 0.999)
    munchausen_clip: float | None = number(None, -math.inf, 0.0)

    @property
    def sharpening(self) -> float:  # type: ignore[override]
        """1/(1 - α): with the advantage multiplied by it, the temperature of the optimum is τ."""
        return 1.0 / (1.0 - self.munchausen_alpha)

    def loss(self, update: Update) -> Outcome:
        """TD error with the bonus α[τ log π̄(a|s)] in the reward."""
        alpha, tau = self.munchausen_alpha, update.backup.temperature
        log_policy = update.target.advantage / tau
        bonus = losses.munchausen_bonus(log_policy, tau / (1.0 - alpha), alpha, self.munchausen_clip)
        return self._squared(update, update.targets(update.rewards + bonus, update.value_next), update.value_next)


@dataclass(frozen=True)
class PCL(_TD):
    """Path consistency over n_step tokens, Q = V + τ log π (Nachum et al. 2017).

    Args:
        n_step: d, tokens in a path.
    """

    n_step: int = number(1, 1)

    def loss(self, update: Update) -> Outcome:
        """See `losses.path_consistency`."""
        v_t, grid = update.value_next, update.grid
        error = losses.path_consistency(
            grid(update.online.value),
            grid(update.rewards),
            grid(update.online.advantage),
            grid(update.discounts),
            grid(v_t),
            update.at,
            self.n_step,
        )
        error = update.of_actions(error)
        return Outcome(losses.squared_or_huber(error, self.huber_delta), error, v_t)


@dataclass(frozen=True)
class HLGauss(_Histogram, _MultiStep):
    """V(s) as a histogram, learned by cross-entropy (Farebrother et al. 2024); advantages by squared error."""

    def heads(self) -> Heads:
        """A histogram with room on both sides, so that its Gaussians keep their mean."""
        low, high = self.value_range
        margin = _MARGIN_BINS * (high - low) / self.atoms
        return Heads(value_bins=self.atoms, support=(low - margin, high + margin))

    def loss(self, update: Update) -> Outcome:
        """Cross-entropy to a Gaussian around target - A(s, a), and the squared error of A(s, a)."""
        v_t = update.value_next
        target = update.targets(update.rewards, v_t)
        network, online = update.network, update.online
        histogram = losses.gaussian_histogram(target - online.advantage.detach(), network.support)
        loss = losses.distribution_cross_entropy(network.value_head(online.hidden), histogram)
        error = target - (online.value.detach() + online.advantage)
        return Outcome(loss + losses.squared_or_huber(error, self.huber_delta), error, v_t)


@dataclass(frozen=True)
class C51(_Histogram):
    """A distribution of the return over fixed atoms for each action (Bellemare et al. 2017); small vocabularies."""

    temperature = 0.0
    dueling = False
    hard = True
    starts_from_likelihood = False

    def heads(self) -> Heads:
        """`atoms` logits for each action."""
        return Heads(atoms=self.atoms, support=self.value_range)

    def loss(self, update: Update) -> Outcome:
        """Cross-entropy to the projected distribution of r + γZ̄(s', a*)."""
        support = update.network.support
        best = _best_atoms(update).softmax(-1)
        target = losses.categorical_projection(best, update.rewards, update.discounts, support)
        logits = _taken_atoms(update)
        error = target @ support - torch.softmax(logits, -1) @ support
        return Outcome(losses.distribution_cross_entropy(logits, target), error, best @ support)


@dataclass(frozen=True)
class Quantile(Rule):
    """Quantiles of the return for each action (Dabney et al. 2018); small vocabularies.

    Args:
        atoms: quantiles for each action.
        huber_delta: error, in nats, from which on the loss is linear; None for 1.
    """

    temperature = 0.0
    dueling = False
    hard = True
    starts_from_likelihood = False
    atoms: int = number(51, 2)
    huber_delta: float | None = number(None, 1e-6)

    def heads(self) -> Heads:
        """`atoms` quantiles for each action."""
        return Heads(atoms=self.atoms, quantiles=True)

    def loss(self, update: Update) -> Outcome:
        """See `losses.quantile_huber`."""
        best = _best_atoms(update)
        target = update.rewards[:, None] + losses.discounted(update.discounts[:, None], best)
        quantiles = _taken_atoms(update)
        loss = losses.quantile_huber(quantiles, target, self.huber_delta or 1.0)
        return Outcome(loss, target.mean(-1) - quantiles.mean(-1), best.mean(-1))


def _best_atoms(update: Update) -> Tensor:
    """(N, atoms) of the target network's greedy action in the state after."""
    states = update.target_next
    best = states.preferences.argmax(-1)
    with torch.no_grad():
        atoms = update.target_network.action_atoms(states.hidden)
    return atoms[torch.arange(len(best), device=best.device), best]


def _taken_atoms(update: Update) -> Tensor:
    atoms = update.network.action_atoms(update.online.hidden)
    return atoms[torch.arange(len(atoms), device=atoms.device), update.actions]


_OFFLINE = "it learns from the corpus alone"


@dataclass(frozen=True)
class CrossEntropy(Rule):
    """Maximum likelihood of the policy on the corpus; no rewards."""

    corpus_share = 1.0
    needs = (("corpus_share", 1.0),)
    why = _OFFLINE
    maximum_likelihood = True
    starts_from_likelihood = False
    takes_phrases = False

    def loss(self, update: Update) -> Outcome:
        """-log π(a|s) of the Boltzmann policy π ∝ exp(Q/τ) that the agent acts by."""
        tau = update.density_temperature
        taken, peak = update.online.head_of_taken(update.network.head, tau)
        return Outcome(losses.cross_entropy(taken / tau, peak / tau))


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
        v_t = ratio.nan_to_num(0.0).amax(-1)
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
    td_weight: float = number(0.1, 0.0)

    def loss(self, update: Update) -> Outcome:
        """See `losses.inverse_soft_q`."""
        online, after = update.online, update.online_next
        loss = losses.inverse_soft_q(online.taken, online.value, update.discounts, after.value, self.td_weight)
        return Outcome(loss, None, after.value.detach())


@dataclass(frozen=True)
class CQL(SoftQ):
    """Soft Q-learning with a penalty on untried actions, for offline data (Kumar et al. 2020).

    Args:
        cql_weight: weight of the penalty.
    """

    corpus_share = 1.0
    reads_all_actions = True
    cql_weight: float = number(0.1, 0.0)

    def loss(self, update: Update) -> Outcome:
        """The loss of soft_q + cql_weight · `losses.conservative`."""
        outcome = super().loss(update)
        extra = losses.conservative(*update.online.taken_and_peak)
        return Outcome(outcome.loss + self.cql_weight * extra, outcome.error, outcome.value)


@dataclass(frozen=True)
class ILQL(_TD):
    """Implicit language Q-learning, for offline data (Snell et al. 2023).

    Args:
        expectile: of Q that V is, ½ to below 1.
        cql_weight: weight of the penalty on untried actions.
        advantage_weight: multiple of the advantage that is added to log π_β when acting.
    """

    corpus_share = 1.0
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
        loss = losses.squared_or_huber(error, self.huber_delta) + value + self.cql_weight * extra
        return Outcome(loss + _behaviour(update), error, v_t)


@dataclass(frozen=True)
class PQN(_TD):
    """λ-returns of the texts just written; no replay, no target network (Gallici et al. 2024).

    Args:
        dueling: as of soft_q.
        trace_decay: λ.
        off_policy_correction: as of soft_q.
    """

    temperature = 0.0
    corpus_share = 0.0
    hard = True
    n_step = None
    needs = (("corpus_share", 0.0), ("priority_exponent", 0.0))
    why = "it learns from what it has just written"
    target_network = False
    replays = False
    reads_all_actions = False
    takes_phrases = False
    dueling: bool = False
    trace_decay: float = number(0.65, 0.0, 1.0)
    off_policy_correction: bool = False

    def heads(self) -> Heads:
        """A LayerNorm before the heads, which stands in for the target network."""
        return Heads(layer_norm=True)

    def loss(self, update: Update) -> Outcome:
        """½(λ-return - Q(s, a))²."""
        return self._squared(update, update.targets(update.rewards, update.value_next), update.value_next)


def _log_behaviour(update: Update) -> Tensor:
    """(N, V) log π_β of the target network in the states after, -inf where not valid."""
    states = update.target_next
    with torch.no_grad():
        logits = _behaviour_head(update.target_network)(states.hidden)
    return torch.log_softmax(update.valid_actions.masked(logits, states.written), -1)


def _behaviour(update: Update) -> Tensor:
    """(N,) cross-entropy of the behaviour head."""
    return losses.cross_entropy(*update.online.head_of_taken(_behaviour_head(update.network), 1.0))


def _behaviour_head(network: QNetwork) -> nn.Linear:
    if network.behaviour_head is None:
        raise ValueError("this rule needs a network with a behaviour head")
    return network.behaviour_head


RULES: dict[str, type[Rule]] = {
    "soft_q": SoftQ,
    "dqn": DQNRule,
    "double": Double,
    "munchausen": Munchausen,
    "pcl": PCL,
    "hl_gauss": HLGauss,
    "c51": C51,
    "quantile": Quantile,
    "cross_entropy": CrossEntropy,
    "q_sft": QSFT,
    "iq_learn": IQLearn,
    "cql": CQL,
    "ilql": ILQL,
    "pqn": PQN,
}
