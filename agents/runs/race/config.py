"""What a race can be told, as typed dataclasses for YAML, command line and Python."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass, field
from typing import Any

from ....envs import EnvConfig, nearest
from ..algorithms import check_algorithm, uses_corpus


@dataclass(frozen=True)
class EntryConfig:
    """One row of a race: an algorithm with its settings.

    Args:
        algorithm: a name that `tokenlm train` knows, or "module:Class" of your own (see `Agent`).
        settings: of the algorithm. For those of other libraries, "pretrain" is so many transitions of corpus episodes
            to begin with.
        search: settings to search, each with the values to choose from; dots reach into dicts
            ("network.hidden_size").
        trials: settings tried, the given ones first; the others are drawn at random.
    """

    algorithm: str = "dqn"
    settings: dict[str, Any] = field(default_factory=dict)
    search: dict[str, list[Any]] = field(default_factory=dict)
    trials: int = 0

    def __post_init__(self) -> None:
        """Refuse values that cannot work, each with one sentence."""
        check_algorithm(self.algorithm)
        if self.trials > 1 and not self.search:
            raise ValueError(f"{self.trials} trials of {self.algorithm} need something to search; give it `search`")

    @property
    def uses_corpus(self) -> bool:
        """Whether it sees corpus episodes, or rewards alone; the two classes are not comparable."""
        return uses_corpus(self.algorithm, self.settings)


@dataclass(frozen=True)
class RaceConfig:
    """A race.

    Every entry runs twice for each seed: up to `total_steps` environment steps, and for `max_seconds`, with schedules
    over what it will have taken. Seconds are those of learning, evaluation left out.

    Args:
        name: name of the race; its folder is `output`/`name`.
        env: the environment's arguments.
        entries: the rows, by the names they are shown under.
        only: names of entries that race, the others are dropped; all if empty.
        seeds: runs of each entry; their seeds are 0, 1, …
        total_steps: environment steps of the race at equal steps; one that is slower than `max_seconds` stops there.
        max_seconds: of the race at equal time.
        evaluations: of each run, ever further apart: the k-th of n at (k/n)² of the course.
        episodes: that an evaluation writes, and prompts it averages over.
        documents: held-out documents whose perplexity is measured at the end.
        search_share: of both budgets, that a trial of a search may use.
        beams: of the beam search under p* among the references.
        processes: runs side by side.
        threads: CPU threads of each.
        device: "auto", "cpu", "cuda" or "mps".
        output: folder of all races.
    """

    name: str = "race"
    env: EnvConfig = field(default_factory=EnvConfig)
    entries: dict[str, EntryConfig] = field(default_factory=dict)
    only: list[str] = field(default_factory=list)
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
        """Refuse values that cannot work, each with one sentence."""
        for name, least in _LEAST.items():
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, not {getattr(self, name)}")
        if not self.entries:
            raise ValueError("a race needs entries; name at least one, as in configs/race-markov.yaml")
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
            if not re.fullmatch(r"[\w .,+()=-]+", name):  # it becomes the name of a file
                raise ValueError(f"the entry {name!r} must be named by letters, digits, spaces and .,+-=() alone")


_LEAST = {"seeds": 1, "total_steps": 1, "evaluations": 1, "episodes": 1, "documents": 1, "beams": 1, "processes": 1}


def plain_race(config: RaceConfig) -> dict[str, Any]:
    """The configuration as JSON knows it."""
    return dataclasses.asdict(config)
