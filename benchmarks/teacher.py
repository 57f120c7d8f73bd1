"""What policies lack of the optimum of `TokenLM-Teacher-v0` at temperature 1, after equal environment steps.

    python benchmarks/teacher.py [--seeds 0 1 2 3 4] [--steps 100000] [--learners NAME …] [--processes 2] [--json FILE]

The regret is KL(π ‖ p*) over whole texts of 64 words, estimated from 256 sampled texts with its interval; p* has 0. The
score 0 is that of the best trivial policy. Table and TD take `--steps` environment steps, and TD trains on eight
transitions for each. Maximum likelihood trains on as many, from 1,000 texts of p*; TD with the corpus has half of its
own from there. Networks are equal. Seeds are those of the teacher; one thread.
"""

from __future__ import annotations

import argparse
import dataclasses
import time
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch

from tokenlm.agents import DQN, MaximumLikelihood
from tokenlm.agents.baselines.table import Table
from tokenlm.agents.evaluation import play
from tokenlm.agents.evaluation.playing import started
from tokenlm.agents.evaluation.scores import Scale, interval
from tokenlm.envs import EnvConfig, Vocabulary, World

from measuring import in_pool
from record import merged, write_result

ID = "TokenLM-Teacher-v0"
EPISODES = 256
_LEAST = -60.0  # nats; invalid words have -inf
LEARNER: dict[str, Any] = {
    "network": {"embedding_size": 64, "hidden_size": 128, "skip": True},
    "learning_rate": {"start": 4e-3, "end": 1e-4},
    "replay_ratio": 8.0,
    "batch_size": 8,
    "device": "cpu",
}
TD: dict[str, Any] = {**LEARNER, "temperature": 1.0, "target_update_rate": 1.0}
# The optimum is the same for every discount here; with 1 the errors of 64 steps add up, and nothing was learned.
ALONE: dict[str, Any] = {
    "corpus_share": 0.0,
    "gamma": 0.0,
    "epsilon": 0.0,
    "learning_rate": {"start": 1e-2, "end": 1e-4},
}


def learners(config: EnvConfig, seed: int) -> dict[str, Any]:
    """What is trained, by name."""
    late = dataclasses.replace(config, reward_every=0)
    return {
        "a table of token pairs, with optimism": lambda: Table(config, temperature=1.0, num_envs=64, seed=seed),
        "maximum likelihood": lambda: MaximumLikelihood(config, seed=seed, **LEARNER),
        "TD, from rewards alone, γ = 0": lambda: DQN(config, seed=seed, **{**TD, **ALONE}),
        "TD, half of it texts of p*": lambda: DQN(config, seed=seed, **TD, corpus_share=0.5),
        "TD, half of it texts of p*, reward at the end": lambda: DQN(late, seed=seed, **TD, corpus_share=0.5),
    }


class LastWord:
    """The best that the last word alone can tell, from p* itself: exp of the mean log p* after it, normalised.

    Of all policies that look at the last word only it has the least KL(π ‖ p*) over the texts of p*.

    Args:
        world: of the teacher; its training texts are the contexts.
    """

    env_steps = 0

    def __init__(self, world: World) -> None:
        documents = world.documents["train"]
        texts = np.stack([np.append(Vocabulary.BOS, documents[i])[:-1] for i in range(len(documents))])
        sums, counts = np.zeros((world.vocab_size,) * 2), np.zeros(world.vocab_size)
        memory = world.target.recurrent.memory(len(texts), texts)
        memory.begin(np.arange(len(texts)), texts[:, :1])
        for place in range(texts.shape[1]):
            np.add.at(sums, texts[:, place], np.maximum(memory.log_probs, _LEAST))
            np.add.at(counts, texts[:, place], 1.0)
            if place + 1 < texts.shape[1]:
                memory.advance(texts[:, place + 1], np.ones(len(texts), np.bool_))
        every = sums.sum(0) / counts.sum()  # one observation of the whole beside those after the word
        table = (sums + every) / (counts + 1.0)[:, None]
        table -= table.max(1, keepdims=True)
        self.table = np.where(world.valid, table - np.log(np.exp(table) @ world.valid)[:, None], -np.inf)

    def log_probs(self, observation: Any, action_masks: Any = None) -> Any:
        """(B, V) log π after the observations (B, L)."""
        return self.table[np.asarray(observation)[:, -1]]

    def predict(self, *_: Any, **__: Any) -> Any:
        """Not needed: it is only evaluated."""
        raise NotImplementedError

    def learn(self, total_steps: int, callback: Any = None) -> LastWord:
        """Nothing is left to learn."""
        return self


class Measured:
    """One teacher, and rows of what policies lack in it."""

    def __init__(self, seed: int) -> None:
        self.config: EnvConfig = gym.make(ID, target_seed=seed).unwrapped.config  # type: ignore[attr-defined]
        self.world, self.seed = World.of(self.config), seed
        self.scale = Scale.of(self.world, self.config, started(self.world, self.config, EPISODES, 0).observe(), 1.0)

    def row(
        self, policy: str, regrets: Any, known: list[float] | None = None, agent: Any = None, seconds: float = 0.0
    ) -> dict[str, Any]:
        """A row from the regrets of texts; `known` is its interval where there is one regret, exact or not."""
        values = np.asarray(regrets, np.float64)
        regret = float(values.mean())
        row = {
            "seed": self.seed,
            "policy": policy,
            "regret": regret,
            "regret_ci": interval(values) if values.size > 1 else known or [regret, regret],
            "score": self.scale.score(regret),
            "env steps": 0 if agent is None else agent.env_steps,
            "transitions": 0 if agent is None else agent.transitions_trained or 0,
            "seconds": round(seconds, 1),
        }
        print(row, flush=True)
        return row

    def regrets(self, policy: Any) -> Any:
        """(EPISODES,) regrets of sampled texts, in nats."""
        return play(policy, self.world, self.config, EPISODES, 0, 1.0, objective=1.0).regret

    def greedy_regret(self) -> float:
        """Regret of always writing the likeliest next word: a policy with one text, whose KL is its surprise."""
        return -float(play("target", self.world, self.config, 1, 0, 0.0).returns[0])

    def references(self) -> list[dict[str, Any]]:
        """Rows of what does not learn."""
        rows = []
        for name, value in self.scale.trivial.items():
            low_high = self.scale.trivial_ci.get(name)
            rows.append(self.row(name, [-value], low_high and [-bound for bound in reversed(low_high)]))
        told: dict[str, Any] = {"the best table of last words, told p*": LastWord(self.world), "p* sampled": "target"}
        return [
            *rows,
            self.row("greedy under p*", [self.greedy_regret()]),
            *(self.row(name, self.regrets(policy)) for name, policy in told.items()),
        ]

    def learner(self, name: str, steps: int) -> dict[str, Any]:
        """The row of a learner after `steps` environment steps."""
        agent, began = learners(self.config, self.seed)[name](), time.process_time()
        agent.learn(steps)
        seconds = time.process_time() - began
        return self.row(name, self.regrets(agent), agent=agent, seconds=seconds)


def measured(job: tuple[int, int, str | None]) -> list[dict[str, Any]]:
    """Rows of one teacher: of a learner after some steps, or of the references where none is named."""
    seed, steps, learner = job
    torch.set_num_threads(1)
    teacher = Measured(seed)
    return teacher.references() if learner is None else [teacher.learner(learner, steps)]


def main() -> None:
    """Measure every teacher and write down what was reached."""
    names = list(learners(EnvConfig(), 0))
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(5)))
    parser.add_argument("--steps", type=int, default=100_000)
    parser.add_argument("--learners", nargs="*", default=names, choices=names, metavar="NAME")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--json", type=Path, default=Path(__file__).parent / "results" / "teacher.json")
    chosen = parser.parse_args()
    jobs = [(seed, chosen.steps, name) for seed in chosen.seeds for name in (None, *chosen.learners)]
    found, others = in_pool(measured, jobs, chosen.processes)
    settings = {"threads": 1, "processes": chosen.processes, "others_cores": others}
    rows = merged(chosen.json, [row for rows in found for row in rows], "seed", names)
    write_result(
        chosen.json,
        rows,
        seed=list(dict.fromkeys(row["seed"] for row in rows)),
        steps=chosen.steps,
        episodes=EPISODES,
        **settings,
    )


if __name__ == "__main__":
    main()
