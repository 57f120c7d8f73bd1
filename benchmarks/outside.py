"""Scores of other libraries' DQNs on TokenLM as it comes, by the scripts in agents/examples/outside.

    python benchmarks/outside.py [--only skrl …] [--ids TokenLM-Markov-v0 …] [--steps 64000] [--seed 0] [--json FILE]

Each needs its library. The score is that of greedy texts on 256 prompts: 0 is the best trivial policy, 1 the optimum.
One run each in the world of target seed 0, one thread; rows of what is not run again are kept.
"""

from __future__ import annotations

import argparse
import importlib
import os
import random
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from measuring import others_seconds
from record import print_table, rows_before, write_result

HERE = Path(__file__).parent
LIBRARIES = ("skrl", "agilerl", "tianshou")
IDS = ("TokenLM-Markov-v0", "TokenLM-Factored-v0")


def row(library: str, name: str, steps: int, seed: int) -> dict[str, Any]:
    """Train the script of `library` in the environment `name` and score it."""
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002  theirs
    torch.manual_seed(seed)
    train = importlib.import_module(f"tokenlm.agents.examples.outside.{library}_dqn").train
    began, clock, others = time.process_time(), time.perf_counter(), others_seconds()
    score = train(name, steps=steps)
    cores = (others_seconds() - others) / (time.perf_counter() - clock)
    return {
        "library": library, "version": version(library), "id": name, "steps": steps, "seed": seed, "score": score,
        "processor_seconds": round(time.process_time() - began, 1),
        "others_cores": round(cores, 2),
    }  # fmt: skip


def main() -> None:
    """Run what was asked for, print and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", nargs="+", choices=LIBRARIES, default=list(LIBRARIES))
    parser.add_argument("--ids", nargs="+", choices=IDS, default=list(IDS))
    parser.add_argument("--steps", type=int, default=64_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, default=HERE / "results" / "outside.json")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    chosen.json = chosen.json.absolute()
    known = {(found["library"], found["id"]): found for found in rows_before(chosen.json)}
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)  # some write logs
        for library in chosen.only:
            for name in chosen.ids:
                known[library, name] = row(library, name, chosen.steps, chosen.seed)
                print_table([known[library, name]])
        os.chdir(before)
    rows = [known[key] for key in ((library, name) for library in LIBRARIES for name in IDS) if key in known]
    del sys.argv[1:]  # the file is what a run of all would write; every row says its steps and seed
    write_result(chosen.json, rows, threads=1)


if __name__ == "__main__":
    main()
