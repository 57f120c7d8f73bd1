"""What a learning rule is: a loss, defaults, heads and settings of its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from torch import Tensor

from ...envs.arguments import check_settings, number
from ..networks import Heads
from . import losses
from .update import Update

_CORPUS_DELTA = 0.2  # nats


@dataclass
class Outcome:
    """What a rule makes of a batch.

    Args:
        loss: (N,) loss of each action.
        error: (N,) TD error of each action, for priorities and the log; None for rules without.
        value: (N,) state values, for the log; None for rules without.
    """

    loss: Tensor
    error: Tensor | None = None
    value: Tensor | None = None


@dataclass(frozen=True)
class Rule:
    """A learning rule. A subclass is a frozen dataclass whose fields are the settings of that rule alone.

    Class attributes, which a subclass overrides where it differs (as fields, where a user may choose):

    Attributes:
        temperature: default τ.
        corpus_share: default share of corpus episodes in a batch.
        needs: settings of `AgentConfig` that must have a certain value, as (name, value).
        why: the reason for `needs`, one clause.
        ignores: settings of `AgentConfig` that the rule does not use, so that a choice is refused.
        hard: backs up the maximum at every temperature; τ is then that of acting only.
        target_network: has a target network.
        frozen_target: it stays the network before the first update: a reference policy.
        replays: learns from a replay; without, from the episodes just written.
        needs_temperature: τ = 0 is refused.
        starts_from_likelihood: its action head can begin as the logits of a language model (`pretrain`).
        takes_phrases: learns decisions of several tokens.
        maximum_likelihood: is maximum likelihood of the corpus, without rewards.
        dueling: separate heads for V(s) and the advantages, Q = V + A.
        reads_all_actions: the gradient reaches all V outputs of the action head even without dueling.
        bound_values: hold V below the bound that log-likelihood rewards guarantee.
        n_step: tokens that a target looks ahead; None for the whole text.
        trace_decay: λ, the weight of each further token in the target.
        off_policy_correction: correct several-step targets by Q(s, a); without, they are plain n-step returns.
        sharpening: factor of the advantage in Q.
    """

    temperature = 1.0
    corpus_share = 0.5
    needs = cast("tuple[tuple[str, float], ...]", ())
    why = ""
    ignores = cast("tuple[str, ...]", ())
    hard = False
    target_network = True
    frozen_target = False
    replays = True
    needs_temperature = False
    starts_from_likelihood = True
    takes_phrases = True
    maximum_likelihood = False
    dueling = True
    reads_all_actions = True
    bound_values = False
    n_step = cast("int | None", 1)
    trace_decay = 1.0
    off_policy_correction = True
    sharpening = 1.0

    def delta(self, beside_corpus: bool) -> float | None:
        """The δ of Huber's loss; None for squared, and for rules without a squared loss."""
        return None

    def __post_init__(self) -> None:
        """Refuse values that cannot work, each with one sentence."""
        check_settings(self)

    def heads(self) -> Heads:
        """The heads that the rule needs on a network."""
        return Heads()

    def loss(self, update: Update) -> Outcome:
        """The loss of every action in a batch."""
        raise NotImplementedError


@dataclass(frozen=True)
class TDRule(Rule):
    """A rule with a TD error.

    Args:
        bound_values: hold V below the bound that log-likelihood rewards guarantee (V* <= 0 for τ <= 1). Without it
            errors add up along the text and values drift upwards.
        huber_delta: error, in nats, from which on the loss is linear. None: 0.2 for a learner that has corpus episodes,
            squared without. Most tokens of the corpus are at first far too unlikely, those of the agent far too likely,
            and squared errors would be those of the rarest tokens. Transitions are deterministic, so the fixed point is
            the same. A large number: squared throughout.

    Attributes:
        robust_on_corpus: None means 0.2 beside a corpus; not so with penalties that the squared error must balance.
    """

    robust_on_corpus = True
    bound_values: bool = True
    huber_delta: float | None = number(None, 1e-6)

    def _squared(self, update: Update, target: Tensor, v_t: Tensor) -> Outcome:
        """½(target - Q(s, a))², or Huber's loss."""
        error = target - update.online.taken
        return Outcome(losses.squared_or_huber(error, update.backup.huber_delta), error, v_t)

    def delta(self, beside_corpus: bool) -> float | None:
        """The δ of Huber's loss of a learner with or without corpus episodes; None for squared."""
        if self.huber_delta is None and self.robust_on_corpus and beside_corpus:
            return _CORPUS_DELTA
        return self.huber_delta
