"""`Race`: hyperparameter search, runs, references and report. An interrupted race can be continued."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np

from ....envs.text import write_json
from ..algorithms import is_ours
from ..config import with_settings
from .config import EntryConfig, RaceConfig, plain_race
from .jobs import Job, run_all
from .references import references
from .report import report

SEARCH_SEED = 1_000  # differs from the seeds of the runs
LONG = 1 << 40  # environment steps of a run that only time limits


class Race:
    """A race and its folder.

    The folder has race.json (the configuration), runs/ (a JSON file for every finished run, which is not repeated),
    search.json (settings found by the search), references.json, and the report: table.md, result.json, curves.png.

    Args:
        config: settings of the race.
        quiet: no progress bars and no output.
    """

    def __init__(self, config: RaceConfig, quiet: bool = False) -> None:
        self.config = config
        self.quiet = quiet
        self.folder = Path(config.output) / config.name
        self.runs = self.folder / "runs"

    def run(self) -> dict[str, Any]:
        """Run everything that has no result yet; returns the content of result.json."""
        self.runs.mkdir(parents=True, exist_ok=True)
        write_json(self.folder / "race.json", plain_race(self.config))
        chosen = self._search()
        write_json(self.folder / "search.json", chosen)
        steps = self._jobs(chosen, "steps")
        run_all(steps.values(), self.config.processes, "equal environment steps", self.quiet)
        seconds = self._jobs(chosen, "seconds")
        run_all(seconds.values(), self.config.processes, "equal time", self.quiet)
        found = self._references()
        result = report(self.config, chosen, _results(steps), _results(seconds), found, self.folder)
        if not self.quiet:
            print((self.folder / "table.md").read_text(encoding="utf-8"))
            print(f"table, curves and every run: {self.folder}")
        return result

    def _job(self, path: str, entry: EntryConfig, settings: dict[str, Any], seed: int, **values: Any) -> Job:
        config = self.config
        common: dict[str, Any] = {
            "total_steps": config.total_steps, "max_seconds": config.max_seconds, "evaluations": config.evaluations,
            "documents": config.documents, "temperature": config.temperature,
        }  # fmt: skip
        return Job(
            path=self.runs / f"{path}.json", algorithm=entry.algorithm, settings=settings, env=config.env, seed=seed,
            device=config.device, threads=config.threads, episodes=config.episodes, **{**common, **values},
        )  # fmt: skip

    def _search(self) -> dict[str, dict[str, Any]]:
        """The best settings of each entry, and the scores of all trials."""
        config, share = self.config, self.config.search_share
        budget = {
            "total_steps": max(1, round(share * config.total_steps)), "max_seconds": share * config.max_seconds,
            "evaluations": 3, "documents": 0,
        }  # fmt: skip
        jobs: dict[str, list[tuple[dict[str, Any], Job]]] = {}
        for name, entry in config.entries.items():
            jobs[name] = [
                (chosen, self._job(f"{name}--trial--{number}", entry, with_settings(entry.settings, chosen),
                                   SEARCH_SEED, **budget))
                for number, chosen in enumerate(draw_trials(entry))
            ]  # fmt: skip
        trials = [job for group in jobs.values() for _, job in group]
        run_all(trials, config.processes, "hyper-parameter search", self.quiet)
        found = {}
        for name, entry in config.entries.items():
            tried = [(_merit(job), chosen) for chosen, job in jobs[name]]
            _, best = max(tried, key=lambda trial: trial[0], default=(0.0, {}))
            found[name] = {
                "settings": with_settings(entry.settings, best),
                "tried": [{"chosen": chosen, "score": reached} for reached, chosen in tried],
            }
        return found

    def _jobs(self, chosen: dict[str, dict[str, Any]], leg: str) -> dict[tuple[str, int], Job]:
        jobs = {}
        for seed in range(self.config.seeds):
            for name, entry in self.config.entries.items():
                job = self._job(f"{name}--{leg}--{seed}", entry, chosen[name]["settings"], seed)
                if leg == "seconds":
                    # Our schedules can depend on time; those of other libraries depend on steps only.
                    own = is_ours(entry.algorithm)
                    job = dataclasses.replace(job, total_steps=LONG if own else self._steps_in_time(name, seed))
                jobs[name, seed] = job
        return jobs

    def _steps_in_time(self, name: str, seed: int) -> int:
        """Environment steps in `max_seconds` at the speed of the run at equal steps, for the libraries' schedules.

        A finished run keeps its number, because a new measurement of the speed would only repeat the same run.
        """
        done, path = (self.runs / f"{name}--{leg}--{seed}.json" for leg in ("seconds", "steps"))
        if done.exists():
            return int(json.loads(done.read_text(encoding="utf-8"))["job"]["total_steps"])
        rows = json.loads(path.read_text(encoding="utf-8"))["rows"]
        if not rows or not rows[-1]["env_steps"] or not rows[-1]["seconds"]:
            return LONG
        return max(1, round(rows[-1]["env_steps"] / rows[-1]["seconds"] * self.config.max_seconds))

    def _references(self) -> dict[str, Any]:
        path = self.folder / "references.json"
        of = [dataclasses.asdict(self.config.env), self.config.episodes, self.config.beams, self.config.temperature]
        wanted = json.loads(json.dumps(of))
        if path.exists():
            found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            if found["of"] == wanted:
                return found
        found = {"of": wanted, **references(self.config)}
        write_json(path, found)
        return found


def draw_trials(entry: EntryConfig) -> list[dict[str, Any]]:
    """The settings that a search tries: the entry's own, then random ones; empty without a search."""
    if entry.trials < 2:
        return []
    rng = np.random.default_rng(0)
    drawn: list[dict[str, Any]] = [{}]
    for _ in range(100 * entry.trials):  # a small grid may have fewer settings than trials
        if len(drawn) == entry.trials:
            break
        trial = {name: values[rng.integers(len(values))] for name, values in entry.search.items()}
        if trial not in drawn:
            drawn.append(trial)
    return drawn


def _merit(job: Job) -> float:
    """What a search maximises: minus the regret at the end of a trial; the greedy return where regret is unknown."""
    rows = (job.result() or {}).get("rows")
    if not rows:
        return -float("inf")
    regret = rows[-1]["regret"]
    return float(rows[-1]["greedy_return"]) if regret is None else -float(regret)


def _results(jobs: dict[tuple[str, int], Job]) -> dict[str, list[dict[str, Any]]]:
    """Results of each entry, in the order of seeds."""
    results: dict[str, list[dict[str, Any]]] = {}
    for (name, _), job in jobs.items():
        results.setdefault(name, []).append(job.result() or {"error": "no result", "rows": []})
    return results
