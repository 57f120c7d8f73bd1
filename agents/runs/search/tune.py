"""`Tune`: a search of settings and its folder. The same command goes on with it after a kill."""

from __future__ import annotations

import dataclasses
import multiprocessing
import os
import time
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout

from ..config import plain
from ..output import progress_line, say
from ..processes import beside
from .config import TuneConfig, settings_of
from .report import best_trial, write_report
from .study import REASON, check_same, fail_killed, finished, new_study
from .trial import run_trial

STUDY = "study.db"
_NOT_TRAINED = ("name", "output", "checkpoint_seconds", "samples", "baseline_seconds", "device", "threads", "continues")


class Tune:
    """A search and its folder, `output`/`name`-tune.

    The folder has study.db (Optuna's storage, SQLite), and at the end trials.csv, importance.png, slices.png and
    best.yaml: the whole configuration with the best settings, which `tokenlm train` takes.

    Args:
        config: of the search.
        quiet: print nothing.
    """

    def __init__(self, config: TuneConfig, quiet: bool = False) -> None:
        self.config = config = dataclasses.replace(config, space=config.space.holding(settings_of(config.run)))
        self.quiet = quiet
        self.folder = Path(config.run.output) / f"{config.run.name}-tune"

    def run(self) -> dict[str, Any]:
        """Try what is left to try, then write the report; returns the best settings.

        Raises ValueError for another search in the folder, or where every trial failed; OSError where a worker died.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.folder / ".lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise ValueError(
                f"{self.folder} belongs to a running search; wait for it, or choose another --name"
            ) from None
        try:
            study = self._study()
            check_same(study, self._what(), self.folder)
            killed = fail_killed(study)
            before = finished(study)
            if not self.quiet and (before or killed):
                say(f"going on with {self.folder}: {before} of {self.config.trials} trials are done")
            with progress_line(
                self.quiet, total=self.config.trials, initial=before, unit="trial", unit_scale=False
            ) as bar:
                if self.config.workers == 1:
                    self._alone(study, bar)
                else:
                    self._side_by_side(study, bar)
            if best_trial(study) is None:
                reasons = [t.user_attrs[REASON] for t in study.trials if REASON in t.user_attrs]
                raise ValueError(f"no trial of {self.folder} has a value; {reasons[-1] if reasons else 'all diverged'}")
            text, best = write_report(study, self.config, self.folder)
        finally:
            lock.release()
        if not self.quiet:
            say(text)
        return best

    def _study(self) -> Any:
        config = self.config
        first = settings_of(config.run)
        return new_study(config.space, first, config.trials, self.folder / STUDY, prunes=config.prune)

    def _what(self) -> dict[str, Any]:
        """What makes two searches the same; more trials of the same go on."""
        run = {name: value for name, value in plain(self.config.run).items() if name not in _NOT_TRAINED}
        parts = {name: repr(part) for name, part in self.config.space.parts.items()}
        return {**run, "space": parts, "share": self.config.share, "worlds": list(self.config.worlds)}

    def _alone(self, study: Any, bar: Any) -> None:
        if self.config.run.threads is not None:
            torch.set_num_threads(self.config.run.threads)
        while finished(study) < self.config.trials:
            run_trial(study, self.config)
            _show(study, bar)

    def _side_by_side(self, study: Any, bar: Any) -> None:
        left = max(0, self.config.trials - finished(study))
        tickets = multiprocessing.get_context("spawn").Value("i", left)
        workers = [
            beside(_work, self.config, self.folder, tickets, number) for number in range(min(self.config.workers, left))
        ]
        try:
            for worker in workers:
                worker.start()
            while any(worker.is_alive() for worker in workers):
                time.sleep(0.5)
                _show(study, bar)
        finally:
            for worker in workers:
                if worker.is_alive():
                    worker.kill()
        _show(study, bar)
        if died := [worker.exitcode for worker in workers if worker.exitcode]:
            raise OSError(f"a worker ended with exit code {died[0]}; the same command goes on")


def _work(config: TuneConfig, folder: Path, tickets: Any, worker: int) -> None:
    """Run trials while there are tickets."""
    torch.set_num_threads(config.run.threads or max(1, (os.cpu_count() or 1) // config.workers))
    study = new_study(config.space, {}, config.trials, folder / STUDY, prunes=config.prune)
    while True:
        with tickets.get_lock():
            if tickets.value <= 0:
                return
            tickets.value -= 1
        run_trial(study, config, worker)


def _show(study: Any, bar: Any) -> None:
    done = finished(study)
    if done > bar.n:
        bar.update(done - bar.n)
        if (best := best_trial(study)) is not None:
            bar.set_postfix_str(f"best: trial {best.number}", refresh=True)
