"""Settings of `tokenlm tune`, and what a trial trains."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ....envs.arguments import check_settings, number
from ....envs.targets.registry import SAMPLES_DOCUMENTS
from ...dqn.config import AgentConfig
from ..config import RunConfig, plain, with_settings
from .space import Choices, Space, nested

SHARE = 1 / 3  # of the whole budget: the least that a trial may have in a race
SEED = 1_000  # of trials; differs from the seeds that are reported
TUNING_SEED = 100  # the first target seed of tuning worlds


@dataclass(frozen=True)
class TuneConfig:
    """A search of settings.

    Args:
        run: the configuration that is tuned.
        space: which settings may be chosen, by their names in `agent`, or in `algorithm_settings` for an algorithm
            other than "dqn".
        trials: settings to try. Each trains once, the configuration's own first; its values are added to the space.
        workers: processes side by side.
        share: part of `total_steps` and `max_seconds` that a trial has, 0 to 1.
        worlds: target seeds that a trial trains on, for targets that are drawn from one (markov, factored, teacher);
            the configuration's own is not allowed. Other targets are tuned on the validation documents.
        prune: end a trial early that is worse than the median of the others after the same part of its training.
    """

    run: RunConfig = field(default_factory=RunConfig)
    space: Space = field(default_factory=lambda: Space({}))
    trials: int = number(50, 1)
    workers: int = number(1, 1)
    share: float = number(SHARE, 1e-6, 1.0)
    worlds: Sequence[int] = (TUNING_SEED,)
    prune: bool = True

    def __post_init__(self) -> None:
        """Refuse values that cannot work, a world that is reported, and names that are no settings."""
        check_settings(self)
        if not self.space.parts:
            raise ValueError("the space has no settings to search; name some, as in configs/search-dqn.yaml")
        if not self.worlds:
            raise ValueError("worlds needs at least one target seed, as [100]")
        check_apart([self.run.env.target_seed], self.worlds, self.run.env.target)
        applied(self.run, {name: _some(part) for name, part in self.space.parts.items()})

    @property
    def parts(self) -> list[RunConfig]:
        """The trainings of a trial, with the configuration's own settings: one for each tuning world."""
        run, share = self.run, self.share
        seconds = None if run.max_seconds is None else share * run.max_seconds
        short = dataclasses.replace(
            run, total_steps=max(1, round(share * run.total_steps)), max_seconds=seconds, seed=run.seed + SEED
        )
        if run.env.target not in SAMPLES_DOCUMENTS:
            return [short]
        return [dataclasses.replace(short, env=dataclasses.replace(run.env, target_seed=w)) for w in self.worlds]


def check_apart(raced: Sequence[int], tuned: Sequence[int], target: str) -> None:
    """Raise ValueError where a world is tuned on that is reported too; only targets drawn from a seed have several."""
    both = sorted(set(raced) & set(tuned))
    if both and target in SAMPLES_DOCUMENTS:
        raise ValueError(
            f"the world of target seed {both[0]} is reported, so nothing may be tuned on it; tune on others, "
            f"{TUNING_SEED} and up"
        )


def settings_of(run: RunConfig) -> dict[str, Any]:
    """The settings of a run's algorithm by name."""
    settings: dict[str, Any] = plain(run)["agent"] if run.algorithm == "dqn" else run.algorithm_settings
    return settings


def applied(run: RunConfig, chosen: Mapping[str, Any]) -> RunConfig:
    """`run` with the settings that a search chose; ValueError where our learner does not have them.

    Args:
        run: a configuration.
        chosen: settings of its algorithm by name, with dots.
    """
    if run.algorithm == "dqn":
        return dataclasses.replace(run, agent=AgentConfig.of(run.agent, nested(chosen)))
    return dataclasses.replace(run, algorithm_settings=with_settings(run.algorithm_settings, dict(chosen)))


def _some(part: Any) -> Any:
    return part.values[0] if isinstance(part, Choices) else part.low
