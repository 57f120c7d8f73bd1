"""What one setting changes: perplexity and KL of the quickstart with one setting at a time too low or too high.

    python benchmarks/tuning.py [--seconds 15] [--processes 2] [--json FILE]

One thread and one seed each. The time is that of learning; rows say what was changed.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch

from measuring import in_pool
from record import print_table, write_result

SWEEPS: dict[str, tuple[float, ...]] = {
    "learning_rate": (1e-3, 4e-3, 8e-3, 3e-2),
    "epsilon": (0.0, 0.1, 0.5),
    "corpus_share": (0.3, 0.7, 1.0),
    "replay_ratio": (2.0, 8.0, 32.0),
    "target_update_rate": (0.02, 1.0),
    "batch_size": (8, 32, 128),
    "huber_delta": (0.05, 0.2, 1.0, 1e6),
}
EPISODES = 128


def train(job: tuple[str, float, float]) -> dict[str, Any]:
    """Train the quickstart with one setting changed."""
    name, value, seconds = job
    torch.set_num_threads(1)
    from tokenlm.agents import DQN, Schedule, play, score_text
    from tokenlm.envs import World
    from tokenlm.parsing import parse_run

    config = parse_run(["quickstart"])
    chosen: Any = Schedule(value, 1e-4) if name == "learning_rate" else value
    agent = DQN(config.env, config.agent, device="cpu", **{name: chosen})
    agent.learn(1 << 62, lambda _: True, max_seconds=seconds)
    score = score_text(agent, "valid", 200)
    kl = play(agent, World.of(config.env), config.env, EPISODES, 0, 1.0).kl.mean()
    return {
        "setting": name, "value": value, "perplexity": score.perplexity, "KL(π ‖ p*), nats a text": float(kl),
        "transitions": agent.transitions_trained,
    }  # fmt: skip


def main() -> None:
    """Run all sweeps and write down the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seconds", type=float, default=15.0, help="of learning, each")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--json", type=Path, default=Path(__file__).parent / "results" / "tuning.json")
    chosen = parser.parse_args()
    jobs = [(name, value, chosen.seconds) for name, values in SWEEPS.items() for value in values]
    rows, others = in_pool(train, jobs, chosen.processes)
    caption = (
        f"Held-out perplexity and KL after {chosen.seconds:g} s of one thread, one seed; the same settings differ by "
        "up to a tenth from row to row"
    )
    write_result(chosen.json, rows, seed=0, seconds=chosen.seconds, others_cores=others, caption=caption)
    print_table(rows)


if __name__ == "__main__":
    main()
