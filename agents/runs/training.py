"""A training run: learn, evaluate, write everything down, go on after an interruption."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import time
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...envs import EnvConfig, UnknownWords, Vocabulary, World, named_files, notices
from ...envs.text import write_text_atomically
from ...envs.text.digests import check_digests, write_digests
from ...envs.text.files import finite, json_text, read_json
from ...envs.text.yaml_files import read_mapping
from ..devices import is_out_of_memory
from ..dqn.format_1 import is_format_1
from ..dqn.ranks import ranks
from ..evaluation.evaluate import evaluate, reference_returns
from ..protocol import BaseAgent, NotFinite
from . import report as reports
from .algorithms import load
from .board import Board
from .checkpoints import write_tensors
from .config import RunConfig, plain, run_config_of
from .continuing import place_notice
from .figures import make_agent, objective_of, validation_figures
from .folder import CONFIG, RESULTS, SUMMARY, RunFolder
from .interruption import Interrupted, Interruption, watched
from .likelihood import FOLDER as LIKELIHOOD
from .likelihood import baseline_figures, train_baseline, wants_baseline
from .listing import flat
from .output import fill_standard_streams, note, progress_line, say
from .ranks import Word, begin_where_it_ended, follow, joined, leading, of_this_rank, tell
from .selection import best_row
from .share.trackers import tracked
from .table import comma_separated

SHARP = 0.5  # temperature of the sharpened samples
BEST = "best"  # folder of the agent as it was at its best evaluation


class Run:
    """A run folder and the training that fills it.

    The folder holds config.yaml, results.jsonl (a line for each evaluation), results.csv (the same), TensorBoard
    events, curves.png, samples.txt, weights.safetensors, agent.json, tokenizer/, best/ (the agent at its best
    evaluation; see `merit`), maximum-likelihood/ (what it is compared with), digests.json and, last of all,
    summary.json. The weights are the best ones, not the last.
    Until then it holds the newest two checkpoints, and the same command continues from them, bit for bit on the CPU.
    Runs of other libraries' algorithms cannot be continued: an interrupted one begins anew.

    Args:
        config: what to train and how long.
        quiet: print nothing.
    """

    def __init__(self, config: RunConfig, quiet: bool = False) -> None:
        self.config = config
        self.quiet = quiet
        fill_standard_streams()
        if config.threads is not None:
            torch.set_num_threads(config.threads)
        self.place = RunFolder(config)
        self.folder = self.place.path
        if found := place_notice(config, self.folder):
            self._say(found)
        self.ranks = ranks()
        self.agent = make_agent(of_this_rank(config))
        self.rows: list[dict[str, Any]] = []
        self.baseline: list[dict[str, Any]] = []
        self.before: list[str] = []
        self.references: dict[str, float | None] = {}
        self._best: dict[str, Tensor] | None = None  # weights of the best evaluation
        self._saved_at = time.monotonic()
        self._interruption = Interruption()

    @property
    def resumes(self) -> bool:
        """Whether it continues from a checkpoint."""
        return self.place.continues and self.agent.resumable

    def train(self) -> dict[str, Any]:
        """Train to the end and return the summary, which is also written to summary.json.

        Raises Interrupted after SIGTERM or Ctrl-C, with a checkpoint written; NotFinite where a loss, reward or weight
        is not a number, with the batch saved beside; OSError for a full disk or memory.
        """
        with self.place.held(), watched() as self._interruption, contextlib.ExitStack() as parts:
            if self.place.finished:  # it was killed between its summary and the end
                summary: dict[str, Any] = read_json(self.folder / SUMMARY)
                self.place.checkpoints.remove()
                self._say(f"{self.folder} was finished already")
                if self.ranks is not None:
                    self.ranks.told(None)
                return summary
            self.place.write_config()
            resumed = self._open()
            settings = flat(plain(self.config))
            self._track = parts.enter_context(
                tracked(self.config.track, self.folder, self.folder.name, settings, self._say)
            )
            try:
                with leading(self.ranks, self.folder, resumed):
                    self._learn(resumed)
                self.ranks = None  # the others have ended
                summary = self._summarise(self._train_baseline())
            except NotFinite as problem:
                if problem.batch is None:
                    raise
                place = self.folder / "not_finite.pt"
                try:
                    write_tensors(place, problem.batch)
                except OSError:
                    raise NotFinite(f"{problem}; its batch could not be saved in {place}", problem.batch) from None
                raise NotFinite(f"{problem}; its batch is in {place}", problem.batch) from None
            except FileNotFoundError as problem:
                if problem.filename is None or not Path(problem.filename).is_relative_to(self.folder):
                    raise
                raise OSError(
                    f"{problem.filename} was removed while the run was writing; the same command goes on from the last "
                    "checkpoint that is there, or begins anew"
                ) from None
            except (MemoryError, RuntimeError) as problem:
                if not is_out_of_memory(problem):
                    raise
                raise OSError(
                    "there is not enough memory; with fewer agent.num_envs, a smaller agent.batch_size or "
                    "agent.replay_capacity a new run needs less; the same command goes on from the last checkpoint"
                ) from None
            self.place.checkpoints.remove()
        return summary

    def _say(self, text: str) -> None:
        if not self.quiet:
            say(text)

    def _open(self) -> bool:
        """Take up the newest checkpoint, if there is one; whether there was."""
        saved, messages = self.place.checkpoints.load() if self.agent.resumable else (None, [])
        for message in messages:
            self._say(message)
        if saved is not None:
            try:
                self.agent.load_state_dict(saved["agent"])
                self.rows, self.before, self.references = saved["rows"], saved["before"], saved["references"]
                self._best = saved.get("best")  # earlier versions had none
            except (LookupError, TypeError, AttributeError, ArithmeticError, RuntimeError) as problem:
                raise ValueError(
                    f"the checkpoint in {self.folder} is of another kind of run or of another version "
                    f"({type(problem).__name__}); choose another --name, or remove the folder to begin anew"
                ) from None
            self._write_rows()  # evaluations after the checkpoint are made again
            self._say(f"continuing {self.folder} from its checkpoint at {self.agent.num_steps:,} steps")
            return True
        (self.folder / RESULTS).unlink(missing_ok=True)
        held_out = dataclasses.replace(self.config.env, split="valid")
        if self.config.continues is not None:
            self._go_on_from(self.config.continues)
        too_few = self.config.agent.too_few_steps(self.config.total_steps) if self.config.algorithm == "dqn" else ""
        for message in [*notices(self.config.env), *self.agent.messages(), too_few]:
            if message:
                self._say(message)
        self.references = reference_returns(
            World.of(self.config.env), held_out, self.config.evaluation_episodes, self.config.seed
        )
        self.before = self._samples()
        return False

    def _go_on_from(self, folder: str) -> None:
        """Begin with the weights of a finished run, at the step where it ended."""
        config, agent = self.config, self.agent
        begin_where_it_ended(agent, config)
        rate = config.agent.learning_rate
        self._say(
            f"going on with {folder} from step {agent.num_steps:,} to {config.total_steps:,}; the optimiser and the "
            f"replay begin anew; the learning rate is {rate(agent.progress):g} and ends at {rate.end:g} "
            "(--agent.learning_rate changes it)"
        )

    def _learn(self, resumed: bool) -> None:
        config, agent = self.config, self.agent
        share = 1.0 / max(1, config.evaluations)
        due = share * (int(agent.progress / share + 1e-6) + 1) if self.rows else 0.0
        board = Board(self.folder / "tensorboard")
        with progress_line(self.quiet, total=config.total_steps, initial=agent.num_steps, unit="step") as bar:

            def after_step(_: Any) -> bool:
                nonlocal due
                bar.update(min(agent.num_steps, config.total_steps) - bar.n)
                if agent.progress >= due - 1e-9:
                    due += share
                    row = self._evaluate(board)
                    bar.set_postfix_str(_postfix(row), refresh=True)
                    self._checkpoint()
                elif time.monotonic() - self._saved_at >= config.checkpoint_seconds:
                    self._checkpoint()
                self._stop_if_asked()
                tell(self.ranks, Word.GO_ON)
                return True

            if not self.rows:
                self._evaluate(board)
                self._checkpoint()
                due = share * (int(agent.progress / share + 1e-6) + 1)
            tell(self.ranks, Word.GO_ON)
            resume = resumed or config.continues is not None
            agent.train(config.total_steps, after_step, resume=resume, max_seconds=config.max_seconds)
            if self.rows[-1]["num_steps"] < agent.num_steps:
                self._evaluate(board)
                self._checkpoint()

    def _stop_if_asked(self) -> None:
        if self._interruption.number is not None:
            self._checkpoint()
            tell(self.ranks, Word.END)
            message = "interrupted; the same command goes on from here"
            raise Interrupted(self._interruption.number, message if self.agent.resumable else "interrupted")

    def _evaluate(self, board: Board) -> dict[str, Any]:
        row = finite(self._figures())
        self.rows.append(row)
        self.place.keep()
        self._write_rows()
        if self._best_row == len(self.rows) - 1:
            self.agent.save(self.folder / BEST)
            self._best = self.agent.weights()
        board.add(row, self.agent.num_steps)
        self._track(row, self.agent.num_steps)
        return dict(row)

    @property
    def _best_row(self) -> int:
        return best_row(self.rows, self.config.env, self._objective)

    @property
    def _objective(self) -> float:
        return objective_of(self.config, self.agent)

    def _take_best(self) -> dict[str, Any]:
        """Take the weights of the best evaluation, where the agent can; what is said of it in the summary."""
        best = self.rows[self._best_row]
        if best is not self.rows[-1]:
            if self._best is None:
                best = self.rows[-1]
            else:
                self.agent.take_weights(self._best)
        return {"weights_of_step": best["num_steps"], "last_step": self.rows[-1]["num_steps"]}

    def _write_rows(self) -> None:
        # Whole: the file may have been removed, or torn by a full disk.
        write_text_atomically(self.folder / RESULTS, self._lines())
        write_text_atomically(self.folder / "results.csv", comma_separated(self.rows))

    def _lines(self) -> str:
        """The content of results.jsonl."""
        return "".join(json.dumps(row, allow_nan=False) + "\n" for row in self.rows)

    def _figures(self) -> dict[str, Any]:
        with self.agent.evaluating():
            figures = validation_figures(self.agent, self.config)
        return {**figures, **self.agent.figures()}

    def _checkpoint(self) -> None:
        self.place.keep()
        if self.agent.resumable:
            tell(self.ranks, Word.SAVE)
            # With the best weights, so that a run that goes on need not trust the folder that has them too.
            parts = {"rows": self.rows, "before": self.before, "references": self.references, "best": self._best}
            self.place.checkpoints.save({"agent": self.agent.state_dict(), **parts})
        self._saved_at = time.monotonic()

    def _train_baseline(self) -> BaseAgent | None:
        """Maximum likelihood on the same network, kept in a folder of its own; None where the run wants none."""
        if not wants_baseline(self.config):
            return None
        seconds = self.agent.learning_seconds
        baseline = train_baseline(self.config, seconds, self.baseline, self._stop_if_asked, self.quiet)
        baseline.save(self.folder / LIKELIHOOD)
        return baseline

    def _samples(self, temperature: float | None = None, agent: BaseAgent | None = None) -> list[str]:
        if not self.config.samples:
            return []
        # A task of pairs asks something; without it every text begins at its beginning.
        sources = [source for source, _ in World.of(self.config.env).pairs["valid"][: self.config.samples]]
        prompts, count = (sources, 1) if sources else ([""], self.config.samples)
        if self.config.env.form and (begun := _held_out_prompts(self.config.env, self.config.samples)):
            prompts, count = begun, 1  # what a form asks for depends on the prompt
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UnknownWords)  # held-out sources have some
            texts = (agent or self.agent).generate(prompts, count, temperature=temperature, seed=self.config.seed)
        return [f"{source} → {text}" for source, text in zip(sources, texts, strict=True)] if sources else texts

    def _summarise(self, baseline: BaseAgent | None) -> dict[str, Any]:
        agent, config = self.agent, self.config
        episodes, seed = config.evaluation_episodes, config.seed
        best = self._take_best()
        with progress_line(self.quiet, total=2, unit="part", unit_scale=False, desc="test documents") as bar:
            summary = evaluate(agent, env=config.env, split="test", episodes=episodes, seed=seed)
            bar.update()
            summary |= {**best, "baseline": baseline_figures(baseline, config)}
            bar.update()
        self.place.keep()
        agent.save(self.folder)
        samples = {"before training": self.before}
        if agent.has_temperature:
            samples[f"after training, the policy itself (temperature {agent.temperature:g})"] = self._samples()
            samples[f"after training, sharpened (temperature {SHARP:g})"] = self._samples(SHARP)
        else:
            samples["after training, the policy itself"] = self._samples()
            samples["after training, greedy"] = self._samples(0.0)[:1]
        if baseline is not None:
            samples["maximum likelihood on the same network (temperature 1)"] = self._samples(agent=baseline)
        text = "\n\n".join("\n".join([title, *texts]) for title, texts in samples.items()) + "\n"
        write_text_atomically(self.folder / "samples.txt", text)
        references = {**self.references, "trivial_regret": summary["trivial_regret"]}
        reports.plot_curves(self.rows, self.baseline, references, self.folder / "curves.png")
        reports.plot_labels(summary, self.folder)
        self._track({f"test/{name}": value for name, value in summary.items()}, self.rows[-1]["num_steps"])
        # Its digest first: what stands in the file when the run is finished is what was measured.
        text = json_text(summary)
        texts = {CONFIG: self.place.config_text, RESULTS: self._lines(), SUMMARY: text}
        write_digests(self.folder, texts=texts)
        write_text_atomically(self.folder / SUMMARY, text)
        self._say(reports.summary_text(summary, samples, self.folder))
        return summary


def _held_out_prompts(env: EnvConfig, count: int) -> list[str]:
    """The first `count` prompts of validation documents without unknown words."""
    world = World.of(env)
    documents = world.documents["valid"]
    ids = [documents[i][: documents.longest_prompt[i]].tolist() for i in range(len(documents))]
    return [world.tokenizer.decode(prompt) for prompt in ids if Vocabulary.UNK not in prompt][:count]


def train(config: RunConfig) -> None:
    """Make a run, in all the processes that torchrun started."""
    with joined(config) as group:
        if group is None or group.rank == 0:
            Run(config).train()
        else:
            follow(config, group)


def load_run(
    folder: str | Path, device: str = "auto", with_env: bool = True, trust: bool = False
) -> tuple[Any, RunConfig]:
    """The trained agent of a run folder and the configuration it was trained with.

    Args:
        folder: what `tokenlm train` wrote.
        device: "auto", "cpu", "cuda" or "mps".
        with_env: make its environment too; False for an agent of ours that only predicts and generates.
        trust: import code that the folder names, and read files that were changed since they were saved.

    Raises FileNotFoundError where this is no run folder, ValueError for damaged files and, without `trust`, for names
    of code.
    """
    folder = Path(folder)
    path = folder / CONFIG
    if not path.exists():
        raise FileNotFoundError(f"{folder} is no run folder (no config.yaml); give one that `tokenlm train` wrote")
    values = read_mapping(path)
    if not trust and not is_format_1(values.get("agent") or {}):
        check_digests(folder, [CONFIG])
    config = run_config_of(values, str(path), trust)
    ours = config.algorithm == "dqn"
    env = config.env if with_env or not ours else None
    if env is not None:
        for name, value in named_files(env).items():  # a stranger's run may name any file
            note(f"reading {value!r}, which {str(path)!r} names as env.{name}")
    return load(config.algorithm, folder, env, device, config.agent if ours else None, trust), config


def _postfix(row: dict[str, Any]) -> str:
    found = {name: row[name] for name in ("sampled_return", "perplexity", "target_perplexity")}
    shown = {name: "-" if value is None else f"{value:.1f}" for name, value in found.items()}
    parts = [
        f"return {shown['sampled_return']}",
        f"perplexity {shown['perplexity']} (p* {shown['target_perplexity']})" if row["perplexity"] else "",
        f"{row['transitions_per_second'] / 1000:.0f}k transitions/s" if "transitions_per_second" in row else "",
    ]
    return ", ".join(p for p in parts if p)
