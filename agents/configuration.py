"""Everything a training run can be told, as typed dataclasses: one source for YAML, command line and Python."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from ..envs import EnvConfig, nearest
from ..envs.text import Cleaning
from ..envs.typed import check_types
from .schedules import Schedule

Loss = Literal["soft_q", "cross_entropy"]
Optimizer = Literal["adam", "adamw", "sgd"]
Network = Literal["lstm", "transformer"]
Positions = Literal["rotary", "learned"]


@dataclass(frozen=True)
class NetworkConfig:
    """The Q-network.

    Args:
        name: "lstm" (embedding, LSTM, linear) or "transformer" (causal, pre-norm).
        embedding_size: width of the LSTM's embedding; the Transformer's is hidden_size.
        hidden_size: width of the hidden state that the head reads.
        num_layers: layers of the LSTM or Transformer.
        num_heads: attention heads of the Transformer.
        positions: how the Transformer sees positions, "rotary" or "learned".
        dropout: dropout probability while training.
        initial_value: what every Q-value is before training, in nats.
    """

    name: Network = "lstm"
    embedding_size: int = 128
    hidden_size: int = 256
    num_layers: int = 1
    num_heads: int = 4
    positions: Positions = "rotary"
    dropout: float = 0.0
    initial_value: float = 0.0


@dataclass(frozen=True)
class AgentConfig:
    """The learner and how it explores.

    Args:
        network: the Q-network.
        loss: "soft_q": squared or Huber TD error of the soft Bellman equation, which is the plain one of DQN at
            temperature 0; "cross_entropy": maximum likelihood on the corpus, no rewards.
        gamma: discount. With 1 the optimum is the target distribution itself.
        temperature: τ of V(s) = τ log Σ exp(Q/τ) and of the Boltzmann policy, over the course of training.
        epsilon: probability of a uniformly random valid action, over the course of training.
        dueling: separate heads for V(s) and for the advantages, whose soft maximum is 0; without it one head gives
            Q and an update needs no V-wide backward pass, but nothing ties the values of untried actions down.
        bound_values: hold V below the bound that log-likelihood rewards guarantee (V* <= 0 for τ <= 1); without it
            errors add up along the text and values drift upwards.
        huber_delta: where the loss turns from squared to linear, in nats; None for squared throughout.
        learning_rate: step size of the optimiser, over the course of training.
        optimizer: "adam", "adamw" or "sgd".
        weight_decay: of AdamW and SGD.
        max_grad_norm: gradients are scaled down to this norm; None for no clipping.
        batch_size: episodes in a batch.
        replay_ratio: transitions trained for each environment step.
        replay_capacity: episodes kept.
        corpus_share: share of a batch's episodes that are documents of the corpus rather than the agent's own.
        learning_starts: environment steps before the first update.
        target_update_rate: Polyak rate at every update; 1 copies the network, see target_update_interval.
        target_update_interval: updates between two target updates.
        num_envs: episodes written side by side.
    """

    network: NetworkConfig = field(default_factory=NetworkConfig)
    loss: Loss = "soft_q"
    gamma: float = 1.0
    temperature: Schedule | float = 1.0
    epsilon: Schedule | float = Schedule(0.1, 0.0, 0.5)
    dueling: bool = True
    bound_values: bool = True
    huber_delta: float | None = None
    learning_rate: Schedule | float = Schedule(4e-3, 1e-4)
    optimizer: Optimizer = "adam"
    weight_decay: float = 0.0
    max_grad_norm: float | None = 10.0
    batch_size: int = 32
    replay_ratio: float = 8.0
    replay_capacity: int = 20_000
    corpus_share: float = 0.5
    learning_starts: int = 1_000
    target_update_rate: float = 0.02
    target_update_interval: int = 1
    num_envs: int = 64

    def __post_init__(self) -> None:
        """Refuse values that cannot work, each with one sentence."""
        for name in SCHEDULES:
            object.__setattr__(self, name, Schedule.of(getattr(self, name)))
        check_types(self)
        for name, (least, most) in _RANGES.items():
            value = getattr(self, name)
            if value is not None and not least <= value <= most:
                raise ValueError(f"{name} must lie between {least:g} and {most:g}, not {value}")
        for name, choices in (("loss", get_args(Loss)), ("optimizer", get_args(Optimizer))):
            value = getattr(self, name)
            if value not in choices:
                raise ValueError(
                    f"{name} {value!r} is unknown{nearest(value, choices)}; use one of {', '.join(choices)}"
                )
        if self.loss == "cross_entropy" and self.corpus_share < 1.0:
            raise ValueError(
                f"cross_entropy learns from the corpus alone: set corpus_share to 1, not {self.corpus_share}"
            )

    def at(self, name: str, progress: float) -> float:
        """The value of the schedule `name` at `progress`, the part of training that is done, 0 to 1."""
        return Schedule.of(getattr(self, name))(progress)

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


SCHEDULES = ("temperature", "epsilon", "learning_rate")
_RANGES: dict[str, tuple[float, float]] = {
    "gamma": (0.0, 1.0),
    "corpus_share": (0.0, 1.0),
    "target_update_rate": (0.0, 1.0),
    "target_update_interval": (1, 10**9),
    "batch_size": (1, 10**6),
    "replay_ratio": (0.0, 10**6),
    "replay_capacity": (1, 10**9),
    "learning_starts": (0, 10**12),
    "num_envs": (1, 10**6),
    "weight_decay": (0.0, 1.0),
    "huber_delta": (1e-6, 10**6),
    "max_grad_norm": (1e-9, 10**9),
}


@dataclass(frozen=True)
class RunConfig:
    """A training run: the environment, the agent, and how long.

    Args:
        name: name of the run; its folder is `output`/`name`.
        env: the environment's arguments.
        agent: the learner's settings.
        total_steps: environment steps (for cross_entropy: the same number of updates as that many would give).
        max_seconds: stop earlier after this much wall-clock time; None for no limit.
        evaluations: how many evaluations on held-out text, evenly spread over the run.
        evaluation_documents: held-out documents that an evaluation during the run scores.
        evaluation_episodes: episodes that an evaluation writes from held-out prompts.
        baseline_seconds: time to train the maximum-likelihood baseline on the same network; 0 for none.
        samples: texts written before and after training.
        output: folder of all runs.
        device: "auto", "cpu", "cuda" or "mps".
        seed: seed of everything random.
        threads: CPU threads of torch; None leaves its own choice.
    """

    name: str = "quickstart"
    env: EnvConfig = field(default_factory=EnvConfig)
    agent: AgentConfig = field(default_factory=AgentConfig)
    total_steps: int = 200_000
    max_seconds: float | None = None
    evaluations: int = 20
    evaluation_documents: int = 200
    evaluation_episodes: int = 128
    baseline_seconds: float = 30.0
    samples: int = 5
    output: str = "runs"
    device: str = "auto"
    seed: int = 0
    threads: int | None = None


def run_config_of(values: dict[str, Any]) -> RunConfig:
    """The configuration whose `dataclasses.asdict` is `values`, as YAML or JSON gives it back."""
    return RunConfig(**{**values, "env": env_config_of(values["env"]), "agent": agent_config_of(values["agent"])})


def agent_config_of(values: dict[str, Any]) -> AgentConfig:
    """The configuration whose `dataclasses.asdict` is `values`."""
    return AgentConfig(**{**values, "network": NetworkConfig(**values["network"])})


def env_config_of(values: dict[str, Any]) -> EnvConfig:
    """The configuration whose `dataclasses.asdict` is `values`."""
    return EnvConfig(**{**values, "cleaning": Cleaning(**values["cleaning"])})
