"""Settings of a race, as typed dataclasses for YAML, command line and Python."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass, field
from typing import Any

from ....envs import EnvConfig, nearest
from ...acting.choosing import checked_temperature
from ..algorithms import check_algorithm, check_settings_of, knows_target, uses_corpus


@dataclass(frozen=True)
class EntryConfig:
    """One entry of a race: an algorithm with its settings.

    Args:
        algorithm: a name as in `tokenlm train`, or "module:Class" for your own (see `Agent`).
        settings: of the algorithm. For algorithms of other libraries, "pretrain" is the number of transitions of corpus
            episodes to pretrain on.
        search: settings to search, each with a list of values; dots separate nested names ("network.hidden_size").
        trials: settings to try: the given ones first, then random ones.
    """

    algorithm: str = "dqn"
    settings: dict[str, Any] = field(default_factory=dict)
    search: dict[str, list[Any]] = field(default_factory=dict)
    trials: int = 0

    def __post_init__(self) -> None:
        """Raise ValueError for a setting that cannot work."""
        check_algorithm(self.algorithm)
        check_settings_of(self.algorithm, self.settings)
        if self.trials > 1 and not self.search:
            raise ValueError(f"{self.trials} trials of {self.algorithm} need settings to search; set `search`")

    @property
    def uses_corpus(self) -> bool:
        """Whether it trains on corpus episodes or only on rewards; the two classes are not comparable."""
        return uses_corpus(self.algorithm, self.settings)

    @property
    def source(self) -> str:
        """What it learns from: "rewards", "corpus" (and rewards), or "p*", which it is told."""
        return "p*" if knows_target(self.algorithm) else "corpus" if self.uses_corpus else "rewards"


@dataclass(frozen=True)
class RaceConfig:
    """A race.

    The figure is the regret at the temperature τ: at 0 that of the greedy text, above it the soft regret of the policy.
    Every entry has two runs per seed: one of `total_steps` environment steps, and one of `max_seconds`. Schedules end
    with the run. Seconds are training time without evaluation.

    Args:
        name: name of the race; its folder is `output`/`name`.
        env: the environment's arguments.
        entries: the entries by name.
        only: names of the entries to run; all if empty.
        temperature: τ of the objective E[Σ r] + τ·entropy that is measured: 0 for the best text, 0.5 for reward and
            diversity, 1 for the language model. The entries' own settings (temperature, entropy bonus) must aim at it.
        seeds: runs of each entry; their seeds are 0, 1, …
        total_steps: environment steps of the runs at equal steps; `max_seconds` limits these runs too.
        max_seconds: training time of the runs at equal time.
        evaluations: evaluations per run, with growing distance: the k-th of n at (k/n)² of the run.
        episodes: episodes, and prompts, per evaluation.
        documents: held-out documents for the perplexity at the end.
        search_share: fraction of both budgets for a trial of a search.
        beams: width of the reference beam search under p*.
        processes: parallel runs.
        threads: CPU threads per run.
        device: "auto", "cpu", "cuda" or "mps".
        output: folder of all races.
    """

    name: str = "race"
    env: EnvConfig = field(default_factory=EnvConfig)
    entries: dict[str, EntryConfig] = field(default_factory=dict)
    only: list[str] = field(default_factory=list)
    temperature: float = 0.0
    seeds: int = 5
    total_steps: int = 200_000
    max_seconds: float = 120.0
    evaluations: int = 30
    episodes: int = 64
    documents: int = 200
    search_share: float = 0.3
    beams: int = 10
    processes: int = 2
    threads: int = 1
    device: str = "auto"
    output: str = "runs"

    def __post_init__(self) -> None:
        """Raise ValueError for a setting that cannot work."""
        for name, least in _LEAST.items():
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, not {getattr(self, name)}")
        checked_temperature(self.temperature)
        if not self.entries:
            raise ValueError("a race needs at least one entry, as in configs/race-markov.yaml")
        for name in self.only:
            if name not in self.entries:
                raise ValueError(
                    f"the race {self.name!r} has no entry {name!r}{nearest(name, self.entries)}; "
                    f"it has {', '.join(self.entries)}"
                )
        if self.only:
            kept = {name: entry for name, entry in self.entries.items() if name in self.only}
            object.__setattr__(self, "entries", kept)
        for name in self.entries:
            if not re.fullmatch(r"[\w .,+()=-]+", name):  # it becomes part of a file name
                raise ValueError(f"the name of the entry {name!r} may only have letters, digits, spaces and _.,+-=()")


_LEAST = {"seeds": 1, "total_steps": 1, "evaluations": 1, "episodes": 1, "documents": 1, "beams": 1, "processes": 1}


def plain_race(config: RaceConfig) -> dict[str, Any]:
    """The configuration as JSON values."""
    return dataclasses.asdict(config)
