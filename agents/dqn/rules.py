"""The learning rules by name. Each is one class: its loss, its defaults, its heads, its settings."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ...envs.arguments import number
from ..networks import Heads
from . import losses
from .offline_rules import ILQL, QSFT, CrossEntropy, IQLearn
from .rule import Outcome, Rule, TDRule
from .trajectory_rules import TBRM, ReVal, TrajectoryBalance
from .update import Update

_MARGIN_BINS = 4


@dataclass(frozen=True)
class _MultiStep(TDRule):
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
        low, high = self.value_range
        if not -math.inf < low < high < math.inf:
            raise ValueError(f"value_range must be (lowest, highest), finite, lowest < highest, not {self.value_range}")


@dataclass(frozen=True)
class SoftQ(_MultiStep):
    """The soft Bellman equation, V = τ log Σ exp(Q/τ) (Haarnoja et al. 2017).

    Args:
        dueling: separate heads for V(s) and for the advantages, whose soft maximum is 0. Without it one head gives Q
            and an update has no V-wide backward pass, but the values of untried actions are not held down.
        centred: the advantages learn from errors less their mean at the same position of the batch, V from whole ones.
            While V is far from returns that no text escapes, it alone has to move, and what was tried is not punished.
            The fixed point is the same, for all errors are 0 there. Needs dueling.
    """

    reads_all_actions = False
    dueling: bool = True
    centred: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.centred and not self.dueling:
            raise ValueError("centred is about the error of advantages, which need dueling; set dueling to true")

    def loss(self, update: Update) -> Outcome:
        """½(r + γV̄(s') - Q(s, a))², or Huber's loss; over several steps too."""
        return self._squared(update, update.targets(update.rewards, update.value_next), update.value_next)

    def _squared(self, update: Update, target: Tensor, v_t: Tensor) -> Outcome:
        outcome = super()._squared(update, target, v_t)
        if not self.centred or outcome.error is None:
            return outcome
        advantage, delta = update.online.advantage, update.backup.huber_delta
        of_value = outcome.error + advantage - advantage.detach()  # without the gradient of the advantage
        of_advantage = losses.centred(outcome.error.detach() + advantage.detach() - advantage, update.written)
        loss = losses.squared_or_huber(of_value, delta) + losses.squared_or_huber(of_advantage, delta)
        return Outcome(loss, outcome.error, outcome.value)


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
class Munchausen(TDRule):
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
class PCL(TDRule):
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
        return Outcome(losses.squared_or_huber(error, update.backup.huber_delta), error, v_t)


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
        return Outcome(loss + losses.squared_or_huber(error, update.backup.huber_delta), error, v_t)


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


@dataclass(frozen=True)
class CQL(SoftQ):
    """Soft Q-learning with a penalty on untried actions, for offline data (Kumar et al. 2020).

    Args:
        cql_weight: weight of the penalty.
    """

    corpus_share = 1.0
    robust_on_corpus = False
    reads_all_actions = True
    cql_weight: float = number(0.1, 0.0)

    def loss(self, update: Update) -> Outcome:
        """The loss of soft_q + cql_weight · `losses.conservative`."""
        outcome = super().loss(update)
        extra = losses.conservative(*update.online.taken_and_maximum)
        return Outcome(outcome.loss + self.cql_weight * extra, outcome.error, outcome.value)


@dataclass(frozen=True)
class PQN(TDRule):
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
    ignores = ("replay_capacity", "target_update_rate", "target_update_interval", "averaged")
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
    "trajectory_balance": TrajectoryBalance,
    "tbrm": TBRM,
    "reval": ReVal,
}
