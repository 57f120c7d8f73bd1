"""A training run: learn, evaluate, write everything down, go on after an interruption."""

from __future__ import annotations

import copy
import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from ...envs import World
from ...envs.text import write_atomically, write_json, write_text_atomically
from ..dqn.config import AgentConfig
from ..evaluation.evaluate import evaluate, play, reference_returns, score_text
from ..evaluation.tasks import task_figures
from ..protocol import BaseAgent
from . import report as reports
from .algorithms import load, make, make_learner
from .config import RunConfig, run_config_of

STATE = "state.pt"
BASELINE_CHECKS = 12  # evaluations of the maximum-likelihood baseline
SHARP = 0.5  # temperature of the sharpened samples


class Run:
    """A run folder and the training that fills it.

    The folder holds config.yaml, results.jsonl (a line for each evaluation), TensorBoard events, curves.png,
    samples.txt, summary.json, weights.safetensors, agent.json, tokenizer/ and, until the run is done, state.pt: the
    same command continues from the last evaluation, bit for bit on the CPU. Runs of other libraries' algorithms cannot
    be continued: an interrupted one begins anew.

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
        self.agent = make_agent(config)
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
        wants_baseline = self.config.baseline_seconds > 0 and not self.config.agent.rule.maximum_likelihood
        summary = self._summarise(self._train_baseline() if wants_baseline else None)
        (self.folder / STATE).unlink(missing_ok=True)
        return summary

    def _open(self) -> None:
        if self.resumes and self.agent.resumable:
            saved = load_state(self.folder / STATE)
            self.agent.load_state_dict(saved["agent"])
            self.rows, self.before, self.references = saved["rows"], saved["before"], saved["references"]
            # Evaluations after the last checkpoint are made again.
            lines = "".join(json.dumps(row) + "\n" for row in self.rows)
            write_text_atomically(self.folder / "results.jsonl", lines)
            return
        (self.folder / "results.jsonl").unlink(missing_ok=True)
        held_out = dataclasses.replace(self.config.env, split="valid")
        if not self.quiet and (messages := self.agent.messages()):
            print(*messages, sep="\n")
        self.references = reference_returns(
            World.of(self.config.env), held_out, self.config.evaluation_episodes, self.config.seed
        )
        self.before = self._samples()

    def _learn(self) -> None:
        config, agent = self.config, self.agent
        share = 1.0 / max(1, config.evaluations)
        due = share * len(self.rows)
        with (
            SummaryWriter(str(self.folder / "tensorboard")) as board,
            tqdm(total=config.total_steps, initial=agent.num_steps, unit="step", unit_scale=True, disable=self.quiet,
                 dynamic_ncols=True, mininterval=0.5) as bar,
        ):  # fmt: skip

            def after_step(_: Any) -> bool:
                nonlocal due
                bar.update(min(agent.num_steps, config.total_steps) - bar.n)
                if agent.progress >= due - 1e-9:
                    due += share
                    row = self._evaluate(board)
                    bar.set_postfix_str(_postfix(row), refresh=True)
                    if agent.progress < 1.0:
                        self._checkpoint()
                return True

            if not self.rows:
                self._evaluate(board)
                self._checkpoint()
                due = share
            resume = self.resumes and agent.resumable
            agent.train(config.total_steps, after_step, resume=resume, max_seconds=config.max_seconds)
            if self.rows[-1]["num_steps"] < agent.num_steps:
                self._evaluate(board)

    def _evaluate(self, board: SummaryWriter) -> dict[str, Any]:
        row = self._figures()
        self.rows.append(row)
        with (self.folder / "results.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        for name, value in row.items():
            if isinstance(value, (int, float)):
                board.add_scalar(f"tokenlm/{name}", value, self.agent.num_steps)
        board.flush()
        return row

    def _figures(self) -> dict[str, Any]:
        with self.agent.evaluating():
            figures = self._policy_figures()
        return {**figures, **self.agent.figures()}

    def _policy_figures(self) -> dict[str, Any]:
        """What is measured of the agents of all algorithms alike."""
        agent, config = self.agent, self.config
        world = World.of(config.env)
        score = score_text(agent, "valid", config.evaluation_documents, env=config.env)
        arguments = (world, dataclasses.replace(config.env, split="valid"), config.evaluation_episodes, config.seed)
        greedy = play(agent, *arguments, temperature=0.0)
        sampled = play(agent, *arguments, temperature=agent.temperature)
        seconds = agent.learning_seconds
        of_task: dict[str, Any] = {}
        if config.env.has_pairs:
            of_task = task_figures(agent, world, config.env, "valid", config.evaluation_documents, config.seed)
            of_task.pop("confusion", None)  # a table at every evaluation is too much
        return {
            "num_steps": self.agent.num_steps,
            "env_steps": agent.env_steps,
            "wall_seconds": round(seconds, 3),
            "env_steps_per_second": round(agent.env_steps / seconds) if seconds else 0,
            "perplexity": score.perplexity,
            "target_perplexity": score.target_perplexity,
            "bits_per_character": score.bits_per_character,
            "sampled_return": float(sampled.returns.mean()),
            "greedy_return": float(greedy.returns.mean()),
            "kl_to_target": None if np.isnan(sampled.kl).any() else float(sampled.kl.mean()),
            **of_task,
        }

    def _checkpoint(self) -> None:
        if not self.agent.resumable:
            return
        state = {
            "agent": self.agent.state_dict(),
            "rows": self.rows,
            "before": self.before,
            "references": self.references,
        }
        save_state(state, self.folder / STATE)

    def _train_baseline(self) -> float | None:
        """Test perplexity of maximum likelihood on the same network, as it was when its validation one was best."""
        config, limit = self.config, self.config.baseline_seconds
        learner = config.agent
        if "network" in config.algorithm_settings:
            learner = AgentConfig.of(learner, {"network": config.algorithm_settings["network"]})
        baseline: Any = make("maximum-likelihood", config.env, config.seed, config.device, config=learner)
        best, best_weights = float("inf"), baseline.policy_network.state_dict()
        with tqdm(
            total=round(limit), unit="s", desc="maximum likelihood", disable=self.quiet, dynamic_ncols=True
        ) as bar:

            def after_step(agent: Any) -> bool:
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
                    best, best_weights = perplexity, copy.deepcopy(agent.policy_network.state_dict())
                # Once it overfits for good, more time would only blur the picture.
                return perplexity < 1.2 * best

            baseline.train(2**62, after_step, max_seconds=limit)
        baseline.policy_network.load_state_dict(best_weights)
        return score_text(baseline, "test").perplexity

    def _samples(self, temperature: float | None = None) -> list[str]:
        # A task of pairs asks something; without it every text begins at its beginning.
        sources = [source for source, _ in World.of(self.config.env).pairs["valid"][: self.config.samples]]
        prompts, count = (sources, 1) if sources else ([""], self.config.samples)
        texts = self.agent.generate(prompts, count, temperature=temperature, seed=self.config.seed)
        return [f"{source} → {text}" for source, text in zip(sources, texts, strict=True)] if sources else texts

    def _summarise(self, baseline_perplexity: float | None) -> dict[str, Any]:
        agent, config = self.agent, self.config
        episodes, seed = config.evaluation_episodes, config.seed
        summary = evaluate(agent, env=config.env, split="test", episodes=episodes, seed=seed)
        summary["baseline_perplexity"] = baseline_perplexity
        agent.save(self.folder)
        write_json(self.folder / "summary.json", summary)
        samples = {"before training": self.before}
        if agent.has_temperature:
            samples[f"after training, the policy itself (temperature {agent.temperature:g})"] = self._samples()
            samples[f"after training, sharpened (temperature {SHARP:g})"] = self._samples(SHARP)
        else:
            samples["after training, the policy itself"] = self._samples()
            samples["after training, greedy"] = self._samples(0.0)[:1]
        text = "\n\n".join("\n".join([title, *texts]) for title, texts in samples.items()) + "\n"
        write_text_atomically(self.folder / "samples.txt", text)
        reports.plot_curves(self.rows, self.baseline, self.references, self.folder / "curves.png")
        reports.plot_labels(summary, self.folder)
        if not self.quiet:
            print(reports.summary_text(summary, samples, self.folder))
        return summary


def make_agent(config: RunConfig) -> BaseAgent:
    """The agent of a run, before training."""
    if config.algorithm == "dqn":
        return make_learner(config.env, config.agent, config.seed, config.device)
    return make(config.algorithm, config.env, config.seed, config.device, **config.algorithm_settings)


def load_run(folder: str | Path, device: str = "auto", with_env: bool = True) -> tuple[Any, RunConfig]:
    """The trained agent of a run folder and the configuration it was trained with."""
    folder = Path(folder)
    if not (folder / "config.yaml").exists():
        raise FileNotFoundError(f"{folder} is no run folder (no config.yaml); give one that `tokenlm train` wrote")
    config = run_config_of(yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8")))
    ours = config.algorithm == "dqn"
    env = config.env if with_env or not ours else None
    return load(config.algorithm, folder, env, device, config.agent if ours else None), config


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
        f"{row['transitions_per_second'] / 1000:.0f}k transitions/s" if "transitions_per_second" in row else "",
    ]
    return ", ".join(p for p in parts if p)


def plain(config: RunConfig) -> dict[str, Any]:
    """The configuration as YAML and JSON know it: dicts, lists, numbers and text."""
    values: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(config)))
    return values


def save_state(state: dict[str, Any], path: Path) -> None:
    """A `state_dict` of tensors, arrays, numbers, lists and dicts, readable with weights_only=True."""
    write_atomically(path, lambda p: torch.save(_plain(state), p))


def load_state(path: Path) -> dict[str, Any]:
    """What `save_state` wrote."""
    state: dict[str, Any] = torch.load(path, weights_only=True, map_location="cpu")
    return state


def _plain(value: Any) -> Any:
    """NumPy arrays as tensors: the safe unpickler knows no others."""
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    return (
        torch.from_numpy(value)
        if type(value).__module__ == "numpy" and hasattr(value, "shape") and value.shape
        else value
    )
