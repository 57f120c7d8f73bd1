"""Score on `TokenLM-Markov-v0` against wall-clock time, with and without a corpus.

    python benchmarks/markov.py [--seeds 3] [--processes 2] [--json FILE]

There are four separate classes: dense reward or reward at the end, with the corpus (half of every batch are texts
sampled from p*) or from rewards alone. Then ablations from rewards alone, 80 seconds each; "nothing" is the run without
ablation. Every run has one thread, and `processes` of them run in parallel. The score is that of the greedy text: 0 for
the best trivial policy, 1 for the optimum.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from measuring import in_pool
from record import print_table, write_result

CLASSES: dict[str, dict[str, Any]] = {
    "dense, with the corpus": {"seconds": 45, "corpus_share": 0.5},
    "dense, rewards alone": {"seconds": 120, "corpus_share": 0.0},
    "reward at the end, with the corpus": {"seconds": 120, "corpus_share": 0.5, "redistribute": True},
    "reward at the end, rewards alone": {"seconds": 200, "corpus_share": 0.0, "redistribute": True},
}
FULL = "dense, rewards alone"
ABLATION_SECONDS = 80
ABLATIONS: dict[str, dict[str, Any]] = {
    "nothing": {},
    "uniform exploration": {"exploration": "uniform"},
    "no exploration beyond Boltzmann": {"epsilon": 0.0},
    "no skip from the newest token": {"network": {"skip": False}},
    "noisy heads instead of ε": {"network": {"noisy": True}, "epsilon": 0.0},
    "single head": {"dueling": False},
    "plain dqn (τ = 0, uniform ε)": {
        "loss": "dqn",
        "temperature": 0.0,
        "exploration": "uniform",
        "network": {"skip": False},
        "dueling": False,
    },
}
CHECKS = 15


def train(job: tuple[str, str | None, int]) -> dict[str, Any]:
    """One run; returns its curve of scores over seconds."""
    name, ablation, seed = job
    torch.set_num_threads(1)
    from tokenlm.agents import DQN
    from tokenlm.agents.evaluation.playing import play, short_of_optimum, started
    from tokenlm.agents.evaluation.scores import Scale
    from tokenlm.parsing import parse_run

    settings = {**CLASSES[name], **({"seconds": ABLATION_SECONDS, **ABLATIONS[ablation]} if ablation else {})}
    seconds = settings.pop("seconds")
    run = parse_run(["markov"])
    env = dataclasses.replace(run.env, reward_every=0 if name.startswith("reward at the end") else 1)
    agent = DQN(env, run.agent, seed=seed, **settings)
    if agent.world is None:
        raise ValueError("the agent has no environment")
    world, scale = agent.world, Scale.of(agent.world, env, started(agent.world, env, 1, 0).observe())
    curve: list[tuple[float, float]] = []
    written: list[str] = []

    def check(agent: DQN) -> bool:
        if agent.progress * CHECKS >= len(curve) + 1 or agent.progress >= 1.0:
            greedy = play(agent, world, env, 1, 0, 0.0)
            score = scale.score(float(short_of_optimum(greedy, world, env)[0]))
            curve.append((round(agent.learning_seconds, 1), float("nan") if score is None else score))
            written[:] = greedy.texts
        return True

    agent.learn(1 << 62, check, max_seconds=seconds)
    tokens = written[0].split()
    row = {
        "class": name, "without": ablation or "-", "seed": seed, "score": curve[-1][1], "seconds": curve[-1][0],
        "env_steps": agent.env_steps, "distinct_tokens": len(set(tokens)), "curve": curve,
    }  # fmt: skip
    print({k: v for k, v in row.items() if k != "curve"}, flush=True)
    return row


def summary(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row for each class and ablation."""
    lines = []
    for name, ablation in dict.fromkeys((r["class"], r["without"]) for r in rows):
        group = [r for r in rows if (r["class"], r["without"]) == (name, ablation)]
        scores = [r["score"] for r in group]
        lines.append({
            "class": name, "changed": ablation, "seeds": len(group), "score, median": float(np.median(scores)),
            "lowest": min(scores), "seconds": max(r["seconds"] for r in group),
            "env steps": int(np.median([r["env_steps"] for r in group])),
            "distinct tokens": min(r["distinct_tokens"] for r in group),
        })  # fmt: skip
    return lines


def main() -> None:
    """Run all classes and ablations, print the table, write the results."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--ablation-seeds", type=int, default=1)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--classes", nargs="+", default=list(CLASSES), choices=list(CLASSES), metavar="CLASS")
    parser.add_argument("--json", type=Path, default=Path(__file__).parent / "results" / "markov.json")
    chosen = parser.parse_args()
    # The longest last, so that no process idles long at the end.
    names = sorted(chosen.classes, key=lambda name: CLASSES[name]["seconds"])
    jobs: list[tuple[str, str | None, int]] = [(name, None, seed) for name in names for seed in range(chosen.seeds)]
    if FULL in names:
        jobs += [(FULL, change, seed) for change in ABLATIONS for seed in range(chosen.ablation_seeds)]
    rows, others = in_pool(train, jobs, chosen.processes)
    if chosen.json.exists():  # keep the rows that were not run this time
        kept = json.loads(chosen.json.read_text(encoding="utf-8"))["settings"]["runs"]
        new = {(row["class"], row["without"]) for row in rows}
        rows = [*rows, *(row for row in kept if (row["class"], row["without"]) not in new)]
        rows.sort(key=lambda row: (row["without"] != "-", list(CLASSES).index(row["class"])))
    lines = summary(rows)
    write_result(chosen.json, lines, runs=rows, threads=1, processes=chosen.processes, others_cores=others)
    # The classes are not comparable, so each has its own table.
    for corpus in (True, False):
        group = [line for line in lines if ("with the corpus" in line["class"]) == corpus]
        if group:
            print_table([{k: "-" if v is None else v for k, v in line.items()} for line in group])
            print()


if __name__ == "__main__":
    main()
