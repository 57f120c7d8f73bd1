"""What an introductory article says of DQN for language models, measured: chapter 8 of docs/zh.

    python benchmarks/article_claims.py [--seconds 20] [--seeds 3] [--processes 2] [--json FILE]

On the built-in Chinese corpus the DQN of the quickstart and maximum likelihood, the same network, learn for the same
time: efficiency, convergence, what an update costs, and how much learning rate and ε matter. On small Markov chains,
whose texts can all be listed, the exact regret: flexibility (one corpus, three temperatures) and stability (without the
target network, without replay). Seconds are those of learning, on one thread a run. About (2·seeds + 13)·seconds +
150·seeds seconds of one core. Afterwards `python benchmarks/tables.py` and `python docs/zh/figures.py claims` write the
chapter's table and picture.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np

from measuring import in_pool
from record import print_table, write_result

RATES = (3e-4, 1e-3, 4e-3, 1e-2, 3e-2)
EPSILONS = (0.0, 0.1, 0.5)
NEAR = 1.2  # × the perplexity of p*
LOOKS = 20  # measurements of perplexity in a run
DOCUMENTS = 100
TINY_STEPS = 20_000  # environment steps on a chain; maximum likelihood makes as many updates
PARTS: dict[str, dict[str, Any]] = {
    "whole": {},
    "no target network": {"target_update_rate": 1.0},
    "no replay": {"replay_capacity": 64 * 6},  # the episodes just written
}
Job = tuple[str, str, dict[str, Any], int, float]  # kind, case, settings, seed, seconds


def measure(job: Job) -> dict[str, Any]:
    """One training run, and its figures."""
    import torch

    torch.set_num_threads(1)
    kind, case, settings, seed, seconds = job
    row = _on_text(case, settings, seed, seconds) if kind == "text" else _on_chain(case, settings, seed)
    print(f"{kind}, {case}, {settings}, seed {seed}: {row}", flush=True)
    return {"kind": kind, "case": case, "settings": settings, "seed": seed, **row}


def _on_text(case: str, settings: dict[str, Any], seed: int, seconds: float) -> dict[str, Any]:
    """Held-out perplexity of the quickstart's agent, or of maximum likelihood, against seconds of learning."""
    from tokenlm.agents import DQN, MaximumLikelihood, score_text
    from tokenlm.agents.dqn.config import AgentConfig
    from tokenlm.parsing import parse_run

    run = parse_run(["quickstart"])
    config = AgentConfig.of(run.agent, settings)
    kind = MaximumLikelihood if case == "maximum likelihood" else DQN
    agent = kind(run.env, config, seed=seed, device="cpu")
    agent.prepare()
    curve: list[tuple[float, float]] = []

    def look(present: Any) -> None:
        if present.learning_seconds >= len(curve) * seconds / LOOKS:
            score = score_text(present, split="valid", limit=DOCUMENTS)
            curve.append((round(present.learning_seconds, 2), round(float(score.perplexity or np.inf), 3)))

    agent.learn(10**9, look, max_seconds=seconds)
    score = score_text(agent, split="valid")
    near = NEAR * score.target_perplexity
    return {
        "perplexity": score.perplexity,
        "target_perplexity": score.target_perplexity,
        "seconds_to_near": next((at for at, value in curve if value <= near), None),
        "env_steps": agent.env_steps,
        "transitions_per_second": agent.transitions_trained / agent.learning_seconds,
        "milliseconds_per_update": 1_000 * agent.learning_seconds / max(1, agent.learner.updates),
        "mib": sum(agent.memory().values()) / 2**20,
        "curve": curve,
    }


def _on_chain(case: str, settings: dict[str, Any], seed: int) -> dict[str, Any]:
    """Exact soft regret on a chain of six words and texts of six."""
    from tokenlm.agents import DQN, MaximumLikelihood
    from tokenlm.agents.evaluation.exact import exact_score
    from tokenlm.envs import EnvConfig

    env = EnvConfig(
        target="markov", order=3, vocab_size=11, max_new_tokens=6, context_length=7, ending="fixed",
        prompt_length=(0, 0), target_seed=100 + seed,
    )  # fmt: skip
    settings = dict(settings)
    temperature = settings.pop("temperature")
    common: dict[str, Any] = {"network": {"embedding_size": 32, "hidden_size": 64}, "learning_starts": 0}
    if case == "maximum likelihood":
        agent: Any = MaximumLikelihood(env, seed=seed, device="cpu", **common)
    else:
        agent = DQN(env, seed=seed, device="cpu", temperature=temperature, **{**common, **settings})
    began = time.perf_counter()
    agent.learn(TINY_STEPS)
    return {
        "regret": exact_score(agent, temperature=temperature, env=env).soft_regret,
        "seconds": time.perf_counter() - began,
    }


def jobs(seconds: float, seeds: int) -> list[Job]:
    """All runs."""
    found: list[Job] = []
    for case in ("DQN", "maximum likelihood"):
        found += [("text", case, {}, seed, seconds) for seed in range(seeds)]
        found += [("text", case, {"learning_rate": rate}, 0, seconds) for rate in RATES]
    found += [("text", "DQN", {"epsilon": epsilon}, 0, seconds) for epsilon in EPSILONS]
    for seed in range(seeds):
        for temperature in (1.0, 0.5, 0.0):
            for case in ("DQN", "maximum likelihood"):
                found.append(("chain", case, {"temperature": temperature}, seed, 0.0))
        for case, part in PARTS.items():
            found.append(("chain", case, {"temperature": 0.5, "corpus_share": 0.0, **part}, seed, 0.0))
    return found


def main() -> None:
    """Train everything and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seconds", type=float, default=20.0, help="of learning, of each run on the corpus")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--json", type=Path, default=Path(__file__).parent / "results" / "article_claims.json")
    chosen = parser.parse_args()
    rows, others = in_pool(measure, jobs(chosen.seconds, chosen.seeds), chosen.processes)
    write_result(
        chosen.json, rows, seconds=chosen.seconds, seeds=list(range(chosen.seeds)), near=NEAR, chain_steps=TINY_STEPS,
        threads=1, others_cores=others,
    )  # fmt: skip
    print_table([{k: v for k, v in row.items() if k in ("kind", "case", "settings", "seed")} for row in rows])


if __name__ == "__main__":
    main()
