"""The learner's settings as typed dataclasses: one source for YAML, command line and Python."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from ...envs import nearest
from ...envs.typed import check_types
from ..networks.config import NetworkConfig
from .schedules import Schedule

Loss = Literal[
    "soft_q", "dqn", "double", "munchausen", "pcl", "hl_gauss", "c51", "quantile",
    "cross_entropy", "q_sft", "iq_learn", "cql", "ilql", "pqn",
]  # fmt: skip
Exploration = Literal["uniform", "least_tried", "untried_mass"]
Optimizer = Literal["adam", "adamw", "sgd", "sparse_adam"]
ProductPrecision = Literal["float32", "bfloat16", "auto"]


@dataclass(frozen=True)
class RuleTraits:
    """What a learning rule brings along, and what it cannot do without.

    Args:
        temperature: τ where none is given.
        corpus_share: where none is given.
        dueling: where it is not given.
        hard: backs up the maximum whatever the temperature, which is then that of acting only.
        needs: settings it cannot do without.
        why: one clause that says why.
        multi_step: can look several steps ahead.
        bounds: its values are those of log-likelihood rewards, so that they have a bound.
    """

    temperature: float = 1.0
    corpus_share: float = 0.5
    dueling: bool = True
    hard: bool = False
    needs: dict[str, Any] = field(default_factory=dict)
    why: str = ""
    multi_step: bool = False
    bounds: bool = True


_HARD: dict[str, Any] = {"temperature": 0.0, "dueling": False, "hard": True}
_OFFLINE = "it learns from the corpus alone"
RULES: dict[str, RuleTraits] = {
    "soft_q": RuleTraits(multi_step=True),
    "dqn": RuleTraits(**_HARD, multi_step=True),
    "double": RuleTraits(temperature=0.0, dueling=False, multi_step=True),
    "munchausen": RuleTraits(needs={"dueling": True}, why="its bonus is the log-probability of a policy"),
    "pcl": RuleTraits(needs={"dueling": True}, why="Q = V + τ log π", multi_step=True),
    "hl_gauss": RuleTraits(needs={"dueling": True}, why="V has its own head, a histogram", multi_step=True),
    "c51": RuleTraits(**_HARD, needs={"dueling": False}, why="every action has its own distribution"),
    "quantile": RuleTraits(**_HARD, needs={"dueling": False}, why="every action has its own distribution"),
    "cross_entropy": RuleTraits(corpus_share=1.0, needs={"corpus_share": 1.0}, why=_OFFLINE),
    "q_sft": RuleTraits(
        corpus_share=1.0, dueling=False, needs={"dueling": False}, why="its values are likelihoods", bounds=False
    ),
    "iq_learn": RuleTraits(corpus_share=1.0, needs={"corpus_share": 1.0}, why=_OFFLINE, bounds=False),
    "cql": RuleTraits(corpus_share=1.0, multi_step=True),
    "ilql": RuleTraits(corpus_share=1.0, dueling=False, needs={"dueling": False}, why="it has heads of its own"),
    "pqn": RuleTraits(
        **_HARD, corpus_share=0.0, needs={"corpus_share": 0.0, "priority_exponent": 0.0},
        why="it learns from what it has just written",
    ),
}  # fmt: skip


@dataclass(frozen=True)
class AgentConfig:
    """The learner and how it explores.

    Args:
        network: the Q-network.
        loss: the learning rule. "soft_q": TD error of the soft Bellman equation; "dqn": of the plain one; "double":
            the online network chooses, the target network judges; "munchausen": a share of log π added to the
            reward; "pcl": path consistency over n_step tokens; "hl_gauss": V(s) as a histogram; "c51", "quantile":
            distributions of the return (small vocabularies); "cross_entropy": maximum likelihood of the policy on the
            corpus, no rewards; "q_sft": values learned as likelihoods; "iq_learn": log-likelihood with a TD
            regulariser, no rewards; "cql", "ilql": offline; "pqn": λ-returns, no replay, no target network.
        gamma: discount. With 1 the optimum is the target distribution itself.
        temperature: τ of V(s) = τ log Σ exp(Q/τ) and of the Boltzmann policy, over the course of training; None
            for what the loss is used with: 0 for dqn, double, c51, quantile and pqn, else 1.
        epsilon: probability of exploring instead, over the course of training.
        exploration: what exploring means: "uniform", any valid action; "least_tried", one of those taken least often
            after the last token, so that every pair of tokens is soon tried once; "untried_mass", the same, with ε
            times the probability that p* has left for what was not tried there, which the rewards tell.
        dueling: separate heads for V(s) and for the advantages, whose soft maximum is 0; without it one head gives
            Q and an update needs no V-wide backward pass, but nothing ties the values of untried actions down. None
            for what the loss is used with.
        bound_values: hold V below the bound that log-likelihood rewards guarantee (V* <= 0 for τ <= 1); without it
            errors add up along the text and values drift upwards.
        n_step: tokens that a target looks ahead.
        trace_decay: λ, how much less each further token of them counts; None for 0.65 with pqn and 1 otherwise.
        off_policy_correction: several-step targets subtract Q(s, a) on the way, which keeps the optimum whatever
            policy wrote the text, rather than V(s), which is the plain n-step or λ-return; None for the first except
            with pqn.
        redistribute: learn which token earned how much of a reward paid later, and learn values from that.
        munchausen_alpha: share of log π that munchausen adds; the temperature stays that of the optimum it finds.
        munchausen_clip: least value of that bonus before it is shared, nats; None for no limit.
        atoms: numbers in a distribution or histogram of returns.
        value_range: lowest and highest return that these cover, nats.
        cql_weight: of the conservative term of cql and ilql.
        expectile: of ilql, ½ to below 1.
        advantage_weight: how much of the advantage ilql and q_sft add to log π_β when acting.
        reward_scale: nats a token that q_sft's mapping of rewards to [0, 1] covers.
        td_weight: of the TD regulariser of iq_learn.
        huber_delta: where the loss turns from squared to linear, in nats; None for squared throughout.
        learning_rate: step size of the optimiser, over the course of training.
        head_rate: learning rate of the heads, in units of `learning_rate`. An LSTM's hidden vectors are small, so that
            the head's weights have far to go: where a vocabulary is large and time short, ten does in one minute what
            one does in two. On a small corpus learned to the end it gains nothing.
        optimizer: "adam", "adamw", "sgd", or "sparse_adam": Adam that moves only the rows of the embedding, and without
            dueling of the action head, that a batch has to do with, for large vocabularies.
        precision: what an update's matrix products are made in, weights staying float32; "bfloat16" is faster where
            the processor or GPU has it and off by up to a hundredth of the values' size; "auto" measures whether it is.
        compile: run the Transformer's pass over whole texts through torch.compile, or plainly where no compiler works.
        weight_decay: of AdamW and SGD.
        max_grad_norm: gradients are scaled down to this norm; None for no clipping.
        batch_size: episodes in a batch.
        replay_ratio: transitions trained for each environment step.
        replay_capacity: tokens kept, in rows as long as the longest episode; the oldest episode makes place.
        corpus_share: share of a batch's episodes that are documents of the corpus rather than the agent's own; None
            for what the loss is used with: 1 for offline rules, 0 for pqn, else ½.
        start_from: folder of a saved agent or a run whose weights this one begins with, for another reward or another
            loss: maximum likelihood first, then a score of whole texts. Network and vocabulary must be the same. State
            values begin anew, at the network's initial_value, for another reward has others.
        pretrain: transitions of corpus episodes that the network learns by maximum likelihood before all else, so that
            action values begin as log-probabilities of a language model; part of the time spent learning.
        priority_exponent: how much an episode's TD errors steer how often it is drawn; 0 for not at all.
        importance_exponent: how much of that the loss takes back by weights.
        learning_starts: environment steps before the first update.
        target_update_rate: Polyak rate at every update; 1 copies the network, see target_update_interval.
        target_update_interval: updates between two target updates.
        averaged: predict, evaluate and save with the target network, which is the Polyak average of the weights at
            a target_update_rate below 1 (Polyak & Juditsky 1992), rather than with the newest: greedy texts hang
            on the order of a few values and jump from update to update. Acting while learning uses the newest.
        num_envs: episodes written side by side.
        phrases: P, how many phrases mined from the training documents may be written by one decision (options; Sutton,
            Precup & Singh 1999). Values are then those of the semi-Markov decision process. At temperature 0 its
            optimum is that of the tokens; at τ > 0 a text weighs as often as there are ways to write it:
            π(text) ∝ N(text)·p*(text)^{1/τ}.
        phrase_length: most tokens in a phrase.
        decision_cost: nats taken off for every decision. Of several ways to write the best text it makes the one of
            fewest decisions the best; that text itself stays best while all its decisions cost less than the next
            best text is worse.
    """

    network: NetworkConfig = field(default_factory=NetworkConfig)
    loss: Loss = "soft_q"
    gamma: float = 1.0
    temperature: Schedule | float | None = None
    epsilon: Schedule | float = Schedule(0.1, 0.0, 0.5)
    exploration: Exploration = "uniform"
    dueling: bool | None = None
    bound_values: bool = True
    n_step: int = 1
    trace_decay: float | None = None
    off_policy_correction: bool | None = None
    redistribute: bool = False
    munchausen_alpha: float = 0.9
    munchausen_clip: float | None = None
    atoms: int = 51
    value_range: tuple[float, float] = (-100.0, 0.0)
    cql_weight: float = 0.1
    expectile: float = 0.7
    advantage_weight: float = 1.0
    reward_scale: float = 20.0
    td_weight: float = 0.1
    huber_delta: float | None = None
    learning_rate: Schedule | float = Schedule(4e-3, 1e-4)
    head_rate: float = 1.0
    optimizer: Optimizer = "adam"
    precision: ProductPrecision = "float32"
    compile: bool = False
    weight_decay: float = 0.0
    max_grad_norm: float | None = 10.0
    batch_size: int = 32
    replay_ratio: float = 8.0
    replay_capacity: int = 1_000_000
    corpus_share: float | None = None
    start_from: str | None = None
    pretrain: int = 0
    priority_exponent: float = 0.0
    importance_exponent: float = 0.6
    learning_starts: int = 1_000
    target_update_rate: float = 0.02
    target_update_interval: int = 1
    averaged: bool = False
    num_envs: int = 64
    phrases: int = 0
    phrase_length: int = 4
    decision_cost: float = 0.0

    def __post_init__(self) -> None:
        """Refuse values that cannot work, each with one sentence."""
        for name in SCHEDULES:
            if getattr(self, name) is not None:
                object.__setattr__(self, name, Schedule.of(getattr(self, name)))
        if isinstance(self.value_range, list):  # YAML has no tuples
            object.__setattr__(self, "value_range", tuple(self.value_range))
        check_types(self)
        for name, (least, most) in _RANGES.items():
            value = getattr(self, name)
            if value is not None and not least <= value <= most:
                raise ValueError(f"{name} must lie between {least:g} and {most:g}, not {value}")
        for name, choices in _CHOICES.items():
            value = getattr(self, name)
            if value not in choices:
                raise ValueError(
                    f"{name} {value!r} is unknown{nearest(value, choices)}; use one of {', '.join(choices)}"
                )
        if not self.value_range[0] < self.value_range[1]:
            raise ValueError(f"value_range must be (lowest, highest) with lowest < highest, not {self.value_range}")
        self._refuse_senseless()

    def _refuse_senseless(self) -> None:
        """Refuse combinations that the rule cannot make sense of."""
        for name, needed in self.traits.needs.items():
            given = getattr(self, name)
            if given is not None and given != needed:
                raise ValueError(f"{self.loss} needs {name} {needed}, not {given}: {self.traits.why}")
        if self.n_step > 1 and not self.traits.multi_step:
            able = ", ".join(name for name, traits in RULES.items() if traits.multi_step)
            raise ValueError(f"{self.loss} looks one step ahead, not {self.n_step}; n_step is for {able}")
        if (
            self.loss == "munchausen"
            and min(self._schedule("temperature").start, self._schedule("temperature").end) <= 0
        ):
            raise ValueError("munchausen needs a temperature above 0: its bonus is τ log π, which is nothing at 0")
        if self.averaged and self.loss == "pqn":
            raise ValueError("averaged needs a target network, and pqn has none; set averaged to false")
        if self.pretrain and (self.loss in _NO_LOGITS or self.phrases):
            given = "phrases" if self.phrases else self.loss
            raise ValueError(
                f"pretrain makes action values of a language model's logits, which {given} has no use for; set it to 0"
            )
        if self.exploration == "untried_mass" and self.phrases:
            raise ValueError(
                "exploration 'untried_mass' reads a token's probability off its reward, which phrases sum up; "
                "use 'least_tried' with phrases"
            )
        if self.optimizer == "sparse_adam" and self.weight_decay:
            raise ValueError("sparse_adam has no weight_decay, for it would have to touch every row; use adamw")
        if self.compile and self.network.name != "transformer":
            raise ValueError(
                f"compile is for the network transformer, not {self.network.name}, which has nothing left to fuse"
            )
        if self.phrases and (self.n_step > 1 or self.loss in _PER_TOKEN):
            given = f"n_step {self.n_step}" if self.n_step > 1 else self.loss
            raise ValueError(f"phrases are learned one decision ahead by their rewards, not with {given}; use soft_q")
        if self.phrases and self.network.name == "pretrained":
            raise ValueError(
                "a pretrained model's head has no rows for phrases; set phrases to 0 or use another network"
            )
        if self.munchausen_clip is not None and self.munchausen_clip > 0:
            raise ValueError(f"munchausen_clip must not be positive, not {self.munchausen_clip}")

    @property
    def traits(self) -> RuleTraits:
        """What the learning rule brings along."""
        return RULES[self.loss]

    @property
    def uses_dueling(self) -> bool:
        """`dueling`, or what the loss is used with."""
        return self.traits.dueling if self.dueling is None else self.dueling

    @property
    def reads_all_actions(self) -> bool:
        """Whether the gradient reaches all V outputs of the action head, not those of taken actions alone."""
        return self.uses_dueling or self.loss not in ("soft_q", "dqn", "double", "pqn")

    @property
    def share_of_corpus(self) -> float:
        """`corpus_share`, or what the loss is used with."""
        return self.traits.corpus_share if self.corpus_share is None else self.corpus_share

    @property
    def decay(self) -> float:
        """`trace_decay`, or what the loss is used with."""
        return (0.65 if self.loss == "pqn" else 1.0) if self.trace_decay is None else self.trace_decay

    @property
    def corrects(self) -> bool:
        """`off_policy_correction`, or what the loss is used with."""
        return self.loss != "pqn" if self.off_policy_correction is None else self.off_policy_correction

    def at(self, name: str, progress: float) -> float:
        """The value of the schedule `name` at `progress`, the part of training that is done, 0 to 1."""
        return self._schedule(name)(progress)

    def _schedule(self, name: str) -> Schedule:
        value = getattr(self, name)
        return Schedule.of(self.traits.temperature if value is None else value)

    @classmethod
    def of(cls, config: AgentConfig | None, settings: dict[str, Any]) -> AgentConfig:
        """`config` with `settings` over it; a word or a dict stands for the network."""
        names = [f.name for f in dataclasses.fields(cls)]
        base = config or cls()
        chosen: dict[str, Any] = {}
        for name, value in settings.items():
            if name not in names:
                raise ValueError(f"the agent has no setting {name!r}{nearest(name, names)}")
            if name == "network" and not isinstance(value, NetworkConfig):
                value = dataclasses.replace(base.network, **({"name": value} if isinstance(value, str) else value))
            chosen[name] = value
        return dataclasses.replace(base, **chosen)


# What makes a language model of the learner, whatever else it is told.
MAXIMUM_LIKELIHOOD: dict[str, Any] = {
    "loss": "cross_entropy",
    "corpus_share": 1.0,
    "temperature": Schedule(1.0, 1.0),
    "learning_starts": 0,
    "n_step": 1,
    "dueling": None,
    "redistribute": False,
    "pretrain": 0,
    "priority_exponent": 0.0,
    "phrases": 0,
}
_PER_TOKEN = ("pqn", "q_sft", "cross_entropy")  # rules that count tokens, or know no rewards
_NO_LOGITS = ("c51", "quantile", "q_sft", "cross_entropy")  # whose heads hold something else, or who are it already
SCHEDULES = ("temperature", "epsilon", "learning_rate")
_CHOICES: dict[str, tuple[str, ...]] = {
    "loss": get_args(Loss),
    "optimizer": get_args(Optimizer),
    "precision": get_args(ProductPrecision),
    "exploration": get_args(Exploration),
}
_RANGES: dict[str, tuple[float, float]] = {
    "gamma": (0.0, 1.0),
    "corpus_share": (0.0, 1.0),
    "n_step": (1, 10**6),
    "trace_decay": (0.0, 1.0),
    "munchausen_alpha": (0.0, 0.999),
    "atoms": (2, 10**4),
    "cql_weight": (0.0, 10**6),
    "expectile": (0.5, 0.9999),
    "advantage_weight": (0.0, 10**6),
    "reward_scale": (1e-6, 10**6),
    "td_weight": (0.0, 10**6),
    "pretrain": (0, 10**12),
    "priority_exponent": (0.0, 10.0),
    "importance_exponent": (0.0, 1.0),
    "target_update_rate": (0.0, 1.0),
    "target_update_interval": (1, 10**9),
    "batch_size": (1, 10**6),
    "replay_ratio": (0.0, 10**6),
    "replay_capacity": (1, 10**9),
    "learning_starts": (0, 10**12),
    "num_envs": (1, 10**6),
    "phrases": (0, 10**6),
    "phrase_length": (2, 64),
    "decision_cost": (0.0, 10**6),
    "head_rate": (0.0, 10**4),
    "weight_decay": (0.0, 1.0),
    "huber_delta": (1e-6, 10**6),
    "max_grad_norm": (1e-9, 10**9),
}


def agent_config_of(values: dict[str, Any]) -> AgentConfig:
    """The configuration whose `dataclasses.asdict` is `values`."""
    return AgentConfig(**{**values, "network": NetworkConfig(**values["network"])})
