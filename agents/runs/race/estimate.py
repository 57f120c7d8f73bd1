"""How long a race may take, said before it begins."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ..algorithms import is_ours, knows_target
from .config import RaceConfig

PACE_SECONDS = 10.0  # most that measuring a speed takes


@dataclass(frozen=True)
class Part:
    """Runs of one kind.

    Args:
        kind: "steps", "seconds", "trial" or "pace", as in the names of the result files.
        runs: number of them; those of entries that learn nothing are left out.
        seconds: most that each may learn.
    """

    kind: str
    runs: int
    seconds: float


def _learning(config: RaceConfig) -> list[str]:
    """Names of the entries that learn; references that are told p* are done at once."""
    return [name for name, entry in config.entries.items() if not knows_target(entry.algorithm)]


def parts_of(config: RaceConfig) -> list[Part]:
    """The runs of a race and of its search."""
    learning = _learning(config)
    trials = config.trials * len(config.searched_worlds) * len(config.searched())
    foreign = [name for name in learning if not is_ours(config.entries[name].algorithm)]
    measured = 0 if "steps" in config.legs else len(foreign)
    each = len(config.raced_worlds) * config.seeds * len(learning)
    return [
        Part("trial", trials, config.search_share * config.max_seconds),
        Part("pace", measured, min(PACE_SECONDS, config.max_seconds)),
        *(Part(leg, each, config.max_seconds) for leg in config.legs),
    ]


def estimate(config: RaceConfig, finished: Iterable[str] = ()) -> str:
    """One sentence: what is left to run, and how long it learns at most.

    Args:
        config: the race.
        finished: names of the result files that are there already.
    """
    names, runs, seconds = list(finished), 0, 0.0
    for part in parts_of(config):
        begin = tuple(f"{entry}--{part.kind}--" for entry in _learning(config))
        left = max(0, part.runs - sum(f"{name}--".startswith(begin) for name in names))
        runs, seconds = runs + left, seconds + left * part.seconds
    sooner = ", less where the steps are done sooner" if "steps" in config.legs else ""
    return (
        f"{runs:,} runs are left, {config.processes} side by side: at most {duration(seconds / config.processes)} of "
        f"learning{sooner}; evaluations come on top"
    )


def duration(seconds: float) -> str:
    """A length of time in words: "40 s", "12 min", "2 h 24 min"."""
    if seconds < 100.0:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60.0)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60:,} h {minutes % 60} min"
