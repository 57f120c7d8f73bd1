"""The shipped configurations for pairs beside variants of them, in equal time on real data.

    python benchmarks/pair_defaults.py --data-dir FOLDER [--data NAME …] [--variants NAME …] [--json FILE]

FOLDER has tatoeba-en-zh, chat-zh, thucnews and hotel, each with train, valid and test pairs. A variant changes the
words beside its name. The time counts all learning, maximum likelihood at the beginning too, but no evaluation. Every
run has one thread; two run at a time. Test figures are those of the weights with the best validation figure. Rows that
are not measured anew stay as they are in the file.
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path
from typing import Any

import torch

from in_time import learn_in_time
from measuring import in_pool
from record import print_table, rows_before, write_result

CHECKS = tuple(share / 8 for share in range(1, 9))
VALIDATED = 500  # pairs; files may be sorted, the splits here are not
LIKELIHOOD = "maximum likelihood alone"
JOINT, NEVER = "--agent.network.name=lstm", "--agent.pretrain=0"
DATA: dict[str, dict[str, Any]] = {
    "tatoeba-en-zh": {
        "configuration": "translation", "figure": "chrf", "words": ["--env.min_count=2"],
        "variants": {
            "as shipped": [], "without likelihood first": [NEVER], "one network for both sides": [JOINT],
            LIKELIHOOD: [NEVER],
        },
    },
    "chat-zh": {
        "configuration": "qa", "figure": "token_f1", "words": [],
        "variants": {
            "as shipped": [], "without likelihood first": [NEVER], "one network for both sides": [JOINT],
            "one network, without likelihood first": [JOINT, NEVER], LIKELIHOOD: [NEVER],
        },
    },
    "thucnews": {
        "configuration": "classification", "figure": "accuracy", "words": ["--env.tokenizer=char"],
        "variants": {"as shipped": [], "without likelihood first": [NEVER], LIKELIHOOD: [NEVER]},
    },
    "hotel": {
        "configuration": "classification", "figure": "accuracy",
        "words": ["--env.tokenizer=char", "--env.context_length=128"],
        "variants": {"as shipped": [], "without likelihood first": [NEVER], LIKELIHOOD: [NEVER]},
    },
}  # fmt: skip


def train(job: tuple[str, str, int, dict[str, Any]]) -> float:
    """Train one variant with one seed; its figure on the test pairs."""
    data, variant, seed, chosen = job
    torch.set_num_threads(1)
    from tokenlm.agents import DQN, MaximumLikelihood
    from tokenlm.agents.evaluation.tasks import task_figures
    from tokenlm.envs import World
    from tokenlm.parsing import parse_run

    given = DATA[data]
    words = given["words"] + given["variants"][variant]
    config = parse_run([given["configuration"], f"--env.corpus={chosen['data_dir'] / data}", *words])
    world = World.of(config.env)

    def figure(agent: Any, split: Any = "valid", limit: int | None = VALIDATED) -> float:
        return float(task_figures(agent, world, config.env, split, limit, 0)[given["figure"]])

    agent = (MaximumLikelihood if variant == LIKELIHOOD else DQN)(config.env, config.agent, seed=seed, device="cpu")
    curve = learn_in_time(agent, chosen["seconds"], CHECKS, figure)
    found = figure(agent, "test", 1_000)
    print(data, variant, seed, [round(value, 3) for value in curve], round(found, 3), flush=True)
    return found


def main() -> None:
    """Train all variants, print and write what they reach."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--data", nargs="+", default=list(DATA), choices=list(DATA))
    parser.add_argument("--variants", nargs="+", help="of those in DATA; all if left out")
    parser.add_argument("--seconds", type=float, default=40.0, help="of learning, each")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--json", type=Path, default=Path(__file__).parent / "results" / "pair_defaults.json")
    chosen = parser.parse_args()
    settings = {"seconds": chosen.seconds, "data_dir": chosen.data_dir}
    jobs = [
        (data, variant, seed, settings)
        for data in chosen.data
        for seed in range(chosen.seeds)
        for variant in DATA[data]["variants"]
        if chosen.variants is None or variant in chosen.variants
    ]
    found, others = in_pool(train, jobs, chosen.processes)
    before = rows_before(chosen.json)
    rows = []
    for data in DATA:
        for variant, words in DATA[data]["variants"].items():
            own = [value for job, value in zip(jobs, found, strict=True) if job[:2] == (data, variant)]
            if not own:
                rows += [row for row in before if (row["data"], row["variant"]) == (data, variant)]
                continue
            shown = {"data": data, "configuration": DATA[data]["configuration"], "figure": DATA[data]["figure"]}
            rows.append({**shown, "variant": variant, "words": " ".join(words)})
            rows[-1].update(test=statistics.fmean(own), runs=own)
    write_result(chosen.json, rows, seed=list(range(chosen.seeds)), seconds=chosen.seconds, others_cores=others)
    print_table([{name: value for name, value in row.items() if name != "runs"} for row in rows])


if __name__ == "__main__":
    main()
