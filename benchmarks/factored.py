"""`TokenLM-Factored-v0`, or its sparse twin: what references and learners reach, on racing worlds.

    python benchmarks/factored.py [--id ID] [--seeds 0 1 2 3 4] [--steps 100000] [--learners NAME …] [--processes 2]
                                  [--json FILE]

World s has `target_seed` s. Returns are those of greedy texts on 256 prompts of the split "test", nats a text; what is
known of p* is exact on the same prompts. The score is 0 for the best trivial policy, which is the same text for all
prompts, and 1 for the optimum. Learners have their own defaults, one thread and one seed a world. "corpus"
trains on 500,000 tokens of the documents first, maximum likelihood on at least as many, eight for each step of the
others.
"""

from __future__ import annotations

import argparse
import dataclasses
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tokenlm.agents.evaluation.playing import play, started
from tokenlm.agents.evaluation.scores import Scale
from tokenlm.agents.protocol import BaseAgent
from tokenlm.agents.runs.algorithms import make
from tokenlm.envs import EnvConfig, Oracle, World, env_config_from

from measuring import in_pool
from record import merged, print_table, write_result

HERE = Path(__file__).parent
EPISODES = 256
IDS = {"TokenLM-Factored-v0": "factored.json", "TokenLM-Factored-Sparse-v0": "factored_sparse.json"}
LIKELIHOOD = "maximum likelihood"
PRETRAINED = 500_000  # tokens of the documents
RATIO = 8  # of maximum likelihood
LEARNERS: dict[str, tuple[str, dict[str, Any]]] = {
    "table with optimism and planning": ("table", {}),
    "GRPO": ("grpo", {}),
    LIKELIHOOD: ("maximum-likelihood", {"replay_ratio": float(RATIO)}),
    "ours, soft Q, defaults": ("dqn", {}),
    "reward model with planning": ("reward-model", {}),
    "reward model with planning, corpus": ("reward-model", {"pretrain": PRETRAINED}),
}


class Measured:
    """One world, and rows of what policies reach in it."""

    def __init__(self, config: EnvConfig, seed: int) -> None:
        self.config = dataclasses.replace(config, target_seed=seed)
        self.world, self.seed = World.of(self.config), seed
        self.played = dataclasses.replace(self.config, split="test")
        self.prompts = started(self.world, self.played, EPISODES, 0).observe()
        self.scale = Scale.of(self.world, self.played, self.prompts)

    def row(self, name: str, reached: float, seconds: float | None = None, steps: int | None = None) -> dict[str, Any]:
        """A row of results; `constants` is the score where the best constant or unigram policy is 0."""
        others = max(value for policy, value in self.scale.trivial.items() if policy != "same_text")
        optimal = self.scale.optimal or 0.0
        return {
            "policy": name, "world": self.seed, "return": reached,
            "score": self.scale.score(self.scale.regret(reached)), "constants": (reached - others) / (optimal - others),
            "seconds": seconds, "env_steps": steps,
        }  # fmt: skip

    def references(self) -> list[dict[str, Any]]:
        """Rows of what does not learn."""
        rows = [self.row(name, value) for name, value in self.scale.trivial.items()]
        oracle = Oracle.of(self.world, self.config)
        rows.append(self.row("p_star", float(oracle.expected_return("target", self.prompts).mean())))
        rows.append(self.row("greedy", self._greedy("target")))
        rows.append(self.row("beam_10", self._greedy(make("beam", self.config, 0, beams=10))))
        texts = play(make("oracle", self.config, 0), self.world, self.played, EPISODES, 0, 0.0).written
        best = self.row("optimum", self.scale.optimal or 0.0)
        return [*rows, {**best, "distinct_tokens": float(np.mean([len(set(text)) for text in texts]))}]

    def learner(self, name: str, steps: int) -> dict[str, Any]:
        """The row of a learner after `steps` environment steps."""
        algorithm, settings = LEARNERS[name]
        began = time.process_time()
        agent = make(algorithm, self.config, self.seed, device="cpu", **settings)
        agent.train(likelihood_tokens(steps) // RATIO if name == LIKELIHOOD else steps)
        return self.row(name, self._greedy(agent), time.process_time() - began, agent.env_steps)

    def _greedy(self, agent: BaseAgent | str) -> float:
        return float(play(agent, self.world, self.played, EPISODES, 0, 0.0).returns.mean())


def likelihood_tokens(steps: int) -> int:
    """How many tokens of the documents maximum likelihood trains on."""
    return max(RATIO * steps, PRETRAINED)


def measured(job: tuple[str, int, int, str | None]) -> list[dict[str, Any]]:
    """Rows of one world: of a learner after some steps, or of the references where none is named."""
    name, seed, steps, learner = job
    torch.set_num_threads(1)
    world = Measured(env_config_from(name), seed)
    found = world.references() if learner is None else [world.learner(learner, steps)]
    print_table([{name: row[name] for name in ("policy", "world", "return", "score")} for row in found])
    return found


def main() -> None:
    """Measure, print and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--id", choices=list(IDS), default="TokenLM-Factored-v0")
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(5)))
    parser.add_argument("--steps", type=int, default=100_000)
    parser.add_argument("--learners", nargs="*", default=list(LEARNERS), choices=list(LEARNERS), metavar="NAME")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--json", type=Path, help="factored.json, or factored_sparse.json of the twin")
    chosen = parser.parse_args()
    chosen.json = chosen.json or HERE / "results" / IDS[chosen.id]
    names = (*reversed(chosen.learners), None)
    jobs = [(chosen.id, seed, chosen.steps, name) for name in names for seed in chosen.seeds]
    found, others = in_pool(measured, jobs, chosen.processes)  # the longest first: the reward model
    rows = merged(chosen.json, [row for rows in found for row in rows], "world", LEARNERS)
    settings = {"threads": 1, "processes": chosen.processes, "others_cores": others}
    documents = {"pretrained": PRETRAINED, "likelihood_tokens": likelihood_tokens(chosen.steps)}
    write_result(chosen.json, rows, id=chosen.id, steps=chosen.steps, **documents, episodes=EPISODES, **settings)


if __name__ == "__main__":
    main()
