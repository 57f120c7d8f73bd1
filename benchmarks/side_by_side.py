"""Trainings side by side: transitions a second of each when one, two or three run, by how idle threads wait.

    python benchmarks/side_by_side.py [--seconds 12] [--json FILE]

Every training is the quickstart's learner in a process of its own, with as many threads as torch chooses. They start
together; a rate is that of one training. Run it on an otherwise idle machine: the load before is recorded.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from tqdm import tqdm

from record import print_table, write_result

WAITS: dict[str, dict[str, str]] = {
    "OpenMP's default": {"GOMP_SPINCOUNT": "300000"},
    "500 spins": {"GOMP_SPINCOUNT": "500"},
    "1,000 spins": {"GOMP_SPINCOUNT": "1000"},
    "2,000 spins": {"GOMP_SPINCOUNT": "2000"},
    "5,000 spins": {"GOMP_SPINCOUNT": "5000"},
    "passive": {"OMP_WAIT_POLICY": "PASSIVE"},
}
TRAINING = """
import sys, time
from tokenlm.agents import DQN
from tokenlm.parsing import parse_run
begin, seconds = float(sys.argv[1]), float(sys.argv[2])
config = parse_run(["quickstart"])
agent = DQN(config.env, config.agent)
agent.learn(2_000)
time.sleep(max(0.0, begin - time.time()))
before, began = agent.transitions_trained, time.perf_counter()
agent.learn(10**9, lambda _: time.perf_counter() - began < seconds)
print((agent.transitions_trained - before) / (time.perf_counter() - began))
"""


def rates(count: int, wait: dict[str, str], seconds: float, warm_up: float) -> list[float]:
    """Transitions a second of each of `count` trainings that run together."""
    begin = str(time.time() + warm_up)
    names = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "OMP_NUM_THREADS")
    env = {**{k: v for k, v in os.environ.items() if k not in names}, **wait}
    words = [sys.executable, "-c", TRAINING, begin, str(seconds)]
    running = [subprocess.Popen(words, env=env, stdout=subprocess.PIPE, text=True) for _ in range(count)]
    return [float(process.communicate()[0]) for process in running]


def main() -> None:
    """Measure every way to wait, alone and beside others."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--json", type=Path, default=Path(__file__).parent / "results" / "side_by_side.json")
    parser.add_argument("--seconds", type=float, default=12.0, help="of each measurement")
    parser.add_argument("--warm-up", type=float, default=25.0, help="seconds until all processes are ready")
    chosen = parser.parse_args()
    load = os.getloadavg()[0]
    rows: list[dict[str, Any]] = []
    for name, wait in tqdm(WAITS.items()):
        found = {n: statistics.mean(rates(n, wait, chosen.seconds, chosen.warm_up * n)) for n in (1, 2, 3)}
        rows.append(
            {
                "idle threads": name,
                "alone": round(found[1]),
                "two, each": round(found[2]),
                "three, each": round(found[3]),
                "two / alone": round(found[2] / found[1], 2),
                "three / alone": round(found[3] / found[1], 2),
            }
        )
    for row in rows:
        row["alone / default"] = round(row["alone"] / rows[0]["alone"], 2)
    write_result(chosen.json, rows, seed=0, seconds=chosen.seconds, load_before=load)
    print_table(rows)


if __name__ == "__main__":
    main()
