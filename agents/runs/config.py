"""Everything a training run can be told, as one typed dataclass for YAML, command line and Python."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ...envs import EnvConfig, absolute_paths, env_config_of
from ...envs.arguments import check_settings, make_settings, number, place, refuse_code
from ..dqn.actors import ActorsConfig
from ..dqn.config import AgentConfig
from ..dqn.format_1 import agent_settings, is_format_1
from ..networks import saved_network
from .algorithms import check_algorithm
from .share.trackers import TrackerName


@dataclass(frozen=True)
class RunConfig:
    """A training run: the environment, the agent, and how long.

    Args:
        name: name of the run; its folder is `output`/`name`.
        env: the environment's arguments.
        agent: the learner's settings, of the algorithm "dqn".
        algorithm: "dqn", the name of another library's algorithm ("sb3-ppo"), or "module:Class" of your own.
        algorithm_settings: settings of an algorithm other than "dqn", its network among them; "pretrain" is the number
            of transitions of corpus episodes that it begins with.
        total_steps: environment steps (for cross_entropy: the updates that so many steps would bring).
        max_seconds: stop after this time spent learning, if that comes first. Schedules then run over whichever budget
            is further on, and a run is no longer reproducible bit for bit. None for no limit.
        evaluations: how many evaluations on held-out text, evenly spread over the run.
        evaluation_documents: held-out documents that an evaluation during the run scores.
        evaluation_episodes: episodes that an evaluation writes from held-out prompts.
        baseline_seconds: time to train the maximum-likelihood baseline on the same network; None for as much as the
            agent learned, 0 for none.
        checkpoint_seconds: a checkpoint is written at every evaluation and after so much time.
        samples: texts written before and after training.
        output: folder of all runs.
        device: "auto", "cpu", "cuda" or "mps".
        seed: seed of everything random.
        continues: folder of a finished run whose weights this one begins with, at the step where that one ended; the
            optimiser and the replay begin anew. `tokenlm train --continue` sets it, and the schedules to their ends.
        threads: CPU threads of torch; None: torch chooses.
        actors: processes on Ray that act while this one learns, {count: 4}; see `ActorsConfig`.
        track: "wandb", "swanlab" or "mlflow": where figures go beside TensorBoard; nothing leaves the machine unless
            the tracker's own settings say so. None for TensorBoard alone.
        dataset: a Minari data set of this environment on this machine, whose episodes are learned from in place of the
            corpus's documents. None for the documents.
    """

    name: str = "quickstart"
    env: EnvConfig = field(default_factory=EnvConfig)
    agent: AgentConfig = field(default_factory=AgentConfig)
    algorithm: str = "dqn"
    algorithm_settings: dict[str, Any] = field(default_factory=dict)
    total_steps: int = number(200_000, 1)
    max_seconds: float | None = number(None, 0.0)
    evaluations: int = number(20, 0)
    evaluation_documents: int = number(200, 1)
    evaluation_episodes: int = number(128, 1)
    baseline_seconds: float | None = number(None, 0.0)
    checkpoint_seconds: float = number(120.0, 0.0)
    samples: int = number(5, 0)
    output: str = "runs"
    device: str = "auto"
    seed: int = number(0, 0)
    continues: str | None = None
    threads: int | None = number(None, 1)
    actors: ActorsConfig = field(default_factory=ActorsConfig)
    track: TrackerName | None = None
    dataset: str | None = None

    def __post_init__(self) -> None:
        """Refuse values that cannot work, an unknown algorithm, and settings that would be ignored."""
        if isinstance(self.actors, Mapping):
            object.__setattr__(self, "actors", make_settings(ActorsConfig, self.actors, "actors"))
        check_settings(self)
        check_algorithm(self.algorithm)
        if self.actors.count and self.algorithm != "dqn":
            raise ValueError(f"actors serve the algorithm dqn, not {self.algorithm}; set actors.count to 0")
        object.__setattr__(self, "env", absolute_paths(self.env))  # so that the run is found from elsewhere too
        if self.algorithm == "dqn" and self.algorithm_settings:
            given = ", ".join(self.algorithm_settings)
            raise ValueError(f"algorithm_settings ({given}) are for other algorithms; the settings of dqn are agent.…")


def run_config_of(values: dict[str, Any], source: str, trust: bool = False) -> RunConfig:
    """The configuration whose `plain` is `values`, as a saved file gives it back.

    Args:
        values: by name.
        source: where they come from, for messages.
        trust: code that they name may be imported.

    Raises ValueError for values that are no configuration, and for names of code without `trust`.
    """
    try:
        agent, env = values["agent"], values["env"]
        named = {"algorithm": values.get("algorithm"), "agent.loss": agent.get("loss")}
        named |= {f"env.{name}": env.get(name) for name in ("target", "sequence_reward", "form")}
        if not trust:
            refuse_code(named, source)
        agent = agent_settings(agent) if is_format_1(agent) else agent
        agent = AgentConfig.long_form(agent, agent["loss"])  # earlier versions had other parts
        agent = AgentConfig(**{**agent, "network": saved_network(agent["network"])})
        others = dict(values.get("algorithm_settings") or {})
        if "network" in others:
            others["network"] = saved_network(others["network"])
        return RunConfig(**{**values, "env": env_config_of(env), "agent": agent, "algorithm_settings": others})
    except (KeyError, TypeError, AttributeError) as problem:
        raise ValueError(f"{source} is no configuration of a run: {problem}") from None


def plain(config: RunConfig) -> dict[str, Any]:
    """The configuration as YAML and JSON know it: dicts, lists, numbers and text."""
    values: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(config)))
    return values


def with_settings(settings: dict[str, Any], chosen: dict[str, Any]) -> dict[str, Any]:
    """A copy of `settings` with those of `chosen`, whose names may reach into mappings by dots; see `place`."""
    result: dict[str, Any] = {k: dict(v) if isinstance(v, dict) else v for k, v in settings.items()}
    for name, value in chosen.items():
        place(result, name.split("."), value)
    return result
