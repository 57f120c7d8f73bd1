"""A training run: learn, evaluate, write everything down, go on after an interruption."""

from __future__ import annotations

import copy
import dataclasses
import json
from pathlib import Path
from typing import Any

import torch
import yaml
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from ..envs.text import write_text_atomically
from . import checkpoints, reports
from .baselines.maximum_likelihood import MaximumLikelihood
from .configuration import RunConfig, run_config_of
from .dqn.agent import DQN
from .evaluation import evaluate, play, reference_returns, score_text
from .memory import memory_text

STATE = "state.pt"
BASELINE_CHECKS = 12  # evaluations of the maximum-likelihood baseline
SHARP = 0.5  # temperature at which samples show the policy's favourites


class Run:
    """A run folder and the training that fills it.

    The folder holds config.yaml, results.jsonl (a line for each evaluation), TensorBoard events, curves.png,
    samples.txt, summary.json, weights.safetensors, agent.json, tokenizer/ and, until the run is done, state.pt,
    from which the same command goes on, bit for bit on the CPU, as it was at its last evaluation.

    Args:
        config: what to train and how long.
        quiet: no progress line.
    """

    def __init__(self, config: RunConfig, quiet: bool = False) -> None:
        self.config = config
        self.quiet = quiet
        if config.threads is not None:
            torch.set_num_threads(config.threads)
        self.folder, self.resumes = _folder(config)
        kind = MaximumLikelihood if config.agent.loss == "cross_entropy" else DQN
        self.agent = kind(config.env, config.agent, seed=config.seed, device=config.device)
        self.rows: list[dict[str, Any]] = []
        self.baseline: list[dict[str, Any]] = []
        self.before: list[str] = []
        self.references: dict[str, float | None] = {}

    def train(self) -> dict[str, Any]:
        """Train to the end and return the summary, which is also written to summary.json."""
        self.folder.mkdir(parents=True, exist_ok=True)
        text = yaml.safe_dump(plain(self.config), allow_unicode=True, sort_keys=False)
        write_text_atomically(self.folder / "config.yaml", text)
        self._open()
        self._learn()
        wants_baseline = self.config.baseline_seconds > 0 and self.config.agent.loss != "cross_entropy"
        summary = self._summarise(self._train_baseline() if wants_baseline else None)
        (self.folder / STATE).unlink(missing_ok=True)
        return summary

    def _open(self) -> None:
        world = self.agent.world
        if world is None:
            raise ValueError("a run needs an environment to train in")
        if self.resumes:
            saved = checkpoints.load_state(self.folder / STATE)
            self.agent.load_state_dict(saved["agent"])
            self.rows, self.before, self.references = saved["rows"], saved["before"], saved["references"]
            # Evaluations after the last checkpoint are made again.
            lines = "".join(json.dumps(row) + "\n" for row in self.rows)
            write_text_atomically(self.folder / "results.jsonl", lines)
            return
        (self.folder / "results.jsonl").unlink(missing_ok=True)
        held_out = dataclasses.replace(self.config.env, split="valid")
        if not self.quiet:
            print(memory_text(self.agent))
        self.references = reference_returns(world, held_out, self.config.evaluation_episodes, self.config.seed)
        self.before = self._samples()

    def _learn(self) -> None:
        config, agent = self.config, self.agent
        share = 1.0 / max(1, config.evaluations)
        due = [share * len(self.rows)]
        first = agent.num_steps
        with (
            SummaryWriter(str(self.folder / "tensorboard")) as board,
            tqdm(total=config.total_steps, initial=first, unit="step", unit_scale=True, disable=self.quiet,
                 dynamic_ncols=True, mininterval=0.5) as bar,
        ):  # fmt: skip

            def after_step(agent: DQN) -> bool:
                bar.update(min(agent.num_steps, config.total_steps) - bar.n)
                if agent.progress >= due[0] - 1e-9:
                    due[0] += share
                    row = self._evaluate(board)
                    bar.set_postfix_str(_postfix(row), refresh=True)
                    if agent.progress < 1.0:
                        self._checkpoint()
                return True

            if not self.rows:
                self._evaluate(board)
                self._checkpoint()
                due[0] = share
            agent.learn(config.total_steps, after_step, resume=self.resumes, max_seconds=config.max_seconds)
            if self.rows[-1]["num_steps"] < agent.num_steps:
                self._evaluate(board)

    def _evaluate(self, board: SummaryWriter) -> dict[str, Any]:
        with self.agent.stopwatch.time("evaluation"):
            figures = self._figures()
        shares = {f"time_{part}": share for part, share in self.agent.stopwatch.shares().items()}
        row = {**figures, **shares}
        self.rows.append(row)
        with (self.folder / "results.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        for name, value in row.items():
            if isinstance(value, (int, float)):
                board.add_scalar(f"tokenlm/{name}", value, self.agent.num_steps)
        board.flush()
        return row

    def _figures(self) -> dict[str, Any]:
        agent, config = self.agent, self.config
        score = score_text(agent, "valid", config.evaluation_documents)
        held_out = dataclasses.replace(config.env, split="valid")
        arguments = (agent.world, held_out, config.evaluation_episodes, config.seed)
        greedy = play(agent, *arguments, temperature=0.0)  # type: ignore[arg-type]
        sampled = play(agent, *arguments, temperature=agent.temperature)  # type: ignore[arg-type]
        seconds = agent.learning_seconds
        return {
            "num_steps": agent.num_steps,
            "env_steps": agent.env_steps,
            "updates": agent.learner.updates,
            "transitions_trained": agent.learner.transitions_trained,
            "wall_seconds": round(seconds, 3),
            "transitions_per_second": round(agent.learner.transitions_trained / seconds) if seconds else 0,
            "temperature": agent.temperature,
            "perplexity": score.perplexity,
            "target_perplexity": score.target_perplexity,
            "bits_per_character": score.bits_per_character,
            "sampled_return": float(sampled.returns.mean()),
            "greedy_return": float(greedy.returns.mean()),
            "kl_to_target": float(sampled.kl.mean()),
            "training_return": agent.collector.mean_return
            if agent.collector and agent.collector.recent_returns
            else None,
            **{name: float(value) for name, value in agent.last_metrics.items()},
        }

    def _checkpoint(self) -> None:
        state = {
            "agent": self.agent.state_dict(),
            "rows": self.rows,
            "before": self.before,
            "references": self.references,
        }
        checkpoints.save_state(state, self.folder / STATE)

    def _train_baseline(self) -> float | None:
        """Test perplexity of maximum likelihood on the same network, as it was when its validation one was best."""
        config, limit = self.config, self.config.baseline_seconds
        baseline = MaximumLikelihood(config.env, config.agent, seed=config.seed, device=config.device)
        best, best_weights = float("inf"), baseline.network.state_dict()
        with tqdm(
            total=round(limit), unit="s", desc="maximum likelihood", disable=self.quiet, dynamic_ncols=True
        ) as bar:

            def after_step(agent: DQN) -> bool:
                nonlocal best, best_weights
                if agent.learning_seconds < len(self.baseline) * limit / BASELINE_CHECKS:
                    return True
                perplexity = score_text(agent, "valid", config.evaluation_documents).perplexity or float("inf")
                trained = agent.learner.transitions_trained
                row = {"wall_seconds": agent.learning_seconds, "transitions_trained": trained, "perplexity": perplexity}
                self.baseline.append(row)
                bar.set_postfix(perplexity=f"{perplexity:.1f}", refresh=False)
                bar.update(min(round(limit), round(agent.learning_seconds)) - bar.n)
                if perplexity < best:
                    best, best_weights = perplexity, copy.deepcopy(agent.network.state_dict())
                # Once it overfits for good, more time would only blur the picture.
                return perplexity < 1.2 * best

            baseline.learn(2**62, after_step, max_seconds=limit)
        baseline.network.load_state_dict(best_weights)
        return score_text(baseline, "test").perplexity

    def _samples(self, temperature: float | None = None) -> list[str]:
        return self.agent.generate("", self.config.samples, temperature=temperature, seed=self.config.seed)

    def _summarise(self, baseline_perplexity: float | None) -> dict[str, Any]:
        agent = self.agent
        summary = evaluate(agent, split="test", episodes=self.config.evaluation_episodes, seed=self.config.seed)
        summary["baseline_perplexity"] = baseline_perplexity
        agent.save(self.folder)
        checkpoints.write_json(self.folder / "summary.json", summary)
        samples = {
            "before training": self.before,
            f"after training, the policy itself (temperature {agent.temperature:g})": self._samples(),
            f"after training, sharpened (temperature {SHARP:g})": self._samples(SHARP),
        }
        text = "\n\n".join("\n".join([title, *texts]) for title, texts in samples.items()) + "\n"
        write_text_atomically(self.folder / "samples.txt", text)
        reports.plot_curves(self.rows, self.baseline, self.references, self.folder / "curves.png")
        if not self.quiet:
            print(reports.summary_text(summary, samples, self.folder))
        return summary


def load_run(folder: str | Path, device: str = "auto", with_env: bool = True) -> tuple[DQN, RunConfig]:
    """The trained agent of a run folder and the configuration it was trained with."""
    folder = Path(folder)
    if not (folder / "config.yaml").exists():
        raise FileNotFoundError(f"{folder} is no run folder (no config.yaml); give one that `tokenlm train` wrote")
    config = run_config_of(yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8")))
    kind = MaximumLikelihood if config.agent.loss == "cross_entropy" else DQN
    return kind.load(folder, config.env if with_env else None, device), config


def _folder(config: RunConfig) -> tuple[Path, bool]:
    """Where the run goes and whether it continues one: never over a finished run or one with other settings."""
    base = Path(config.output) / config.name
    for number in range(1, 10_000):
        folder = base if number == 1 else base.with_name(f"{base.name}-{number}")
        if not folder.exists() or not any(folder.iterdir()):
            return folder, False
        written = folder / "config.yaml"
        if written.exists() and not (folder / "summary.json").exists():
            saved = yaml.safe_load(written.read_text(encoding="utf-8"))
            if saved == plain(config):
                return folder, (folder / STATE).exists()
    raise ValueError(f"{base} and 10,000 numbered folders beside it are taken; choose another --name")


def _postfix(row: dict[str, Any]) -> str:
    perplexity = row["perplexity"]
    parts = [
        f"return {row['sampled_return']:.1f}",
        f"perplexity {perplexity:.1f} (p* {row['target_perplexity']:.1f})" if perplexity else "",
        f"{row['transitions_per_second'] / 1000:.0f}k transitions/s",
    ]
    return ", ".join(p for p in parts if p)


def plain(config: RunConfig) -> dict[str, Any]:
    """The configuration as YAML and JSON know it: dicts, lists, numbers and text."""
    values: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(config)))
    return values
