"""Settings of a race, as typed dataclasses for YAML, command line and Python."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass, field
from typing import Any

from ....envs import EnvConfig, nearest
from ....envs.targets.registry import SAMPLES_DOCUMENTS
from ...acting.choosing import checked_temperature
from ..algorithms import check_algorithm, check_settings_of, knows_target, uses_corpus
from ..search.config import SHARE, TUNING_SEED, check_apart
from ..search.space import Space
from .budget import check_target_updates

LEGS = ("steps", "seconds")
_OF_A_CLASS = ("corpus_share", "pretrain")  # settings that say what an entry learns from; kept where all have defaults


@dataclass(frozen=True)
class EntryConfig:
    """One entry of a race: an algorithm with its settings.

    Args:
        algorithm: a name as in `tokenlm train`, or "module:Class" for your own (see `Agent`).
        settings: of the algorithm. For algorithms of other libraries, "pretrain" is the number of transitions of corpus
            episodes to pretrain on.
        search: settings to search: a list of choices, or {low: …, high: …, log: true}; dots separate nested names
            ("network.hidden_size"). See `Space`.
    """

    algorithm: str = "dqn"
    settings: dict[str, Any] = field(default_factory=dict)
    search: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Raise ValueError for a setting that cannot work."""
        check_algorithm(self.algorithm)
        check_settings_of(self.algorithm, self.settings)
        _ = self.space

    @property
    def space(self) -> Space:
        """What is searched."""
        return Space.of(self.search, f"the search of {self.algorithm}")

    @property
    def out_of_the_box(self) -> EntryConfig:
        """The same with the algorithm's defaults; only what it learns from is kept."""
        kept = {name: value for name, value in self.settings.items() if name in _OF_A_CLASS}
        return EntryConfig(self.algorithm, kept)

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
    Every entry has a run for each world, seed and leg. Legs are "steps", `total_steps` environment steps each, and
    "seconds", `max_seconds` each. Schedules end with the run. Seconds are training time without evaluation.

    Before that the settings of every entry that has a space are searched: the same number of trials with the same
    budget by the same searcher, on the tuning worlds alone.

    Args:
        name: name of the race; its folder is `output`/`name`.
        env: the environment's arguments.
        entries: the entries by name.
        only: names of the entries to run; all if empty.
        defaults: race the algorithms as they come, ours too: settings of entries are left out but for what they learn
            from, and nothing is searched. The folder is `name`-defaults.
        worlds: target seeds that are raced on, for targets that are drawn from one (markov, factored, teacher); that of
            `env` if empty. Other targets have one world: races are run on its test documents.
        tuning_worlds: target seeds that every trial trains on; none may be raced on, and the mean counts. Other targets
            are searched on their validation documents.
        trials: settings that the search tries for every entry with a space; 0 for none. The entry's own come first, as
            far as its space holds them.
        search_share: part of both budgets that a trial has; at least a third.
        legs: which legs are run, of "steps" and "seconds".
        temperature: τ of the objective E[Σ r] + τ·entropy that is measured: 0 for the best text, 0.5 for reward and
            diversity, 1 for the language model. The entries' own settings (temperature, entropy bonus) must aim at it.
        seeds: runs of each entry in each world and leg; their seeds are 0, 1, …
        total_steps: environment steps of the runs at equal steps; `max_seconds` limits these runs too.
        max_seconds: training time of the runs at equal time.
        evaluations: evaluations per run, with growing distance: the k-th of n at (k/n)² of the run.
        episodes: episodes, and prompts, per evaluation.
        documents: held-out documents for the perplexity at the end.
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
    defaults: bool = False
    worlds: list[int] = field(default_factory=list)
    tuning_worlds: list[int] = field(default_factory=lambda: [TUNING_SEED])
    trials: int = 0
    search_share: float = SHARE
    legs: list[str] = field(default_factory=lambda: list(LEGS))
    temperature: float = 0.0
    seeds: int = 5
    total_steps: int = 200_000
    max_seconds: float = 120.0
    evaluations: int = 30
    episodes: int = 64
    documents: int = 200
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
        if self.defaults:
            object.__setattr__(self, "entries", _without_twins(self.entries))
            object.__setattr__(self, "trials", 0)
        self._check_search()
        for leg in self.legs:
            if leg not in LEGS:
                raise ValueError(f"leg {leg!r} is unknown{nearest(leg, LEGS)}; use {' or '.join(LEGS)}, or both")
        if not self.legs:
            raise ValueError("legs must name steps, seconds or both; it is empty")
        for name in self.entries:
            if not re.fullmatch(r"[\w .,+()=-]+", name):  # it becomes part of a file name
                raise ValueError(f"the name of the entry {name!r} may only have letters, digits, spaces and _.,+-=()")

    @property
    def raced_worlds(self) -> list[int]:
        """The target seeds that are raced on."""
        return list(self.worlds) or [self.env.target_seed]

    @property
    def searched_worlds(self) -> list[int]:
        """Target seeds of the worlds that settings are searched on; the environment's own where none is drawn."""
        return self.tuning_worlds if self.is_drawn else [self.env.target_seed]

    @property
    def is_drawn(self) -> bool:
        """Whether worlds are drawn from a target seed; else documents are apart, but p* is the same."""
        return self.env.target in SAMPLES_DOCUMENTS

    def searched(self) -> dict[str, EntryConfig]:
        """The entries that have a space, where the race searches."""
        return {name: entry for name, entry in self.entries.items() if entry.search and self.trials}

    def _check_search(self) -> None:
        """Refuse worlds that are raced and searched, and trials too short to say anything."""
        for name in ("worlds", "tuning_worlds"):
            seeds = getattr(self, name)
            if len(set(seeds)) < len(seeds) or any(seed < 0 for seed in seeds):
                raise ValueError(f"{name} must be different target seeds of at least 0, not {seeds}")
        if len(self.raced_worlds) > 1 and not self.is_drawn:
            raise ValueError(
                f"the target {self.env.target!r} is drawn from no seed, so it has one world; leave out worlds"
            )
        if not self.searched():
            return
        if not self.tuning_worlds:
            raise ValueError("a search needs at least one of tuning_worlds, as [100]")
        check_apart(self.raced_worlds, self.tuning_worlds, self.env.target)
        if not SHARE - 1e-9 <= self.search_share <= 1.0:
            raise ValueError(
                f"search_share must be at least a third and at most 1, not {self.search_share:g}: shorter trials "
                "choose settings for another race"
            )
        steps = round(self.search_share * self.total_steps)
        for name, entry in self.searched().items():
            check_target_updates(name, entry.algorithm, entry.settings, entry.space, steps)


def _without_twins(entries: dict[str, EntryConfig]) -> dict[str, EntryConfig]:
    """Entries with their algorithms' defaults, the first of those that are then the same."""
    found: dict[str, EntryConfig] = {}
    for name, entry in entries.items():
        if (plain := entry.out_of_the_box) not in found.values():
            found[name] = plain
    return found


_LEAST = {
    "trials": 0,
    "seeds": 1,
    "total_steps": 1,
    "evaluations": 1,
    "episodes": 1,
    "documents": 1,
    "beams": 1,
    "processes": 1,
}


def plain_race(config: RaceConfig) -> dict[str, Any]:
    """The configuration as JSON values."""
    return dataclasses.asdict(config)
