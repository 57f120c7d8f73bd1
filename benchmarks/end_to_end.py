"""Speed of training: environment steps per second at an equal replay ratio.

    python benchmarks/end_to_end.py [--vocab-sizes 200 5000] [--networks lstm] [--json FILE]

All have the same environment, network, exploration (ε = 0.1), DQN target and replay ratio: 8 transitions trained per
environment step, the default of stable-baselines3 (an update of 32 transitions every 4 steps). stable-baselines3 runs
with one environment, with 8 in its DummyVecEnv, and with 8 and our batch size, for which it updates less often.
CleanRL's algorithm runs as in its script, with one environment. Ours is `tokenlm.DQN.learn`. The target of the
environment is a bigram model of random texts of exactly 32 tokens. Every case runs in its own process. Reports median
and quartiles over five equal parts of the time after the first updates; "trained/step" is the measured replay ratio.
"""

from __future__ import annotations

import argparse
import logging
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
import torch
from tqdm import tqdm

from tokenlm.agents import DQN
from tokenlm.envs import EnvConfig, TokenLMEnv, Vocabulary, World

from measuring import REPETITIONS, in_own_process, spread
from ours import TARGET_TRANSITIONS, Task, our_settings
from record import print_table, write_result

LENGTH, TEXTS = 32, 32
OUR_BATCH = TEXTS * LENGTH  # transitions
REPLAY_RATIO, EPSILON = 8, 0.1
REPLAY = 20_000  # capacity in transitions
RATE = "env steps/s"
WORDS_A_DOCUMENT = 40
FOR_A_GPU = "ours, 4,096 environments, batch of 1,024"
Stamp = Callable[[int, int], bool]


class Case(NamedTuple):
    """One row of the table."""

    name: str
    network: str
    vocab_size: int
    seconds: float
    device: str
    threads: int


def environment(vocab_size: int) -> EnvConfig:
    """Random texts in which every word occurs at least four times, so that few are missing from the training split."""
    words = np.tile(np.arange(vocab_size - Vocabulary.FIRST_WORD), max(4, 20_000 // vocab_size))
    np.random.default_rng(0).shuffle(words)
    documents = np.array_split(words, max(100, len(words) // WORDS_A_DOCUMENT))
    return EnvConfig(
        corpus=tuple(" ".join(f"w{word}" for word in document) for document in documents), tokenizer="word", order=2,
        ending="fixed", max_new_tokens=LENGTH, context_length=LENGTH + 1, prompt_length=(0, 0),
        invalid_action="random",
    )  # fmt: skip


class Clock:
    """Records (time, steps, transitions trained) for `seconds` seconds after the first update."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.stamps: list[tuple[float, int, int]] = []

    def __call__(self, steps: int, trained: int) -> bool:
        """Record one point; returns whether to continue."""
        if trained:
            self.stamps.append((time.perf_counter(), steps, trained))
        return not self.stamps or self.stamps[-1][0] - self.stamps[0][0] < self.seconds

    def result(self) -> dict[str, Any]:
        """Statistics of the rate over equal parts of the time, and the replay ratio over the whole time."""
        stamps = np.array(self.stamps)
        edges = np.linspace(stamps[0, 0], stamps[-1, 0], REPETITIONS + 1)
        parts = stamps[np.unique(np.searchsorted(stamps[:, 0], edges).clip(max=len(stamps) - 1))]
        gained = np.diff(parts, axis=0)
        ratio = (stamps[-1, 2] - stamps[0, 2]) / (stamps[-1, 1] - stamps[0, 1])
        return {**spread((gained[:, 1] / gained[:, 0]).tolist(), RATE), "trained/step": float(ratio)}


def run_sb3(task: Task, env: EnvConfig, stamp: Stamp, num_envs: int, batch: int) -> None:
    """stable-baselines3, with an update every `batch` / 8 environment steps."""
    from stable_baselines3.common.callbacks import BaseCallback
    from stable_baselines3.common.vec_env import DummyVecEnv

    from peers import sb3_dqn

    class StampEveryStep(BaseCallback):
        def _on_step(self) -> bool:
            return stamp(self.num_timesteps, self.model._n_updates * batch)

    vector = DummyVecEnv([lambda: TokenLMEnv(env)] * num_envs)
    between = batch // REPLAY_RATIO  # environment steps per update
    every, updates = max(1, between // num_envs), max(1, num_envs // between)
    model = sb3_dqn(
        vector, task, buffer_size=REPLAY, batch_size=batch, train_freq=every, gradient_steps=updates,
        exploration_initial_eps=EPSILON, exploration_final_eps=EPSILON, learning_starts=max(100, 2 * between),
        target_update_interval=TARGET_TRANSITIONS // REPLAY_RATIO,
    )  # fmt: skip
    model.learn(1 << 40, StampEveryStep())


def run_cleanrl(task: Task, env: EnvConfig, stamp: Stamp, batch: int = 32) -> None:
    """CleanRL's loop with one environment, with an update every `batch` / 8 steps."""
    from peers import CleanRL, cleanrl_replay

    learner = CleanRL(task, batch, cleanrl_replay(task, REPLAY))
    world: gym.Env[Any, Any] = TokenLMEnv(env)
    rng = np.random.default_rng(0)
    observation, _ = world.reset(seed=0)
    step = 0
    while stamp(step, learner.updates * batch):
        if rng.random() < EPSILON:
            action = int(world.action_space.sample())
        else:
            with torch.no_grad():
                action = int(learner.network(torch.from_numpy(observation)[None].to(task.device)).argmax(1))
        after, reward, terminated, truncated, _ = world.step(action)
        learner.replay.add(
            observation[None], after[None], np.array([action]), np.array([reward]), np.array([terminated]), [{}]
        )
        observation = world.reset()[0] if terminated or truncated else after
        step += 1
        if step > 100 and step % (batch // REPLAY_RATIO) == 0:
            learner.update(batch)


def run_ours(task: Task, env: EnvConfig, stamp: Stamp, num_envs: int, batch_size: int = TEXTS, **settings: Any) -> None:
    """`tokenlm.DQN.learn`."""
    agent = DQN(
        env, seed=0, device=task.device, epsilon=EPSILON, replay_ratio=REPLAY_RATIO, batch_size=batch_size,
        num_envs=num_envs, replay_capacity=max(REPLAY, 2 * LENGTH * num_envs),
        **our_settings(task.network, max(1, TARGET_TRANSITIONS // (batch_size * LENGTH))), **settings,
    )  # fmt: skip
    agent.learn(1 << 40, lambda agent: stamp(agent.env_steps, agent.learner.transitions_trained))


RUNS: dict[str, Callable[[Task, EnvConfig, Stamp], None]] = {
    "stable-baselines3, 1 environment": partial(run_sb3, num_envs=1, batch=32),
    "stable-baselines3, 8 environments": partial(run_sb3, num_envs=8, batch=32),
    "stable-baselines3, 8 environments, our batch": partial(run_sb3, num_envs=8, batch=OUR_BATCH),
    "CleanRL's algorithm, 1 environment": run_cleanrl,
    "ours, 64 environments": partial(run_ours, num_envs=64),
    "ours, 256 environments, sparse Adam": partial(run_ours, num_envs=256, precision="auto", optimizer="sparse_adam"),
    FOR_A_GPU: partial(run_ours, num_envs=4_096, batch_size=1_024, precision="auto"),
}
ON_A_CPU = [name for name in RUNS if name != FOR_A_GPU]
SB3_ROWS = [name for name in RUNS if name.startswith("stable-baselines3")]


def measure(case: Case) -> dict[str, Any]:
    """Measure the rate of one case."""
    torch.set_num_threads(case.threads)
    torch.manual_seed(0)
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")  # other libraries' own deprecations
    env = environment(case.vocab_size)
    vocab_size = World.of(env).vocab_size
    clock = Clock(case.seconds)
    RUNS[case.name](Task(case.network, vocab_size, LENGTH, case.device), env, clock)
    return {"V": vocab_size, **clock.result()}


def with_ratios(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Add the ratios to the rows of stable-baselines3 on the same task."""
    lines = []
    for row in rows:
        line = dict(row)
        note = line.pop("note")
        for name in SB3_ROWS:
            other = next((r for r in rows if r["learner"] == name and _task(r) == _task(row)), None)
            known = other is not None and row[RATE] and other[RATE]
            line["× " + name.replace("stable-baselines3", "SB3")] = row[RATE] / other[RATE] if known and other else None
        lines.append({**line, "note": note})
    return lines


def _task(row: dict[str, Any]) -> tuple[Any, Any]:
    return row["network"], row["asked V"]


def row_of(case: Case, result: dict[str, Any]) -> dict[str, Any]:
    """A row of the table, without ratios."""
    columns = ("V", RATE, "25 %", "75 %", "repetitions", "trained/step", "note")
    row = {"network": case.network, "asked V": case.vocab_size, "learner": case.name}
    return row | {name: result.get(name) for name in columns}


def main() -> None:
    """Measure all cases."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--vocab-sizes", type=int, nargs="+", default=[200, 5_000, 50_000])
    parser.add_argument("--networks", nargs="+", default=["lstm"], choices=["lstm", "transformer"])
    parser.add_argument("--learners", nargs="+", default=ON_A_CPU, choices=list(RUNS), metavar="LEARNER")
    parser.add_argument("--seconds", type=float, default=8.0, help="of measurement for each case")
    parser.add_argument("--case-seconds", type=float, default=90.0, help="a case that takes longer is given up")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path, default=Path(__file__).parent / "results" / "end_to_end.json")
    chosen = parser.parse_args()
    began = time.perf_counter()
    measured = (chosen.seconds, chosen.device, chosen.threads)
    asked = [
        Case(name, network, vocab_size, *measured)
        for network in chosen.networks for vocab_size in chosen.vocab_sizes for name in chosen.learners
    ]  # fmt: skip
    rows = []
    progress = tqdm(asked)
    for case in progress:
        progress.set_postfix_str(f"{case.name}, {case.network}, V = {case.vocab_size:,}")
        rows.append(row_of(case, in_own_process(measure, case, chosen.case_seconds)))
    lines = with_ratios(rows)
    settings = {name: value for name, value in vars(chosen).items() if name != "json"}
    write_result(
        chosen.json, lines, **settings, seed=0, length=LENGTH, our_batch=OUR_BATCH, replay_ratio=REPLAY_RATIO,
        minutes=round((time.perf_counter() - began) / 60, 1),
    )  # fmt: skip
    print_table([{name: "-" if value is None else value for name, value in line.items()} for line in lines])


if __name__ == "__main__":
    main()
