"""TD against maximum likelihood in equal time: held-out perplexity on Chinese and English text.

    python benchmarks/equal_time.py --data-dir FOLDER [--seconds 40] [--seeds 2] [--json FILE]

FOLDER has songci, jueju and classics, each with train, valid and test texts; "zh" and "en" are built in. Both learners
have the network, the batch and the learning rate of the configuration `text`, one thread each, two at a time. The time
counts all that is learned, the counting of frequencies too, but no evaluation. Test perplexity is that of the weights
with the best validation perplexity.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch

from in_time import learn_in_time
from measuring import in_pool
from record import print_table, write_result

CORPORA: dict[str, dict[str, Any]] = {
    "zh": {},
    "en": {},
    "classics": {"tokenizer": "char"},
    "jueju": {"tokenizer": "char"},
    "songci": {"tokenizer": "char"},
}
CHECKS = (0.15, 0.3, 0.6, 1.0)  # shares of the time


def train(job: tuple[str, str, int, dict[str, Any]]) -> dict[str, Any]:
    """Train one learner on one corpus with one seed; perplexities while it learns, and on the test documents."""
    corpus, learner, seed, chosen = job
    torch.set_num_threads(1)
    from tokenlm.agents import DQN, MaximumLikelihood, score_text
    from tokenlm.parsing import parse_run

    path = corpus if corpus in ("zh", "en") else str(chosen["data_dir"] / corpus)
    config = parse_run(["text", f"--env.corpus={path}", *(f"--env.{k}={v}" for k, v in CORPORA[corpus].items())])
    kind = MaximumLikelihood if learner == "maximum likelihood" else DQN
    agent = kind(config.env, config.agent, seed=seed, device="cpu")

    def perplexity(agent: Any) -> float:
        return score_text(agent, "valid", 300).perplexity or float("inf")

    curve = learn_in_time(agent, chosen["seconds"], CHECKS, perplexity, lower=True)
    score = score_text(agent, "test", 1_000)
    found = {
        "corpus": corpus, "learner": learner, "seed": seed, "valid": curve, "test": score.perplexity,
        "p*": score.target_perplexity, "transitions": agent.transitions_trained,
    }  # fmt: skip
    print(found, flush=True)
    return found


def main() -> None:
    """Train both learners on every corpus and write down what they reach."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--corpora", nargs="+", default=list(CORPORA))
    parser.add_argument("--seconds", type=float, default=40.0, help="of learning, each")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--json", type=Path, default=Path(__file__).parent / "results" / "equal_time.json")
    chosen = parser.parse_args()
    settings = {"seconds": chosen.seconds, "data_dir": chosen.data_dir}
    learners = ("TD", "maximum likelihood")
    jobs = [
        (corpus, learner, seed, settings)
        for corpus in chosen.corpora
        for seed in range(chosen.seeds)
        for learner in learners
    ]
    runs, others = in_pool(train, jobs, chosen.processes)
    rows = []
    for corpus in chosen.corpora:
        means = {}
        for learner in learners:
            own = [run for run in runs if run["corpus"] == corpus and run["learner"] == learner]
            curve = np.mean([run["valid"] for run in own], 0)
            means[learner] = float(np.mean([run["test"] for run in own]))
            rows.append(
                {
                    "corpus": corpus,
                    "learner": learner,
                    **{
                        f"{share * chosen.seconds:.0f} s": round(float(v), 2)
                        for share, v in zip(CHECKS, curve, strict=True)
                    },
                    "test": round(means[learner], 2),
                    "p*": round(own[0]["p*"], 2),
                }
            )
        rows[-2]["test / likelihood's"] = round(means["TD"] / means["maximum likelihood"], 3)
        rows[-1]["test / likelihood's"] = 1.0
    write_result(
        chosen.json, rows, seed=list(range(chosen.seeds)), seconds=chosen.seconds, others_cores=others, runs=runs
    )
    print_table(rows)


if __name__ == "__main__":
    main()
