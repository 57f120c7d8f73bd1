"""The search of a race: the same study, the same number of trials and the same budget for every entry with a space."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from ..config import with_settings
from ..search.config import SEED
from ..search.study import ask, load_optuna, new_study
from .config import RaceConfig
from .jobs import Job, run_all

_EVALUATIONS = 3


def search(config: RaceConfig, make_job: Callable[..., Job], quiet: bool = False) -> dict[str, dict[str, Any]]:
    """The best settings of each entry, and the values of all trials.

    In each round every entry has one trial on all tuning worlds; the jobs of a round run side by side. What a trial
    draws depends on the results before it alone, and finished jobs are files: a search that was stopped goes on.

    Args:
        config: the race.
        make_job: `Race._job`.
        quiet: no progress bars.

    Returns: for each entry "settings" and "tried", a list of "chosen" settings and their "score": minus the regret at
    the end of the trial in nats, or the greedy return where the optimum is unknown; None for a trial that failed.
    """
    entries, share = config.searched(), config.search_share
    budget = {
        "total_steps": max(1, round(share * config.total_steps)), "max_seconds": share * config.max_seconds,
        "evaluations": _EVALUATIONS, "documents": 0, "split": "valid",
    }  # fmt: skip
    spaces = {name: entry.space.holding(entry.settings) for name, entry in entries.items()}
    studies = {name: new_study(spaces[name], entry.settings, config.trials) for name, entry in entries.items()}
    tried: dict[str, list[dict[str, Any]]] = {name: [] for name in config.entries}
    for number in range(config.trials if entries else 0):
        asked = {name: ask(studies[name], spaces[name], config.trials) for name in entries}
        jobs: dict[str, list[Job]] = {}
        for name, (_, chosen) in asked.items():
            if _known(tried[name], chosen) is None:  # a small space is soon exhausted
                settings = with_settings(entries[name].settings, chosen)
                jobs[name] = [
                    make_job(f"{name}--trial--{number}--{world}", entries[name], settings, SEED, world, **budget)
                    for world in config.searched_worlds
                ]
        title = f"search, round {number + 1} of {config.trials}"
        run_all([job for group in jobs.values() for job in group], config.processes, title, quiet)
        for name, (trial, chosen) in asked.items():
            before = _known(tried[name], chosen)
            value = _value(jobs[name]) if before is None else before["score"]
            tried[name].append({"chosen": chosen, "score": value})
            if value is None:
                studies[name].tell(trial, state=load_optuna().trial.TrialState.FAIL)
            else:
                studies[name].tell(trial, value)
    return {
        name: {"settings": with_settings(entry.settings, _best(tried[name])), "tried": tried[name]}
        for name, entry in config.entries.items()
    }


def _known(tried: list[dict[str, Any]], chosen: dict[str, Any]) -> dict[str, Any] | None:
    """The trial that had these settings already."""
    wanted = json.dumps(chosen)
    return next((trial for trial in tried if json.dumps(trial["chosen"]) == wanted), None)


def _best(tried: list[dict[str, Any]]) -> dict[str, Any]:
    """The settings of the best trial, the first of equals; none where no trial has a value."""
    known = [trial for trial in tried if trial["score"] is not None]
    best: dict[str, Any] = max(known, key=lambda trial: trial["score"], default={"chosen": {}})["chosen"]
    return best


def _value(jobs: list[Job]) -> float | None:
    """Mean over worlds of what a search maximises; None where a job failed."""
    values = []
    for job in jobs:
        rows = (job.result() or {}).get("rows")
        if not rows:
            return None
        regret = rows[-1]["regret"]
        values.append(float(rows[-1]["greedy_return"]) if regret is None else -float(regret))
    return sum(values) / len(values)
