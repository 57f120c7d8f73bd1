"""`Race`: hyperparameter search, runs, references and report. An interrupted race can be continued."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from ....envs import EnvConfig
from ....envs.text import write_json
from ....envs.text.files import read_json
from ..algorithms import is_ours
from ..output import say
from ..search.config import SEED
from .config import EntryConfig, RaceConfig, plain_race
from .estimate import PACE_SECONDS, estimate
from .jobs import Job, run_all
from .machine import BUSY, note_start
from .references import references
from .report import report
from .search import search

LONG = 1 << 40  # environment steps of a run that only time limits
Runs = dict[tuple[str, int, int], Job]  # by entry, target seed and seed


class Race:
    """A race and its folder.

    The folder has race.json (the configuration), runs/ (a JSON file for every finished run, which is not repeated),
    search.json (settings found by the search), references.json, machine.json (its load at every start), and the report:
    table.md, result.json, result.csv, runs.csv, curves.png.

    Args:
        config: settings of the race.
        quiet: no progress bars and no output.
    """

    def __init__(self, config: RaceConfig, quiet: bool = False) -> None:
        self.config = config
        self.quiet = quiet
        self.folder = Path(config.output) / (f"{config.name}-defaults" if config.defaults else config.name)
        self.runs = self.folder / "runs"

    def run(self) -> dict[str, Any]:
        """Run everything that has no result yet; returns the content of result.json."""
        self.runs.mkdir(parents=True, exist_ok=True)
        write_json(self.folder / "race.json", plain_race(self.config))
        machine = note_start(self.folder / "machine.json")
        if not self.quiet and machine["busy"]:
            say(
                f"this machine is not idle (load above {BUSY:g} at a start): times are not to be trusted, "
                "nor what depends on them"
            )
        if not self.quiet:
            say(estimate(self.config, [path.stem for path in self.runs.glob("*.json")]))
        chosen = search(self.config, self._job, self.quiet)
        write_json(self.folder / "search.json", chosen)
        done: dict[str, Runs] = {}
        for leg, title in (("steps", "equal environment steps"), ("seconds", "equal time")):
            if leg in self.config.legs:
                if leg == "seconds" and "steps" not in done:
                    run_all(self._pace_jobs(chosen).values(), self.config.processes, "speed", self.quiet)
                done[leg] = self._jobs(chosen, leg)
                run_all(done[leg].values(), self.config.processes, title, self.quiet)
        results = {leg: _results(jobs) for leg, jobs in done.items()}
        result = report(self.config, chosen, results, self._references(), machine, self.folder)
        if not self.quiet:
            say((self.folder / "table.md").read_text(encoding="utf-8"))
            say(f"table, curves and every run: {self.folder}")
        return result

    def _job(
        self, path: str, entry: EntryConfig, settings: dict[str, Any], seed: int, world: int, **values: Any
    ) -> Job:
        config = self.config
        common: dict[str, Any] = {
            "total_steps": config.total_steps, "max_seconds": config.max_seconds, "evaluations": config.evaluations,
            "documents": config.documents, "temperature": config.temperature, "split": "test",
        }  # fmt: skip
        return Job(
            path=self.runs / f"{path}.json", algorithm=entry.algorithm, settings=settings, env=self._env(world),
            seed=seed, device=config.device, threads=config.threads, episodes=config.episodes, **{**common, **values},
        )  # fmt: skip

    def _env(self, world: int) -> EnvConfig:
        return dataclasses.replace(self.config.env, target_seed=world)

    def _jobs(self, chosen: dict[str, dict[str, Any]], leg: str) -> Runs:
        jobs = {}
        for world in self.config.raced_worlds:
            for seed in range(self.config.seeds):
                for name, entry in self.config.entries.items():
                    job = self._job(f"{name}--{leg}--{world}--{seed}", entry, chosen[name]["settings"], seed, world)
                    if leg == "seconds":
                        # Our schedules can depend on time; those of other libraries depend on steps only.
                        steps = LONG if is_ours(entry.algorithm) else self._steps_in_time(name, world, seed)
                        job = dataclasses.replace(job, total_steps=steps)
                    jobs[name, world, seed] = job
        return jobs

    def _pace_jobs(self, chosen: dict[str, dict[str, Any]]) -> dict[str, Job]:
        """Short runs that measure the speed of other libraries' entries, where there is no leg by steps to tell it."""
        seconds = min(PACE_SECONDS, self.config.max_seconds)
        budget: dict[str, Any] = {"total_steps": LONG, "max_seconds": seconds, "evaluations": 1, "documents": 0}
        world = self.config.searched_worlds[0]
        return {
            name: self._job(f"{name}--pace", entry, chosen[name]["settings"], SEED, world, split="valid", **budget)
            for name, entry in self.config.entries.items()
            if not is_ours(entry.algorithm)
        }

    def _steps_in_time(self, name: str, world: int, seed: int) -> int:
        """Environment steps in `max_seconds` at the speed of the run at equal steps, for the libraries' schedules.

        A finished run keeps its number, because a new measurement of the speed would only repeat the same run.
        """
        done, path = (self.runs / f"{name}--{leg}--{world}--{seed}.json" for leg in ("seconds", "steps"))
        if done.exists():
            return int(read_json(done)["job"]["total_steps"])
        if "steps" not in self.config.legs:
            path = self.runs / f"{name}--pace.json"
        rows = read_json(path)["rows"]
        if not rows or not rows[-1]["env_steps"] or not rows[-1]["seconds"]:
            return LONG
        return max(1, round(rows[-1]["env_steps"] / rows[-1]["seconds"] * self.config.max_seconds))

    def _references(self) -> dict[str, Any]:
        path, config = self.folder / "references.json", self.config
        of = [dataclasses.asdict(config.env), config.raced_worlds, config.episodes, config.beams, config.temperature]
        wanted = json.loads(json.dumps(of))
        if path.exists():
            found: dict[str, Any] = read_json(path)
            if found["of"] == wanted:
                return found
        found = {"of": wanted, **references(config)}
        write_json(path, found)
        return found


def _results(jobs: Runs) -> dict[str, list[dict[str, Any]]]:
    """Results of each entry, world by world, each in the order of seeds."""
    results: dict[str, list[dict[str, Any]]] = {}
    for (name, _, _), job in jobs.items():
        results.setdefault(name, []).append(job.result() or {"error": "no result", "rows": []})
    return results
