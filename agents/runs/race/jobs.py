"""The runs of a race, in parallel processes."""

from __future__ import annotations

import json
import time
import traceback
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm.auto import tqdm

from ....envs import EnvConfig, Split, World
from ....envs.text import write_json
from ....envs.text.files import read_json
from ...evaluation.evaluate import score_text
from ...evaluation.playing import play, short_of_optimum, started
from ...evaluation.scores import Scale
from ...protocol import BaseAgent
from ..algorithms import make
from ..processes import beside

GRACE = 4.0  # a run is killed after this multiple of its seconds, evaluations included, plus SETUP_SECONDS
SETUP_SECONDS = 300.0


@dataclass(frozen=True)
class Job:
    """One run of a race.

    Args:
        path: the JSON file of the result.
        algorithm: see `algorithms.algorithm`.
        settings: of the algorithm.
        env: the environment's arguments.
        seed: of all random numbers.
        device: of the agent.
        threads: CPU threads.
        total_steps: environment steps.
        max_seconds: training time.
        evaluations: see `RaceConfig`.
        episodes: episodes per evaluation.
        documents: held-out documents for the perplexity at the end; 0 for none.
        temperature: τ of the objective.
        split: documents whose prompts are played: "valid" for a trial of a search, "test" for the race.
    """

    path: Path
    algorithm: str
    settings: dict[str, Any]
    env: EnvConfig
    seed: int
    device: str
    threads: int
    total_steps: int
    max_seconds: float
    evaluations: int
    episodes: int
    documents: int
    temperature: float = 0.0
    split: Split = "valid"

    def result(self) -> dict[str, Any] | None:
        """The stored result, or None if there is none with the same settings."""
        if not self.path.exists():
            return None
        written: dict[str, Any] = read_json(self.path)
        return written if written["job"] == self._plain() else None

    def _plain(self) -> dict[str, Any]:
        values: dict[str, Any] = json.loads(json.dumps({**asdict(self), "path": self.path.name}))
        return values

    def fail(self, reason: str) -> None:
        """Write a result with an error."""
        write_json(self.path, {"job": self._plain(), "error": reason, "rows": []})

    def run(self) -> None:
        """Train, evaluate and write the result; an exception is written as an error."""
        torch.set_num_threads(self.threads)
        try:
            agent = make(self.algorithm, self.env, self.seed, self.device, **self.settings)
            result = _trained(agent, self)
        except Exception as error:  # an error in another library must not end the race
            traceback.print_exc()
            self.fail(f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"[:200])
            return
        write_json(self.path, {"job": self._plain(), "error": None, **result})


def _trained(agent: BaseAgent, job: Job) -> dict[str, Any]:
    """Train `agent` as the job says; its learning curve, final perplexity and greedy texts."""
    world, env = World.of(job.env), job.env
    held_out = replace(env, split=job.split)
    prefixes = started(world, held_out, job.episodes, 0).observe()
    scale = Scale.of(world, held_out, prefixes, job.temperature)
    rows: list[dict[str, Any]] = []

    def look() -> None:
        greedy = play(agent, world, held_out, job.episodes, 0, temperature=0.0)
        sampled = play(agent, world, held_out, job.episodes, 0, agent.temperature, job.temperature)
        regrets = sampled.regret if job.temperature > 0.0 else short_of_optimum(greedy, world, held_out)
        regret = float(regrets.mean())
        rows.append({
            "seconds": round(agent.learning_seconds, 3), "env_steps": agent.env_steps,
            "greedy_return": float(greedy.returns.mean()), "sampled_return": float(sampled.returns.mean()),
            "kl": float(sampled.kl.mean()) if agent.temperature else None,  # it is measured by log π
            "regret": None if np.isnan(regret) else regret, "score": None if np.isnan(regret) else scale.score(regret),
        })  # fmt: skip

    def after_step(_: Any) -> bool:
        if agent.progress >= (len(rows) / job.evaluations) ** 2:
            look()
        return True

    look()
    agent.train(job.total_steps, after_step, max_seconds=job.max_seconds)
    if rows[-1]["env_steps"] < agent.env_steps or rows[-1]["seconds"] < round(agent.learning_seconds, 3):
        look()
    measured = job.documents and agent.has_perplexity
    perplexity = score_text(agent, "test", job.documents, env=job.env).perplexity if measured else None
    texts = play(agent, world, held_out, min(3, job.episodes), 0, temperature=0.0).texts
    return {"rows": rows, "perplexity": perplexity, "greedy_texts": texts, "scale": asdict(scale)}


def run_all(jobs: Iterable[Job], processes: int, title: str, quiet: bool = False) -> None:
    """Run the jobs that have no result yet, `processes` of them in parallel.

    If a process dies or takes too long (see `GRACE`), its job has failed; the others continue.
    """
    waiting = [job for job in jobs if job.result() is None]
    running: list[tuple[Job, BaseProcess, float]] = []
    with tqdm(total=len(waiting), desc=title, unit="run", disable=quiet or not waiting, dynamic_ncols=True) as bar:
        try:
            while waiting or running:
                while waiting and len(running) < processes:
                    process = beside(waiting[0].run)
                    process.start()
                    running.append((waiting.pop(0), process, time.perf_counter()))
                time.sleep(0.1)
                for job, process, began in list(running):
                    late = time.perf_counter() - began > GRACE * job.max_seconds + SETUP_SECONDS
                    if process.is_alive() and not late:
                        continue
                    process.kill()
                    process.join()
                    running.remove((job, process, began))
                    if job.result() is None:
                        job.fail("took too long" if late else f"ended with exit code {process.exitcode}")
                    bar.update()
        finally:
            for _, process, _ in running:
                process.kill()
