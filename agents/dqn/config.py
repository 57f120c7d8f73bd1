"""The learner's settings as typed dataclasses: one source for YAML, command line and Python."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from ...envs.arguments import changed, check_settings, make_settings, names_of, number
from ..acting.exploration import Exploration
from ..networks import NetworkConfig, network_config
from ..networks.precision import ProductPrecision
from .forms import long_form, mapping_of, plain_settings
from .optimizer import OptimizerConfig
from .rule import Rule
from .rule_names import make_rule, rule_class
from .rules import CrossEntropy
from .schedules import Schedule


@dataclass(frozen=True)
class PhraseConfig:
    """Phrases as options: decisions that write several tokens (Sutton, Precup & Singh 1999).

    Args:
        count: P, phrases mined from the training documents; 0 for none. Values are those of the semi-Markov decision
            process. At temperature 0 its optimum is that of the tokens; at τ > 0 a text weighs as often as there are
            ways to write it: π(text) ∝ N(text)·p*(text)^{1/τ}.
        length: most tokens in a phrase.
        decision_cost: nats taken off for every decision. The best text is then written by the fewest decisions. It
            stays the best while its decisions cost less than the next best text is worse.
    """

    count: int = number(0, 0)
    length: int = number(4, 2, 64)
    decision_cost: float = number(0.0, 0.0)

    def __post_init__(self) -> None:
        """Refuse values that cannot work, each with one sentence."""
        check_settings(self)


@dataclass(frozen=True)
class RewardConfig:
    """What is learned of the rewards.

    With `imagine` a model of the rewards pays texts that the network writes without the environment (Dyna, Sutton
    1991): how texts grow is known, a token is appended, so only the reward must be learned. The model is a
    `RewardNetwork`, normalised over the valid tokens, for rewards are log-probabilities. Late rewards are fitted by the
    sum over the tokens that they pay.

    Args:
        redistribute: learn which token earned how much of a late reward, and learn values from that.
        imagine: imagined tokens for each environment step; 0 for none.
        trust: share of the variance of rewards that the model must predict in episodes which it has not learned from,
            before imagined texts are learned from: a policy soon finds what a poor model overrates.
        prompt: newest tokens of the prompt that the model reads.
        context: last tokens of the text that it reads beside.
        ratio: transitions that it learns from for each environment step.
        batch_size: episodes of one of its updates.
        capacity: imagined tokens kept; the oldest text is replaced.
        rate: learning rate of its AdamW at the beginning; it falls to a twentieth over training.
        decay: its weight decay.
        classes: see `RewardNetwork`.
        width: of its hidden layer.
        rank: see `RewardNetwork`.
    """

    redistribute: bool = False
    imagine: int = number(0, 0)
    trust: float = number(0.8, 0.0, 1.0)
    prompt: int = number(2, 0)
    context: int = number(2, 0)
    ratio: float = number(32.0, 0.0)
    batch_size: int = number(16, 1)
    capacity: int = number(200_000, 1)
    rate: float = number(1e-2, 0.0)
    decay: float = number(0.3, 0.0)
    classes: int = number(8, 1)
    width: int = number(256, 1)
    rank: int = number(16, 1)

    def __post_init__(self) -> None:
        """Refuse values that cannot work, each with one sentence."""
        check_settings(self)
        if self.imagine and self.redistribute:
            raise ValueError(
                "imagined texts are paid token by token already; set redistribute to false or imagine to 0"
            )
        if self.imagine and not self.prompt + self.context:
            raise ValueError("the model of rewards must read something; set prompt or context to at least 1")


_SHARE_AT_ONE = 0.7


def _given(**settings: Any) -> Any:
    return field(default_factory=lambda: dict(settings))


@dataclass(frozen=True)
class AgentConfig:
    """The learner and how it explores.

    Parts may be given in their short form: a name or a mapping of settings for the network, the rule, the optimizer,
    the rewards and the phrases, a number for a schedule. They are kept as the dataclasses named below.

    Args:
        network: the Q-network: its name, or a name and settings, {name: transformer, num_layers: 4}.
        loss: the learning rule, a name or "module:Class" of your own.
        rule: settings of that rule alone, {expectile: 0.9}.
        gamma: discount. With 1 the optimum is the target distribution itself.
        temperature: τ of V(s) = τ log Σ exp(Q/τ) and of the Boltzmann policy, over the course of training. None: the
            rule's default.
        epsilon: probability of exploring instead, over the course of training.
        exploration: "uniform": any valid action; "least_tried": one of those taken least often after the last token,
            so that every pair of tokens is soon tried once; "untried_mass": the same, with ε scaled by the probability
            mass of untried actions.
        rewards: what is learned of the rewards, {imagine: 8}; see `RewardConfig`.
        learning_rate: step size of the optimiser, over the course of training.
        optimizer: its name ("adam", "adamw", "sgd", "sparse_adam"), or a name and settings.
        precision: dtype of the matrix products; weights stay float32. "bfloat16" is faster where the hardware has it,
            with an error of up to a hundredth of the values' size; "auto" measures whether it is faster.
        batch_size: episodes in a batch.
        replay_ratio: transitions trained for each environment step.
        replay_capacity: tokens in the replay, in rows as long as the longest episode; the oldest episode is replaced.
        corpus_share: share of a batch's episodes that are documents of the corpus, not the agent's own. None: the
            rule's default; where that is ½ and τ is 1 throughout, 0.7: the optimum is then the corpus's own model.
        start_from: folder of a saved agent or a run whose weights this one begins with: maximum likelihood first, then
            a score of whole texts. Network and vocabulary must be the same. State values begin anew at the network's
            initial_value.
        pretrain: transitions of corpus episodes learned by maximum likelihood before all else, so that action values
            begin as log-probabilities of a language model. This time counts as learning.
        priority_exponent: how much an episode's TD errors raise its chance to be drawn; 0 for uniform.
        importance_exponent: exponent of the importance weights that correct for it (Schaul et al. 2016); 0 for none.
        learning_starts: environment steps before the first update.
        target_update_rate: Polyak rate at every target update; 1 copies the network.
        target_update_interval: updates between two target updates.
        averaged: predict, evaluate and save with the target network, the Polyak average of the weights (Polyak &
            Juditsky 1992), not the newest: greedy texts depend on the order of a few values and jump from update to
            update. Acting while learning uses the newest.
        num_envs: episodes written side by side.
        phrases: how many, or {count: 100, length: 4, decision_cost: 0.1}; see `PhraseConfig`.
    """

    network: NetworkConfig = _given(name="lstm")
    loss: str = "soft_q"
    rule: Rule = _given()
    gamma: float = number(1.0, 0.0, 1.0)
    temperature: Schedule | None = None
    epsilon: Schedule = Schedule(0.1, 0.0, 0.5)
    exploration: Exploration = "uniform"
    rewards: RewardConfig = _given()
    learning_rate: Schedule = Schedule(4e-3, 1e-4)
    optimizer: OptimizerConfig = _given(name="adam")
    precision: ProductPrecision = "float32"
    batch_size: int = number(32, 1)
    replay_ratio: float = number(8.0, 0.0)
    replay_capacity: int = number(1_000_000, 1)
    corpus_share: float | None = number(None, 0.0, 1.0)
    start_from: str | None = None
    pretrain: int = number(0, 0)
    priority_exponent: float = number(0.0, 0.0, 10.0)
    importance_exponent: float = number(0.6, 0.0, 1.0)
    learning_starts: int = number(1_000, 0)
    target_update_rate: float = number(0.02, 0.0, 1.0)
    target_update_interval: int = number(1, 1)
    averaged: bool = False
    num_envs: int = number(64, 1)
    phrases: PhraseConfig = _given(count=0)

    def __post_init__(self) -> None:
        """Make the parts' dataclasses, and refuse values that cannot work, each with one sentence."""
        made: dict[str, Any] = {
            "network": network_config(self.network),
            "rule": make_rule(self.loss, self.rule),
            "optimizer": _part(OptimizerConfig, self.optimizer, "optimizer"),
            "phrases": _part(PhraseConfig, self.phrases, "phrases"),
            "rewards": _part(RewardConfig, self.rewards, "rewards"),
        }
        for name in _SCHEDULES:
            if (value := getattr(self, name)) is not None:
                made[name] = Schedule.of(value, name)
        for name, value in made.items():
            object.__setattr__(self, name, value)
        check_settings(self)
        if not max(self.epsilon.start, self.epsilon.end) <= 1.0:
            raise ValueError(f"epsilon is a probability, at most 1, not {self.epsilon.start} to {self.epsilon.end}")
        self._refuse_combinations()

    def _refuse_combinations(self) -> None:
        """Refuse settings that the rule cannot work with, and pairs that exclude each other."""
        rule, loss = self.rule, self.loss
        for name, needed in rule.needs:
            given = getattr(self, name)
            if given is not None and given != needed:
                raise ValueError(f"{loss} needs {name} {needed}, not {given}: {rule.why}")
        if rule.needs_temperature and self.temperature and min(self.temperature.start, self.temperature.end) <= 0:
            raise ValueError(f"{loss} needs a temperature above 0: it adds τ log π to the reward, which is 0 there")
        defaults = {field.name: field.default for field in dataclasses.fields(self)} | {"rewards": RewardConfig()}
        for name in rule.ignores:
            if getattr(self, name) != defaults[name]:
                raise ValueError(f"{loss} does not use {name}; leave it out, or use another loss")
        if self.pretrain and not (rule.starts_from_likelihood and not self.phrases.count):
            given = "phrases" if self.phrases.count else loss
            raise ValueError(
                f"pretrain makes action values of a language model's logits, which {given} cannot use; set it to 0"
            )
        if self.phrases.count and self.exploration == "untried_mass":
            raise ValueError(
                "exploration 'untried_mass' reads a token's probability off its reward, which phrases sum up; "
                "use 'least_tried' with phrases"
            )
        if self.phrases.count and (rule.n_step != 1 or not rule.takes_phrases):
            given = f"n_step {rule.n_step}" if rule.takes_phrases else loss
            raise ValueError(f"phrases are learned one decision ahead by their rewards, not with {given}; use soft_q")
        if self.phrases.count and not self.network.takes_phrases:
            raise ValueError(
                f"a {self.network.name} network's head has no rows for phrases; set phrases to 0 or use another network"
            )

    def settled(self) -> AgentConfig:
        """The same with the rule's default where nothing was given."""
        share = self.corpus_share
        if share is None:
            share = self.rule.corpus_share
            temperatures = {self.temperatures.start, self.temperatures.end}
            share = _SHARE_AT_ONE if share == Rule.corpus_share and temperatures == {1.0} else share
        return dataclasses.replace(self, corpus_share=share, temperature=self.temperatures)

    def too_few_steps(self, total_steps: int) -> str:
        """What is wrong with so few environment steps, one sentence; empty if some updates are made."""
        if total_steps >= self.learning_starts or self.pretrain or self.settled().corpus_share == 1:
            return ""
        return (
            f"{total_steps:,} environment steps are fewer than learning_starts {self.learning_starts:,}: nothing is "
            "learned; give more steps, or a smaller learning_starts"
        )

    @cached_property
    def temperatures(self) -> Schedule:
        """`temperature`, or the rule's default."""
        return Schedule.of(self.rule.temperature) if self.temperature is None else self.temperature

    @classmethod
    def of(cls, config: AgentConfig | None, settings: Mapping[str, Any]) -> AgentConfig:
        """`config` with `settings` over it.

        Settings of the rule, the optimizer and the phrases may stand beside the others: `loss="ilql", expectile=0.9`.
        A word or a number stands for a part: `network="transformer", optimizer="sgd", phrases=100`.

        Raises ValueError for a setting that nobody has, or that another rule has.
        """
        base = config or cls()
        chosen = cls.long_form(settings, base.loss)
        loss = chosen.get("loss", base.loss)
        if "network" in chosen:
            chosen["network"] = network_config(chosen["network"], base.network)
        if "rule" in chosen and not isinstance(chosen["rule"], Rule):
            before = plain_settings(base.rule) if loss == base.loss else changed(base.rule)
            chosen["rule"] = {**before, **chosen["rule"]}
        for part in ("optimizer", "phrases", "rewards"):
            if part in chosen:
                chosen[part] = {**plain_settings(getattr(base, part)), **plain_settings(chosen[part])}
        for name in _SCHEDULES:
            if isinstance(value := chosen.get(name), Mapping) and not {"start", "end"} <= value.keys():
                default = Schedule.of(rule_class(loss).temperature) if name == "temperature" else None
                chosen[name] = {**plain_settings(getattr(base, name) or default), **value}
        return dataclasses.replace(base, **chosen)

    @classmethod
    def long_form(cls, settings: Mapping[str, Any], loss: str = "soft_q") -> dict[str, Any]:
        """Settings with every one in its part; see `forms.long_form`."""
        return long_form(settings, loss, names_of(cls))


_SCHEDULES = ("temperature", "epsilon", "learning_rate")

# Makes a language model of the learner, whatever else it is told.
MAXIMUM_LIKELIHOOD: dict[str, Any] = {
    "loss": "cross_entropy",
    "rule": CrossEntropy(),
    "corpus_share": 1.0,
    "temperature": Schedule(1.0, 1.0),
    "learning_starts": 0,
    "rewards": RewardConfig(),
    "pretrain": 0,
    "priority_exponent": 0.0,
    "epsilon": Schedule(0.1, 0.0, 0.5),
    "exploration": "uniform",
    "phrases": PhraseConfig(),
}


def _part(kind: type[Any], value: Any, part: str) -> Any:
    """The dataclass of a part, from itself, a mapping of its settings, or the one setting that a word stands for."""
    return value if isinstance(value, kind) else make_settings(kind, mapping_of(part, value), f"the {part}")
